// The seat of a reader among those that programs know: readers that sleep, and readers that are required (docs/abi.md,
// "Wakeable rings" and "Rings that keep their oldest records"). These are the only words of a ring's maps that a reader writes.

package mapring

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bpfMapUpdateElem = 2
	bpfMapDeleteElem = 3
)

func ownerAt(seat int) uint64           { return uint64(elementOwners*seats + seat) }
func leaseAt(seat int) uint64           { return uint64(elementLeases*seats + seat) }
func wantsAt(seat int) uint64           { return uint64(elementWants*seats + seat) }
func wakeAt(shard, seat int) uint64     { return elementAt(elementWakeAt, shard, seat) }
func positionAt(shard, seat int) uint64 { return elementAt(elementPositions, shard, seat) }
func heldAt(shard, seat int) uint64     { return elementAt(elementHeld, shard, seat) }

func elementAt(first, shard, seat int) uint64 {
	return uint64((first+elementOfShard*shard)*seats + seat)
}

// seat is one of the 64.
type seat struct {
	readers *region
	mem     words // its region, for writing
	bells   *outer
	number  int
	me      uint64
	mu      sync.Mutex // of mem: a reader that another goroutine closes may still tell how far it read
}

// seat takes a seat, or returns the one that the reader has.
func (r *reader) seat() (*seat, error) {
	if r.required != nil && r.required.isMine() {
		return r.required, nil
	}
	if b := r.waiting.bell; b != nil && b.seat.isMine() {
		return b.seat, nil
	}
	ring := r.parts[0]
	if ring.info.id == 0 || !ring.options.Has(Wakeable) {
		why := "MAPRING_RING declares it with neither WAKEABLE nor KEEP_OLDEST"
		if ring.info.id == 0 {
			why = "in a memfd, readers in Rust and Python alone sleep or are required"
		}
		return nil, failf(ErrNotWakeable, "%s wakes no reader: %s; Reader.Wait naps instead", ring.what, why)
	}
	link := uint32(r.accessOf(ring).word(wordLink))
	if link == 0 {
		return nil, failf(ErrNotWakeable, "%s wakes no reader: its loader has not linked it to its maps __readers and __bells: "+
			"mapring.Initialize does; Reader.Wait naps instead", ring.what)
	}
	fd, what, err := companion(ring.region, ring.beside[0], suffixReaders, link)
	if err != nil {
		return nil, err
	}
	s := &seat{}
	if s.readers, err = regionOf(fd, what, locator{}); err != nil {
		return nil, err
	}
	if err = s.take(ring.region); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *seat) take(ring *region) (err error) {
	r := s.readers
	if err = r.expect(KindReaders); err != nil {
		return err
	}
	if s.mem, err = mapWords(r.fd, 0, r.words(), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return failf(ErrNotWritable, "%s can't be written: %v; a reader that sleeps or is required needs write access to this map", r.what, err)
	}
	link := s.mem.load(wordLink)
	// If the ring can be replaced, they name another one that is, or was, in its place.
	other := ring.options.Has(Resizable) && s.mem.load(wordOtherRing) == uint64(ring.info.id)
	if uint32(link) != ring.info.id && !other {
		return failf(ErrNotWakeable, "%s belongs to another ring than %s", r.what, ring.what)
	}
	fd, what, err := companion(ring, ring.beside[1], suffixBells, uint32(link>>32))
	if err != nil {
		return err
	}
	s.bells = &outer{file: os.NewFile(uintptr(fd), what), what: what, entries: seats}
	if s.me, err = thisOwner(); err != nil {
		return err
	}
	for number := range seats {
		if found := s.mem.load(ownerAt(number)); found != 0 && !s.isAlive(found, number) && s.mem.swap(ownerAt(number), found, s.me) {
			s.number = number
			s.clear()
		}
	}
	for s.number = range seats {
		if s.mem.swap(ownerAt(s.number), 0, s.me) { // SYNC leave: after the swap of the reader that left
			s.showsLife()
			return nil
		}
	}
	return failf(ErrNoSeat, "%s has no seat left: %d readers wait or are required already", r.what, seats)
}

func (s *seat) isMine() bool { return s.mem.load(ownerAt(s.number)) == s.me }

// showsLife is for processes of other PID namespaces. The lease of a required reader says enough.
func (s *seat) showsLife() {
	if s.mem.load(wordRequired)>>s.number&1 == 0 {
		s.mem.store(leaseAt(s.number), monotonic())
	}
}

// willSleep says at which tickets programs must look for this reader: those whose number has all these bits.
func (s *seat) willSleep(look uint64) {
	s.mem.store(wordIdleSince, 0)
	s.wants(look + 1)
	s.mem.clear(wordLook, never&^look)
}

func (s *seat) wants(value uint64) {
	s.mem.store(wantsAt(s.number), value)
	s.mem.add(wordLook, 1<<32) // SYNC agree: after what it wants
}

// leave frees the seat, if it still is this reader's.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem.count != 0 && s.isMine() {
		s.clear()
	}
	s.close()
}

// clear takes back what the reader in this seat has said, and frees the seat.
func (s *seat) clear() {
	s.mem.clear(wordAsleep, 1<<s.number)
	s.wants(0)
	for range 2 * seats { // it fails only if other readers change the word meanwhile
		found, look := s.mem.load(wordLook), uint64(never)
		for number := range seats {
			if wants := s.mem.load(wantsAt(number)); wants != 0 {
				look &= wants - 1
			}
		}
		// SYNC agree: the count of changes was loaded before what all want, and is swapped with it.
		if s.mem.swap(wordLook, found, found&^never|look) {
			break
		}
	}
	s.mem.clear(wordRequired, 1<<s.number)
	s.mem.store(leaseAt(s.number), 0)
	s.mem.swap(ownerAt(s.number), s.me, 0) // SYNC leave: after its bits are cleared
}

func (s *seat) close() {
	s.mem.unmap()
	s.mem = words{}
	if s.bells != nil {
		_ = s.bells.file.Close()
	}
	s.readers.close()
}

// Require makes programs of a ring with KEEP_OLDEST drop new records rather than overwrite what this reader has not read, from
// its present position on. If the reader holds programs back for longer than the lease, it is no longer required: programs go
// on, and IsRequired is false. Close ends it, too. It needs write access to the map of the ring's readers.
func (r *reader) Require(lease time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return r.closedErr()
	}
	if ring := r.parts[0]; !ring.options.Has(KeepOldest) {
		return failf(ErrNotKeeping, "%s does not keep its oldest records: declare it with the option KEEP_OLDEST", ring.what)
	}
	s, err := r.seat()
	if err != nil {
		return err
	}
	shards := int(s.readers.shards)
	for shard := range shards {
		s.mem.store(heldAt(shard, s.number), 0)
	}
	// Programs that still judge an earlier reader of this seat have ended after an RCU grace period. It fails on machines with
	// nohz_full; then such a program can end this requirement, which IsRequired says.
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, 1, 0, 0)
	for shard := range shards {
		s.mem.store(positionAt(shard, s.number), forGood)
	}
	r.required = s
	for _, s := range r.shards {
		s.told = forGood
		r.tell(s, true)
	}
	s.mem.store(leaseAt(s.number), uint64(max(lease, 0)))
	// SYNC keep: a full barrier follows: a program finds the bit, or this reader the program's claims.
	s.mem.set(wordRequired, 1<<s.number)
	return nil
}

// IsRequired says whether programs wait for this reader.
func (r *reader) IsRequired() bool {
	s := r.required
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mem.count != 0 && s.isMine() && s.mem.load(wordRequired)>>s.number&1 == 1
}

// tell says how far a shard was read: after an eighth of its slots, or now.
func (r *reader) tell(s *shard, now bool) {
	next := s.next
	if m := r.merge; m != nil {
		next = m.runs[slices.Index(r.shards, s)].unread(next)
	}
	if unsaid := next - s.told; unsaid == 0 || !now && unsaid < max(1, (s.mask+1)/8) || s.number >= int(r.required.readers.shards) {
		return
	}
	s.told = next
	seat := r.required
	seat.mu.Lock()
	defer seat.mu.Unlock()
	if seat.mem.count != 0 { // else it is given back
		seat.mem.store(positionAt(s.number, seat.number), next) // SYNC read: what was copied may be overwritten
	}
}

// The words of a process: its pid, the low bits of its start, and of its PID namespace.
const (
	pidBits = 22
	pidMask = 1<<pidBits - 1
)

func ownerOf(pid int, start, namespace uint64) uint64 {
	return (namespace&(pidMask>>2))<<(2*pidBits) | start&pidMask<<pidBits | uint64(pid)&pidMask
}

func namespace() (uint64, error) {
	var file unix.Stat_t
	err := unix.Stat("/proc/self/ns/pid", &file)
	return file.Ino, err
}

func thisOwner() (uint64, error) {
	start, _, ok := startOf("self")
	ns, err := namespace()
	if !ok || err != nil {
		return 0, failf(ErrUnsupported, "/proc says nothing of this process (%v): mount procfs at /proc", err)
	}
	return ownerOf(os.Getpid(), hostStart(start), ns), nil
}

// startOf is field 22 of /proc/PID/stat, and whether the process has ended.
func startOf(pid string) (start uint64, ended, ok bool) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	end := bytes.LastIndexByte(stat, ')') // the name before it can contain anything
	if err != nil || end < 0 {
		return 0, false, false
	}
	fields := strings.Fields(string(stat[end+1:])) // from field 3 on
	if len(fields) < 20 {
		return 0, false, false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	// The first thread of a process can end before the others.
	ended = (fields[0] == "Z" || fields[0] == "X") && (fields[17] == "0" || fields[17] == "1")
	return start, ended, err == nil
}

// hostStart is a start without the offset of a time namespace. It may be one too high.
func hostStart(start uint64) uint64 {
	const tick = 1e7 // nanoseconds
	ahead := aheadOf("boottime")
	ticks := ahead / tick
	if ahead%tick < 0 {
		ticks--
	}
	return start - uint64(ticks)
}

// aheadOf is by how many nanoseconds a clock of this process's time namespace is ahead of the host's.
func aheadOf(clock string) int64 {
	text, _ := os.ReadFile("/proc/self/timens_offsets")
	for row := range strings.Lines(string(text)) {
		if fields := strings.Fields(row); len(fields) == 3 && fields[0] == clock {
			seconds, _ := strconv.ParseInt(fields[1], 10, 64)
			nanoseconds, _ := strconv.ParseInt(fields[2], 10, 64)
			return seconds*1e9 + nanoseconds
		}
	}
	return 0
}

var monotonicAhead = sync.OnceValue(func() int64 { return aheadOf("monotonic") })

// monotonic is CLOCK_MONOTONIC as programs read it.
func monotonic() uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return uint64(now.Nano() - monotonicAhead())
}

// isAlive says whether the owner of a seat lives, as far as this process can know.
func (s *seat) isAlive(owner uint64, number int) bool {
	ns, err := namespace()
	if err != nil || ns&(pidMask>>2) != owner>>(2*pidBits) {
		sign := s.mem.load(leaseAt(number))
		return s.mem.load(wordRequired)>>number&1 == 1 || sign == 0 || int64(monotonic()-sign) < int64(silent)
	}
	return livesSince(int(owner&pidMask), func(start uint64) bool {
		// With the offset of a time namespace it may be one too high.
		start = hostStart(start)
		same := func(start uint64) bool { return start&pidMask == owner>>pidBits&pidMask }
		return same(start) || same(start+1) || same(start-1)
	})
}

// livesSince says whether the process with this pid lives, and began when `is` says; true if procfs hides it.
func livesSince(pid int, is func(start uint64) bool) bool {
	if pid == 0 || unix.Kill(pid, 0) == unix.ESRCH {
		return false
	}
	if me, err := os.Readlink("/proc/self"); err != nil || me != strconv.Itoa(os.Getpid()) {
		return true // another namespace's procfs
	}
	start, ended, ok := startOf(strconv.Itoa(pid))
	if !ok {
		return unix.Kill(pid, 0) != unix.ESRCH
	}
	return !ended && is(start)
}

// processLives says whether the process lives that pid and start time name, as in the preamble and in commands; true if procfs
// hides it.
func processLives(process uint64) bool {
	return livesSince(int(process&pidMask), func(start uint64) bool { return start&(1<<(64-pidBits)-1) == process>>pidBits })
}

// put puts a map under a key, and waits for an RCU grace period.
func (o *outer) put(key uint32, fd int) error {
	value := uint32(fd)
	args := lookupArgs{fd: uint32(o.file.Fd()), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value)}
	_, err := bpf(bpfMapUpdateElem, unsafe.Pointer(&args), unsafe.Sizeof(args))
	return err
}

func (o *outer) remove(key uint32) error {
	args := lookupArgs{fd: uint32(o.file.Fd()), key: unsafe.Pointer(&key)}
	_, err := bpf(bpfMapDeleteElem, unsafe.Pointer(&args), unsafe.Sizeof(args))
	return err
}
