// Opens a region: a BPF map or a memfd, mapped, or read by system call where the kernel refuses the mapping.

package mapring

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// region is an open region.
type region struct {
	layout
	what    string
	fd      int
	info    mapInfo // of a map
	mem     words   // without words: read by system call
	refusal string  // why
	cpus    []int   // whose copies a lookup returns; one for an ordinary map
	origin  locator
	types   types
	beside  [2]int // the readers and bells that are pinned beside a ring, or -1
}

// openRegion opens what is neither a map of maps nor a directory of pins.
func openRegion(source Source) (*region, error) {
	for try := 1; ; try++ {
		fd, what, origin, err := source.open()
		if err != nil {
			return nil, err
		}
		r, err := regionOf(fd, what, origin)
		if err != nil || r.findCompanions() || try == again {
			return r, err
		}
		r.close()
	}
}

// regionOf takes the descriptor.
func regionOf(fd int, what string, origin locator) (*region, error) {
	r := &region{what: what, fd: fd, origin: origin, cpus: []int{0}, beside: [2]int{-1, -1}}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err == nil {
		err = r.openMemfd(seals)
	} else {
		err = r.openMap()
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// owned is what a region holds of the process.
type owned struct {
	mem words
	fds [3]int
}

func (r *region) owned() owned { return owned{r.mem, [3]int{r.beside[0], r.beside[1], r.fd}} }

func (o owned) release() {
	o.mem.unmap()
	for _, fd := range o.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// close gives back a region that nobody else uses.
func (r *region) close() { r.owned().release() }

// share makes it a region that several goroutines use, which may close it while others read it: the garbage collector gives it back
// when nobody can use it any more. A lock in each read would cost as much as the record.
func (r *region) share() { runtime.AddCleanup(r, owned.release, r.owned()) }

func (r *region) mapped() bool { return r.mem.count != 0 }

func (r *region) openMap() (err error) {
	if r.info, err = infoOf(r.fd); err != nil {
		return failf(ErrWrongType, "%s is not a BPF map: %v", r.what, err)
	}
	info := &r.info
	if info.typ != typeArray && info.typ != typePerCPUArray || info.keySize != 4 {
		return failf(ErrWrongType, "%s is a map of type %s, expected array or percpu_array", r.what, mapType(info.typ))
	}
	if info.valueSize%8 != 0 || info.valueSize == 0 {
		return failf(ErrWrongType, "%s has values of %d bytes, but a region's elements have a multiple of 8: mapring's macros "+
			"did not declare this map", r.what, info.valueSize)
	}
	bytes := uint64(info.valueSize) * uint64(info.maxEntries)
	if bytes < 8*preambleWords {
		return failf(ErrContradiction, "%s has %d bytes, expected at least %d; such a map holds no region", r.what, bytes, 8*preambleWords)
	}
	if info.typ == typePerCPUArray {
		if r.cpus, err = copiesOf(r.fd, uint64(info.valueSize)); err != nil {
			return err
		}
	}
	r.size = uint64(info.valueSize)
	if r.mem, err = mapWords(r.fd, 0, bytes/8, unix.PROT_READ); err != nil {
		r.mem, r.refusal = words{}, r.refused(err)
	}
	r.types = typesOf(info)
	var found layout
	preamble, err := r.readPreamble()
	if err == nil {
		found, err = decodePreamble(preamble)
	}
	declared := r.types.region()
	if errors.As(err, new(errNoPreamble)) && declared != nil {
		found, err = r.undeclared(declared)
	}
	if err != nil {
		if err, ok := err.(*failure); ok {
			return err
		}
		hint := ""
		if errors.As(err, new(errNoPreamble)) {
			hint = r.types.hint()
		}
		return failf(ErrPreamble, "%s: %v%s", r.what, err, hint)
	}
	if err := r.agrees(&found); err != nil {
		return err
	}
	if declared != nil && !declared.alike(&found) {
		return failf(ErrContradiction, "%s: its preamble says %s, its BTF says %s: the preamble was overwritten, or written for "+
			"another map; have its loader create the map again", r.what, &found, declared)
	}
	r.layout = found
	if found.options.Has(Tails) && !r.mapped() {
		return failf(ErrNotReadable, "%s has tails, so it can be read only through a mapping: %s", r.what, r.refusal)
	}
	return nil
}

// undeclared is the shape of a map without a preamble, as its BTF describes it.
func (r *region) undeclared(declared *layout) (layout, error) {
	found, err := declared.forEntries(uint64(r.info.maxEntries))
	if err != nil {
		return found, failf(ErrContradiction, "%s: %v", r.what, err)
	}
	if !found.isSharded() {
		return found, nil
	}
	cpus, err := possibleCPUs()
	if last := len(cpus) - 1; err == nil && found.shards <= uint64(cpus[last]) {
		err = failf(ErrNotPrepared, "%s has %s, expected %d, one for each possible CPU (0 to %d): call mapring.Prepare before the "+
			"object is loaded", r.what, counted(found.shards, "shard"), cpus[last]+1, cpus[last])
	}
	return found, err
}

// agrees compares a preamble with what the kernel says.
func (r *region) agrees(l *layout) error {
	if l.kind.isPerCPU() != (r.info.typ == typePerCPUArray) {
		expected := "array"
		if l.kind.isPerCPU() {
			expected = "percpu_array"
		}
		return failf(ErrWrongType, "%s is a map of type %s, expected %s; its preamble or description says so", r.what,
			mapType(r.info.typ), expected)
	}
	if l.size != uint64(r.info.valueSize) {
		return failf(ErrContradiction, "%s: its preamble or description makes the value size %d, the kernel says %d", r.what, l.size,
			r.info.valueSize)
	}
	if l.elements != uint64(r.info.maxEntries) {
		return failf(ErrContradiction, "%s: its preamble or description makes the number of entries %d, the kernel says %d", r.what,
			l.elements, r.info.maxEntries)
	}
	return nil
}

// refused is why the kernel did not map it, and the remedy.
func (r *region) refused(err error) string {
	mode, _ := unix.FcntlInt(uintptr(r.fd), unix.F_GETFL, 0)
	switch {
	case isErrno(err, errnoNotSupported) && r.info.typ == typeArray:
		return "its value holds a bpf_spin_lock, bpf_timer or the like (ENOTSUPP): keep those in a map of their own"
	case isErrno(err, errnoNotSupported):
		return "maps of this type are never mapped (ENOTSUPP): use an ARRAY made with BPF_F_MMAPABLE"
	case isErrno(err, unix.EINVAL) && r.info.flags&flagMmapable == 0:
		return "the map was made without BPF_F_MMAPABLE (EINVAL): set map_flags to it"
	case isErrno(err, unix.EINVAL, unix.EACCES) && mode&unix.O_ACCMODE == unix.O_RDONLY:
		return "a read-only file descriptor, which Linux refuses to map (EINVAL): freeze the map and pin it with mode 0666, and " +
			"any process can map it"
	}
	return fmt.Sprintf("the kernel said: %v", err)
}

func (r *region) readPreamble() (*[preambleWords]uint64, error) {
	var found [preambleWords]uint64
	a := r.access()
	// Word 0 first: the others are there once it is.
	for at := range found {
		found[at] = a.word(uint64(at))
	}
	if a.err != nil {
		return nil, failf(ErrNotReadable, "%s can't be read: bpf(BPF_MAP_LOOKUP_ELEM): %v; %s", r.what, a.err, r.refusal)
	}
	return &found, nil
}

const hugetlbfs = 0x958458f6

func (r *region) openMemfd(seals int) error {
	const wanted = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	var file unix.Stat_t
	var system unix.Statfs_t
	if err := errors.Join(unix.Fstat(r.fd, &file), unix.Fstatfs(r.fd, &system)); err != nil {
		return failf(ErrOpen, "%s: %v", r.what, err)
	}
	if seals&wanted != wanted {
		return failf(ErrUntrusted, "%s is not sealed against resizing (F_SEAL_SHRINK and F_SEAL_GROW), so any process that has it "+
			"open could kill its readers with SIGBUS: have its creator seal it", r.what)
	}
	if uint32(system.Type) == hugetlbfs {
		return failf(ErrUntrusted, "%s has huge pages (MFD_HUGETLB), which any process that has it open can punch out and so kill "+
			"its readers: have its creator use ordinary pages", r.what)
	}
	short := func(bytes uint64) error {
		return failf(ErrContradiction, "%s has %d bytes, expected at least %d", r.what, file.Size, bytes)
	}
	if file.Size < 8*preambleWords {
		return short(8 * preambleWords)
	}
	mem, err := mapWords(r.fd, 0, preambleWords, unix.PROT_READ)
	if err != nil {
		return failf(ErrNotReadable, "%s can't be read: %v", r.what, err)
	}
	r.mem = mem
	preamble, _ := r.readPreamble()
	mem.unmap()
	r.mem = words{}
	found, err := decodePreamble(preamble)
	if err != nil {
		return failf(ErrPreamble, "%s: %v", r.what, err)
	}
	if found.kind.isPerCPU() {
		return failf(ErrWrongType, "%s is a memfd, which holds no %s", r.what, found.kind)
	}
	bytes := 8 * found.words()
	if uint64(file.Size) < bytes {
		return short(bytes)
	}
	// Pages that were never allocated would be charged to this process.
	if holes := int64(bytes) - 512*file.Blocks; holes > 64<<20 {
		return failf(ErrUntrusted, "%s is sparse: of the %d bytes of its region %d are not allocated, and reading them would "+
			"charge this process for the memory: have its creator allocate them (fallocate)", r.what, bytes, holes)
	}
	if r.mem, err = mapWords(r.fd, 0, bytes/8, unix.PROT_READ); err != nil {
		return failf(ErrNotReadable, "%s can't be read: %v", r.what, err)
	}
	r.layout, r.types = found, types{why: "a memfd has no BTF"}
	return nil
}

// expect refuses a region of another kind.
func (r *region) expect(kinds ...Kind) error {
	for _, kind := range kinds {
		if r.kind == kind {
			return nil
		}
	}
	return failf(ErrWrongType, "%s holds %s, expected %s", r.what, r.kind, kinds[0])
}

func (r *region) how() string {
	if r.mapped() {
		return "mapped"
	}
	return "by system call (" + r.refusal + ")"
}
