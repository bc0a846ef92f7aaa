// Opens a region: a BPF map or a memfd, mapped, or read by system call where the kernel refuses the mapping.

package mapring

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Source says where a region is: Map, Pin, FD or ID.
type Source struct {
	m    *ebpf.Map
	path string
	fd   int
	id   uint32
}

// Map is a map that this process has, of cilium/ebpf. It stays the caller's, who may close it after opening.
func Map(m *ebpf.Map) Source { return Source{m: m} }

// Pin is a path in a BPF file system. For a ring with PER_CPU_MAPS it is the directory of its pins.
func Pin(path string) Source { return Source{path: path} }

// FD is a descriptor of a BPF map or of a sealed memfd, for example one that another process has handed over. It stays the
// caller's, who may close it after opening.
func FD(fd int) Source { return Source{fd: fd} }

// ID is the id of a BPF map. Opening it needs CAP_SYS_ADMIN.
func ID(id ebpf.MapID) Source { return Source{id: uint32(id)} }

// locator finds a map, now and after another one replaced it.
type locator struct {
	pin   string
	outer *outer
	key   uint32
}

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
	users   atomic.Int32
}

// open gets a descriptor of its own.
func (s Source) open() (fd int, what string, origin locator, err error) {
	switch {
	case s.m != nil:
		what = printable(s.m.String())
		if fd, err = unix.FcntlInt(uintptr(s.m.FD()), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			if info, err := infoOf(fd); err == nil && info.name[0] != 0 {
				what = "map " + printable(unix.ByteSliceToString(info.name[:]))
			}
		}
	case s.path != "":
		what, origin.pin = printable(s.path), s.path
		fd, err = openPin(s.path)
	case s.id != 0:
		what = fmt.Sprintf("map id %d", s.id)
		fd, err = openID(s.id)
	default:
		what = fmt.Sprintf("fd %d", s.fd)
		fd, err = unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		err = failf(ErrOpen, "can't open %s: %v%s", what, err, openHint(err))
	}
	return fd, what, origin, err
}

// openRegion opens what is neither a map of maps nor a directory of pins.
func openRegion(source Source) (*region, error) {
	fd, what, origin, err := source.open()
	if err != nil {
		return nil, err
	}
	return regionOf(fd, what, origin)
}

// regionOf takes the descriptor.
func regionOf(fd int, what string, origin locator) (*region, error) {
	r := &region{what: what, fd: fd, origin: origin, cpus: []int{0}}
	r.users.Store(1)
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

// close is called by each user of the region; the last one unmaps it.
func (r *region) close() {
	if r.users.Add(-1) == 0 {
		r.mem.unmap()
		_ = unix.Close(r.fd)
	}
}

func (r *region) mapped() bool { return r.mem.count != 0 }

func (r *region) openMap() (err error) {
	if r.info, err = infoOf(r.fd); err != nil {
		return failf(ErrWrongType, "%s is not a BPF map: %v", r.what, err)
	}
	info := &r.info
	if info.typ != typeArray && info.typ != typePerCPUArray || info.keySize != 4 {
		return failf(ErrWrongType, "%s is a map of type %v, expected array or percpu_array", r.what, ebpf.MapType(info.typ))
	}
	if info.valueSize%8 != 0 || info.valueSize == 0 {
		return failf(ErrWrongType, "%s has values of %d bytes, but a region's elements have a multiple of 8: mapring's macros "+
			"did not declare this map", r.what, info.valueSize)
	}
	bytes := uint64(info.valueSize) * uint64(info.maxEntries)
	if bytes < 8*preambleWords {
		return failf(ErrContradiction, "%s has %d bytes, expected at least %d: mapring's macros did not declare this map",
			r.what, bytes, 8*preambleWords)
	}
	if info.typ == typePerCPUArray {
		if r.cpus, err = possibleCPUs(); err != nil {
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
		return failf(ErrPreamble, "%s: %v%s", r.what, err, r.types.hint())
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
		return failf(ErrWrongType, "%s is a map of type %v, which holds no %s", r.what, ebpf.MapType(r.info.typ), l.kind)
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

// access reads words of a region for one user. It is for one goroutine at a time.
type access struct {
	*region
	looks *looks // if it is not mapped
	err   error  // the last failed lookup; the words that it was for are 0
}

func (r *region) access() *access {
	a := &access{region: r}
	if !r.mapped() {
		a.looks = newLooks(r)
	}
	return a
}

// word loads a word, counted from the region's start. By system call it is the median of three looks.
func (a *access) word(at uint64) uint64 {
	if a.looks == nil {
		return a.mem.load(at)
	}
	words := a.size / 8
	if !a.look(at / words) {
		return 0
	}
	return a.looks.median(0, at%words)
}

// look makes three looks at an element.
func (a *access) look(element uint64) bool {
	if err := a.looks.three(element); err != nil {
		a.err = err
		return false
	}
	return true
}

// takeErr returns the last failed lookup since the last call.
func (a *access) takeErr() error {
	if a.looks == nil || a.err == nil {
		return nil
	}
	err := a.err
	a.err = nil
	return failf(ErrNotReadable, "%s: bpf(BPF_MAP_LOOKUP_ELEM): %v", a.what, err)
}

// sum adds a word over all copies of a per-CPU map.
func (a *access) sum(at uint64) uint64 {
	sum := a.word(at)
	for i := 1; i < len(a.cpus) && a.err == nil; i++ {
		sum += a.looks.median(i, at%(a.size/8))
	}
	return sum
}

// table is what all handles but rings share: a region, read by any number of goroutines.
type table struct {
	mu     sync.Mutex // only by system call: the looks are shared
	closed atomic.Bool
	a      *access
}

func (t *table) open(source Source, kinds ...Kind) error {
	r, err := openRegion(source)
	if err != nil {
		return err
	}
	if err := r.expect(kinds...); err != nil {
		r.close()
		return err
	}
	t.a = r.access()
	return nil
}

// opened is a handle, or the error with which it was opened.
func opened[H any](handle *H, err error) (*H, error) {
	if err != nil {
		return nil, err
	}
	return handle, nil
}

// Access says how it is read: "mapped", or by system call and why.
func (t *table) Access() string { return t.a.how() }

// Close gives the memory back. No method may run at the same time or be called later.
func (t *table) Close() error {
	if t.closed.Swap(true) {
		return os.ErrClosed
	}
	t.a.close()
	return nil
}

// Dropped is the number of writes that programs gave up: out of range, or into a value that another program wrote.
func (t *table) Dropped() (uint64, error) {
	defer t.lock()()
	dropped := t.a.sum(wordDropped)
	return dropped, t.a.takeErr()
}

// lock is held while looks are made and used.
func (t *table) lock() (unlock func()) {
	if t.a.mapped() {
		return func() {}
	}
	t.mu.Lock()
	return t.mu.Unlock
}

func (r *region) how() string {
	if r.mapped() {
		return "mapped"
	}
	return "by system call (" + r.refusal + ")"
}
