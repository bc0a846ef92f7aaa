// The place of a reader among those that programs know: readers that sleep, and readers that are required (docs/abi.md,
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

func ownerAt(place int) uint64           { return uint64(elementOwners*places + place) }
func leaseAt(place int) uint64           { return uint64(elementLeases*places + place) }
func wantsAt(place int) uint64           { return uint64(elementWants*places + place) }
func wakeAt(shard, place int) uint64     { return elementAt(elementWakeAt, shard, place) }
func positionAt(shard, place int) uint64 { return elementAt(elementPositions, shard, place) }
func heldAt(shard, place int) uint64     { return elementAt(elementHeld, shard, place) }

func elementAt(first, shard, place int) uint64 {
	return uint64((first+elementOfShard*shard)*places + place)
}

// place is one of the 64.
type place struct {
	readers *region
	mem     words // its region, for writing
	bells   *outer
	number  int
	me      uint64
}

// place takes a place, or returns the one that the reader has.
func (r *reader) place() (*place, error) {
	if r.required != nil && r.required.isMine() {
		return r.required, nil
	}
	if b := r.waiting.bell; b != nil && b.place.isMine() {
		return b.place, nil
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
	p := &place{}
	if p.readers, err = regionOf(fd, what, locator{}); err != nil {
		return nil, err
	}
	if err = p.take(ring.region); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) take(ring *region) (err error) {
	r := p.readers
	if err = r.expect(KindReaders); err != nil {
		return err
	}
	if p.mem, err = mapWords(r.fd, 0, r.words(), unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return failf(ErrNotWritable, "%s can't be written: %v; a reader that sleeps or is required needs write access to this map", r.what, err)
	}
	link := p.mem.load(wordLink)
	// If the ring can be replaced, they name another one that is, or was, in its place.
	other := ring.options.Has(Resizable) && p.mem.load(wordOtherRing) == uint64(ring.info.id)
	if uint32(link) != ring.info.id && !other {
		return failf(ErrNotWakeable, "%s belongs to another ring than %s", r.what, ring.what)
	}
	fd, what, err := companion(ring, ring.beside[1], suffixBells, uint32(link>>32))
	if err != nil {
		return err
	}
	p.bells = &outer{file: os.NewFile(uintptr(fd), what), what: what, entries: places}
	if p.me, err = thisOwner(); err != nil {
		return err
	}
	for number := range places {
		if found := p.mem.load(ownerAt(number)); found != 0 && !p.isAlive(found, number) && p.mem.swap(ownerAt(number), found, p.me) {
			p.number = number
			p.clear()
		}
	}
	for p.number = range places {
		if p.mem.swap(ownerAt(p.number), 0, p.me) { // SYNC leave: after the swap of the reader that left
			p.showsLife()
			return nil
		}
	}
	return failf(ErrNoPlace, "%s has no place left: %d readers wait or are required already", r.what, places)
}

func (p *place) isMine() bool { return p.mem.load(ownerAt(p.number)) == p.me }

// showsLife is for processes of other PID namespaces. The lease of a required reader says enough.
func (p *place) showsLife() {
	if p.mem.load(wordRequired)>>p.number&1 == 0 {
		p.mem.store(leaseAt(p.number), monotonic())
	}
}

// willSleep says at which tickets programs must look for this reader: those whose number has all these bits.
func (p *place) willSleep(look uint64) {
	p.mem.store(wordIdleSince, 0)
	p.wants(look + 1)
	p.mem.clear(wordLook, never&^look)
}

func (p *place) wants(value uint64) {
	p.mem.store(wantsAt(p.number), value)
	p.mem.add(wordLook, 1<<32) // SYNC agree: after what it wants
}

// leave frees the place, if it still is this reader's.
func (p *place) leave() {
	if p.isMine() {
		p.clear()
	}
	p.close()
}

// clear takes back what the reader in this place has said, and frees the place.
func (p *place) clear() {
	p.mem.clear(wordAsleep, 1<<p.number)
	p.wants(0)
	for range 2 * places { // it fails only if other readers change the word meanwhile
		found, look := p.mem.load(wordLook), uint64(never)
		for number := range places {
			if wants := p.mem.load(wantsAt(number)); wants != 0 {
				look &= wants - 1
			}
		}
		// SYNC agree: the count of changes was loaded before what all want, and is swapped with it.
		if p.mem.swap(wordLook, found, found&^never|look) {
			break
		}
	}
	p.mem.clear(wordRequired, 1<<p.number)
	p.mem.store(leaseAt(p.number), 0)
	p.mem.swap(ownerAt(p.number), p.me, 0) // SYNC leave: after its bits are cleared
}

func (p *place) close() {
	p.mem.unmap()
	p.mem = words{}
	if p.bells != nil {
		_ = p.bells.file.Close()
	}
	p.readers.close()
}

// Require makes programs of a ring with KEEP_OLDEST drop new records rather than overwrite what this reader has not read, from
// its present position on. If the reader holds programs back for longer than the lease, it is no longer required: programs go
// on, and IsRequired is false. Close ends it, too. It needs write access to the map of the ring's readers.
func (r *reader) Require(lease time.Duration) error {
	if r.parts == nil {
		return failf(ErrClosed, "the reader is closed")
	}
	if ring := r.parts[0]; !ring.options.Has(KeepOldest) {
		return failf(ErrNotKeeping, "%s does not keep its oldest records: declare it with the option KEEP_OLDEST", ring.what)
	}
	p, err := r.place()
	if err != nil {
		return err
	}
	shards := int(p.readers.shards)
	for shard := range shards {
		p.mem.store(heldAt(shard, p.number), 0)
	}
	// Programs that still judge an earlier reader of this place have ended after an RCU grace period. It fails on machines with
	// nohz_full; then such a program can end this requirement, which IsRequired says.
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, 1, 0, 0)
	for shard := range shards {
		p.mem.store(positionAt(shard, p.number), forGood)
	}
	r.required = p
	for _, s := range r.shards {
		s.told = forGood
		r.tell(s, true)
	}
	p.mem.store(leaseAt(p.number), uint64(max(lease, 0)))
	// SYNC keep: a full barrier follows: a program finds the bit, or this reader the program's claims.
	p.mem.set(wordRequired, 1<<p.number)
	return nil
}

// IsRequired says whether programs wait for this reader.
func (r *reader) IsRequired() bool {
	p := r.required
	return p != nil && p.isMine() && p.mem.load(wordRequired)>>p.number&1 == 1
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
	r.required.mem.store(positionAt(s.number, r.required.number), next) // SYNC read: what was copied may be overwritten
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

// isAlive says whether the owner of a place lives, as far as this process can know.
func (p *place) isAlive(owner uint64, number int) bool {
	ns, err := namespace()
	if err != nil || ns&(pidMask>>2) != owner>>(2*pidBits) {
		sign := p.mem.load(leaseAt(number))
		return p.mem.load(wordRequired)>>number&1 == 1 || sign == 0 || int64(monotonic()-sign) < int64(silent)
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
