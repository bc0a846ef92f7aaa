// What a loader does for the maps of an object that uses mapring's headers: before it loads the object, and after that.

package mapring

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

const (
	suffixFirst   = "__first" // the first map of a map of maps
	suffixReaders = "__readers"
	suffixBells   = "__bells"
)

// Prepare gives the maps that mapring's macros declared a shard for each possible CPU of this machine. Call it before the object
// is loaded. It changes no other map. It refuses programs whose license does not allow the guard that mapring's headers use on x86,
// unless they were compiled with MAPRING_NO_GUARD.
//
//	spec, err := ebpf.LoadCollectionSpec("switches.bpf.o") // or bpf2go's loadSwitches()
//	err = mapring.Prepare(spec)
//	coll, err := ebpf.NewCollection(spec)
//	err = mapring.Initialize(spec, coll.Maps)
//	ring, err := mapring.OpenRing[SwitchEvent](mapring.Map(coll.Maps["switches"]))
func Prepare(spec *ebpf.CollectionSpec) error {
	cpus, err := possibleCPUs()
	if err != nil {
		return err
	}
	if err := checkLicense(spec); err != nil {
		return err
	}
	shards := uint64(cpus[len(cpus)-1]) + 1 // numbers may have gaps, and a program uses its CPU's number
	for name, m := range spec.Maps {
		l, inner := declared(m)
		if l == nil {
			continue
		}
		value, _ := inner.Value.(*btf.Struct)
		if _, tso := innerLength(value, "mapring_tso"); tso && runtime.GOARCH != "amd64" {
			return failf(ErrUnsupported, "map %s was compiled with __TARGET_ARCH_x86, whose plain stores don't publish on this "+
				"architecture: compile it for this machine, or without __TARGET_ARCH_x86", name)
		}
		if l.isSharded() {
			l.shards = shards
			if err := l.complete(); err != nil {
				return failf(ErrUnsupported, "map %s: %v", name, err)
			}
		}
		inner.MaxEntries = uint32(l.elements)
		if m != inner && l.options.Has(PerCPUMaps) {
			m.MaxEntries = uint32(shards)
		}
	}
	if slow := spec.Variables["mapring__guard_is_slow"]; slow != nil && guardIsSlow() {
		return slow.Set(uint32(1))
	}
	return nil
}

// declared is the region that a map declares, and the spec with its values: of a map of maps, that of the maps in it. nil for
// any other map.
func declared(m *ebpf.MapSpec) (*layout, *ebpf.MapSpec) {
	if m.Type == ebpf.ArrayOfMaps {
		if m = m.InnerMap; m == nil {
			return nil, nil
		}
	}
	if m.Type != ebpf.Array && m.Type != ebpf.PerCPUArray {
		return nil, nil
	}
	return describe(m.Value), m
}

// guardIsSlow says whether the kernel protects returns in a way that makes each function call slow. This only affects speed:
// programs then claim slots by compare-and-swap.
func guardIsSlow() bool {
	for _, name := range []string{"spec_rstack_overflow", "retbleed"} {
		known, _ := os.ReadFile("/sys/devices/system/cpu/vulnerabilities/" + name)
		for _, slow := range []string{"Safe RET", "untrained return thunk", "Stuffing"} {
			if strings.Contains(string(known), slow) {
				return true
			}
		}
	}
	return false
}

// Initialize writes the preambles by which readers in any process find what is in the maps, makes the maps of a ring with
// PER_CPU_MAPS, lets programs write RESIZABLE rings, and links the maps of WAKEABLE rings. Call it after the object is loaded,
// before its programs are attached. It takes the prepared spec, and coll.Maps of the loaded ebpf.Collection. It needs CAP_BPF.
//
// To share a region with other processes, pin it then: PinRegion.
func Initialize(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) error {
	for name, m := range maps {
		declaration := spec.Maps[name]
		if declaration == nil {
			continue
		}
		l, inner := declared(declaration)
		if l == nil {
			continue
		}
		if declaration == inner {
			if err := initialize(name, m, l, inner); err != nil {
				return err
			}
		} else if l.options.Has(PerCPUMaps) {
			if err := makeEachCPU(name, m, l, inner); err != nil {
				return err
			}
		}
	}
	for name, readers := range maps {
		name, isReaders := strings.CutSuffix(name, suffixReaders)
		ring, bells := maps[name], maps[name+suffixBells]
		if first := maps[name+suffixFirst]; first != nil {
			ring = first
		}
		if isReaders && ring != nil && bells != nil {
			if err := link(name, ring, readers, bells); err != nil {
				return err
			}
		}
	}
	return nil
}

// initialize writes the preamble of a map, if it has none.
func initialize(name string, m *ebpf.Map, l *layout, declaration *ebpf.MapSpec) error {
	found, err := l.forEntries(uint64(m.MaxEntries()))
	if err != nil {
		return failf(ErrContradiction, "map %s: %v", name, err)
	}
	if cpus, err := possibleCPUs(); err != nil {
		return err
	} else if last := cpus[len(cpus)-1]; found.isSharded() && found.shards <= uint64(last) {
		return failf(ErrNotPrepared, "map %s has %s, expected %d, one for each possible CPU (0 to %d): call mapring.Prepare before the "+
			"object is loaded", name, counted(found.shards, "shard"), last+1, last)
	}
	image := preambleOf(&found, recordName(declaration.Value))
	if found.kind.isPerCPU() {
		return updateEachCopy(name, m, &found, declaration.Value, image)
	}
	count := uint64(preambleWords)
	if found.options.Has(Resizable) {
		count = found.words()
	}
	mem, err := mapWords(m.FD(), 0, count, unix.PROT_READ|unix.PROT_WRITE)
	if isErrno(err, unix.EINVAL) && m.Flags()&flagMmapable == 0 && !found.options.Has(Resizable) && !found.options.Has(Tails) {
		return updateEachCopy(name, m, &found, declaration.Value, image)
	}
	if isErrno(err, unix.EPERM) { // frozen: it has one, if the object reuses it
		if old, err := openRegion(Map(m)); err == nil {
			defer old.close()
			return reusable(name, m, &found, &old.layout, declaration.Value)
		}
	}
	if err != nil {
		return failf(ErrNotWritable, "map %s has no preamble, and writing one failed: %v; create the map without BPF_F_RDONLY, and "+
			"initialize it before it is frozen", name, err)
	}
	defer mem.unmap()
	if mem.load(wordMagic) != 0 { // a map that the object reuses
		var words [preambleWords]uint64
		mem.copy(words[:], 0)
		old, err := decodePreamble(&words)
		if err != nil {
			return failf(ErrContradiction, "map %s can't be reused: %v", name, err)
		}
		if err := reusable(name, m, &found, &old, declaration.Value); err != nil {
			return err
		}
		mem.store(wordLoader, image[wordLoader])
		return nil
	}
	for at := len(image) - 1; at >= 0; at-- { // word 0 comes last
		if at != wordDropped && at != wordLink { // programs count in the first already
			mem.store(uint64(at), image[at])
		}
	}
	if found.options.Has(Resizable) {
		for shard := range found.shards {
			element := found.slotsAt(shard) * 8 / found.size
			mem.store(found.headerAt(shard)+3, element<<32|image[wordGate])
		}
	}
	return nil
}

// reusable refuses a map that holds something else than the object declares. Fields are compared if its BTF can be read.
func reusable(name string, m *ebpf.Map, declared, old *layout, value btf.Type) error {
	const remedy = "remove its pin, so that the loader pins a new map"
	if !declared.alike(old) || declared.elements != old.elements {
		return failf(ErrContradiction, "map %s can't be reused: it holds %s, but the object declares %s; %s", name, old, declared, remedy)
	}
	info, err := infoOf(m.FD())
	if err != nil {
		return failf(ErrUnsupported, "bpf(BPF_OBJ_GET_INFO_BY_FD): %v", err)
	}
	found, isStruct := typesOf(&info).value.(*btf.Struct)
	ours, _ := value.(*btf.Struct)
	if !isStruct || ours == nil || recordOf(found) == nil || recordOf(ours) == nil {
		return nil
	}
	compared := comparison{1 << 16}
	if field, ok := compared.alike(recordOf(found), recordOf(ours), ""); !ok {
		return failf(ErrContradiction, "map %s can't be reused: its records differ from those that the object declares in the field %s; %s",
			name, printable(field), remedy)
	}
	return nil
}

func preambleOf(l *layout, name string) (image [preambleWords]uint64) {
	image = [preambleWords]uint64{magic, LayoutVersion, l.kindWord(), l.record, l.capacity, l.shards, l.size}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	image[wordGeneration] = uint64(now.Nano())
	var text [24]byte
	copy(text[:23], name)
	for i := range 3 {
		image[wordName+i] = binary.NativeEndian.Uint64(text[8*i:])
	}
	if start, _, ok := startOf("self"); ok {
		image[wordLoader] = start<<pidBits | uint64(os.Getpid())&pidMask
	}
	if l.options.Has(Resizable) {
		image[wordGate] = uint64(bits.TrailingZeros64(l.capacity))<<8 | gateOpen
	}
	return image
}

// recordName is the C name of the records, for people.
func recordName(value btf.Type) string {
	if declared, ok := value.(*btf.Struct); ok {
		if record := recordOf(declared); record != nil {
			return record.TypeName()
		}
	}
	return "u64"
}

// updateEachCopy writes the preamble by system call, to the copy of each CPU; the element with word 0 comes last.
func updateEachCopy(name string, m *ebpf.Map, l *layout, value btf.Type, image [preambleWords]uint64) error {
	if old, err := openRegion(Map(m)); err == nil {
		defer old.close()
		if a := old.access(); a.word(wordMagic) != 0 { // a map that the object reuses, which counts on in its preamble
			return reusable(name, m, l, &old.layout, value)
		}
	}
	copies := 1
	if l.kind.isPerCPU() {
		cpus, err := copiesOf(m.FD(), l.size)
		if err != nil {
			return err
		}
		copies = len(cpus)
	}
	whole := make([]uint64, l.first*l.size/8)
	copy(whole, image[:])
	words := l.size / 8
	for element := l.first; element > 0; element-- {
		key := uint32(element - 1)
		value := slices.Repeat(whole[uint64(key)*words:][:words], copies)
		args := lookupArgs{fd: uint32(m.FD()), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value[0])}
		if _, err := bpf(bpfMapUpdateElem, unsafe.Pointer(&args), unsafe.Sizeof(args)); err != nil {
			return failf(ErrNotWritable, "map %s has no preamble, and writing one failed: %v", name, err)
		}
	}
	return nil
}

// makeEachCPU makes the missing maps of the CPUs that are online, each on the NUMA node of its CPU.
func makeEachCPU(name string, m *ebpf.Map, l *layout, declaration *ebpf.MapSpec) error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return failf(ErrUnsupported, "dup: %v", err)
	}
	outer := &outer{os.NewFile(uintptr(fd), name), "map " + name, m.MaxEntries()}
	defer outer.file.Close()
	for _, cpu := range cpus {
		if _, err := outer.id(uint32(cpu)); !isErrno(err, unix.ENOENT) {
			if err != nil {
				return err
			}
			continue
		}
		of := declaration.Copy()
		// The name of the first one: by it, loaders in Rust and C know maps that they may reuse.
		of.Name, of.NumaNode = name+suffixFirst, nodeOf(cpu)
		made, err := ebpf.NewMap(of)
		if err != nil {
			return failf(ErrUnsupported, "map %s for CPU %d: %v; making maps needs CAP_BPF: run as root", name, cpu, err)
		}
		err = initialize(fmt.Sprintf("%s for CPU %d", name, cpu), made, l, declaration)
		if err == nil {
			if err = outer.put(uint32(cpu), made.FD()); err != nil {
				err = failf(ErrNotWritable, "map %s: bpf(BPF_MAP_UPDATE_ELEM): %v", name, err)
			}
		}
		made.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeOf is the NUMA node of a CPU; all ones, any node, if it is not known.
func nodeOf(cpu int) uint32 {
	nodes, _ := filepath.Glob("/sys/devices/system/node/node[0-9]*")
	for _, node := range nodes {
		var number uint32
		cpus, err := cpuList(filepath.Join(node, "cpulist"))
		if _, failed := fmt.Sscanf(filepath.Base(node), "node%d", &number); err == nil && failed == nil && slices.Contains(cpus, cpu) {
			return number
		}
	}
	return ^uint32(0)
}

// link tells the map of readers of its ring and its bells, and the ring of its readers. It refuses a ring that the object reuses with
// the readers or bells of another: readers in other processes would sleep on bells that no program rings.
func link(name string, ring, readers, bells *ebpf.Map) error {
	var ids [3]uint32
	for i, m := range []*ebpf.Map{ring, readers, bells} {
		info, err := infoOf(m.FD())
		if err != nil {
			return failf(ErrUnsupported, "bpf(BPF_OBJ_GET_INFO_BY_FD): %v", err)
		}
		ids[i] = info.id
	}
	links := []uint64{uint64(ids[2])<<32 | uint64(ids[0]), uint64(ids[1])}
	for i, m := range []*ebpf.Map{readers, ring} { // the ring comes last
		mem, err := mapWords(m.FD(), 0, 2*preambleWords, unix.PROT_READ)
		if err == nil {
			linked := mem.load(wordLink)
			mem.unmap()
			if linked == links[i] { // and maybe frozen
				continue
			}
			if linked != 0 {
				return failf(ErrContradiction, "map %s can't be reused: the object does not reuse %[1]s, %[1]s%s and %[1]s%s of one "+
					"loader; reuse all three, or remove their pins, so that the loader pins new maps", name, suffixReaders, suffixBells)
			}
			mem, err = mapWords(m.FD(), 0, 2*preambleWords, unix.PROT_READ|unix.PROT_WRITE)
		}
		if err != nil {
			return failf(ErrNotWritable, "map %s can't be linked with its readers: %v; initialize it before it is frozen", name, err)
		}
		if m == readers {
			// It is not 0 once it was linked: then readers may want programs to look.
			mem.swap(wordLook, 0, never)
		}
		mem.store(wordLink, links[i])
		mem.unmap()
	}
	return nil
}
