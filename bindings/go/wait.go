// Waits for records: the reader sleeps until a program rings its bell, or naps between two checks.

package mapring

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	shortNap = 50 * time.Microsecond // the first; each is twice as long as the one before
	longNap  = time.Millisecond
	longest  = time.Second // a sleep on the bell, in case the kernel could not ring it
	spins    = 200         // shards that a reader without a bell checks before its first nap
)

// waiting is how a reader waits.
type waiting struct {
	begun bool
	bell  *bell
	why   error // it has none
}

// SetWatermark makes Wait return only when one shard has this number of unread records, or up to a quarter more, or after age (1 s
// at most) if there are any: fewer wakeups, for readers that may be late. Programs that publish fewer records within this time
// never wake the reader. They check for sleepers about four times within so many records; at most half of the slots of a shard
// count. It is for the reader of a WAKEABLE ring that has a bell. Any other reader ignores the age, and naps.
// In a RESIZABLE ring any record ends a wait.
func (r *reader) SetWatermark(records uint64, age time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return
	}
	records = min(records, r.parts[0].capacity/2)
	if r.parts[0].options.Has(Resizable) { // the ticket would be one of this ring only
		records = 1
	}
	r.watermark.count, r.watermark.age = max(records, 1), min(max(age, shortNap), longest)
	// The next bell tells programs how often to look.
	if b := r.waiting.bell; b != nil {
		b.close()
		if b.seat != r.required {
			b.seat.leave()
		}
	}
	r.waiting = waiting{}
}

// look are the bits of the tickets at which programs look for a reader that sleeps until there are so many records.
func look(records uint64) uint64 { return (1<<(bits.Len64(max(records/4, 1))-1) - 1) & never }

// watermark is the ticket until which such a reader sleeps, from its next ticket on.
func watermark(next, records uint64) uint64 { return (next + records - 1) | look(records) }

// Wait returns nil once there are records to read: Next, ReadBatch or Drain may still find that programs discarded them. Once
// the context has ended it returns the context's error, also if there are records.
//
// A reader of a ring with WAKEABLE sleeps until a program rings its bell, which costs a program one ring for each sleep, and
// the reader one system call (Bell). Any other reader naps between two checks: for 50 µs at first, for 1 ms at most.
func (r *reader) Wait(ctx context.Context) error { return wait(ctx, []*reader{r}) }

// wait waits until any of these readers may have records.
func wait(ctx context.Context, readers []*reader) error {
	nap, ring := time.Duration(math.MaxInt64), len(readers) > 0
	for _, r := range readers {
		r.mu.Lock() // Close waits for it
		defer r.mu.Unlock()
	}
	if err := isClosed(readers); err != nil {
		return err
	}
	for _, r := range readers {
		if m := r.merge; m != nil && m.held() > 0 { // nobody rings when their turn has come
			nap = min(nap, m.nap)
			m.nap = min(2*m.nap, longNap)
		}
	}
	if nap <= longNap {
		timer, awake := time.NewTimer(nap), untilClosed(ctx, readers)
		defer timer.Stop()
		defer awake.end()
		select {
		case <-awake.Done():
		case <-timer.C:
		}
		return cmp.Or(isClosed(readers), ctx.Err())
	}
	for _, r := range readers {
		ring = r.findBell() == nil && ring
	}
	if !ring {
		return napUntil(ctx, readers)
	}
	if done, err := isOver(ctx, readers, false); done {
		return err
	}
	cancel, awaken := readers[0].waiting.bell.cancel, untilClosed(ctx, readers)
	defer awaken.end()
	defer readers[0].waiting.bell.cancelWith(awaken)()
	for {
		if done, err := isOver(ctx, readers, false); done {
			return err
		}
		limit := longest
		for _, r := range readers {
			if err := r.arm(r.waiting.bell); err != nil {
				awake(readers)
				return err
			}
		}
		for _, r := range readers {
			switch found := r.unread(r.watermark.count); {
			case found == many || r.err != nil:
				limit = 0
			case found == held:
				limit = min(max(r.patience, shortNap), limit)
			}
			limit = min(r.watermark.age, limit)
		}
		var err error
		if limit > 0 {
			err = sleep(readers, cancel, limit)
		}
		awake(readers)
		if err != nil {
			return err
		}
		for _, r := range readers {
			if limit > 0 && r.watermark.count > 1 && ctx.Err() == nil && r.unread(1) == many {
				return r.err // fewer, but that old
			}
		}
	}
}

// isOver says whether the wait is over: the context has ended, or there are as many records as a reader waits for, or any. A
// ring that always has records must not keep a loop from its end.
func isOver(ctx context.Context, readers []*reader, any bool) (bool, error) {
	if err := cmp.Or(isClosed(readers), ctx.Err()); err != nil {
		return true, err
	}
	for _, r := range readers {
		count := r.watermark.count
		if any {
			count = 1
		}
		r.err = nil
		if r.unread(count) == many || r.err != nil {
			return true, r.err
		}
	}
	return false, nil
}

// napUntil naps between two checks.
func napUntil(ctx context.Context, readers []*reader) error {
	shards := 0
	for _, r := range readers {
		shards += len(r.shards)
	}
	for range max(1, spins/max(1, shards)) {
		if done, err := isOver(ctx, readers, true); done {
			return err
		}
	}
	timer, awake := time.NewTimer(shortNap), untilClosed(ctx, readers)
	defer timer.Stop()
	defer awake.end()
	for nap := shortNap; ; nap = min(2*nap, longNap) {
		timer.Reset(nap)
		select {
		case <-awake.Done():
		case <-timer.C:
		}
		if done, err := isOver(ctx, readers, true); done {
			return err
		}
	}
}

// isClosed is an error if one of them is.
func isClosed(readers []*reader) error {
	for _, r := range readers {
		if r.closed.Load() {
			return r.closedErr()
		}
	}
	return nil
}

// sleeping is a context that ends with that of a wait, or when a reader is closed.
type sleeping struct {
	context.Context
	stops []func() bool
	die   context.CancelFunc
}

func untilClosed(ctx context.Context, readers []*reader) *sleeping {
	s := &sleeping{}
	s.Context, s.die = context.WithCancel(ctx)
	for _, r := range readers {
		s.stops = append(s.stops, context.AfterFunc(r.life, s.die))
	}
	return s
}

func (s *sleeping) end() {
	for _, stop := range s.stops {
		stop()
	}
	s.die()
}

func awake(readers []*reader) {
	for _, r := range readers {
		r.waiting.bell.awake()
	}
}

// unread is what the next reads would find: the most of all shards. A ring that was replaced counts as one with records.
func (r *reader) unread(count uint64) unread {
	most := nothing
	for _, s := range r.shards {
		found := s.unread(count)
		if err := s.takeErr(); err != nil {
			r.err = err
		}
		if found >= some {
			s.lookPast()
		}
		most = max(most, found)
	}
	if most == nothing && r.parts[0].options.Has(Resizable) && r.gate() != gateOpen {
		return many
	}
	return most
}

// Bell gives the reader a bell, on which Wait sleeps; Wait does this by itself. The error says why there is none: Wait then naps.
// The first call makes system calls, and waits for an RCU grace period. It needs CAP_BPF, and write access to the maps of the
// ring's readers and bells.
func (r *reader) Bell() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return r.closedErr()
	}
	return r.findBell()
}

func (r *reader) findBell() error {
	w := &r.waiting
	if w.bell != nil && !w.bell.seat.isMine() {
		w.bell.close()
		w.bell.seat.close()
		*w, r.required = waiting{}, nil
	}
	if !w.begun {
		w.begun = true
		var s *seat
		if s, w.why = r.seat(); w.why == nil {
			if w.bell, w.why = newBell(s, look(r.watermark.count)); w.why != nil && s != r.required {
				s.leave()
			}
		}
	}
	return w.why
}

// leave gives bell and seat back. The reader may still be reading, so it keeps what it knows of them.
func (r *reader) leave() {
	s := r.required
	if b := r.waiting.bell; b != nil {
		s = b.seat
		b.close()
	}
	if s != nil {
		s.leave()
	}
}

// bell is a BPF ringbuf on which a reader sleeps.
type bell struct {
	seat     *seat
	ringbuf  *ebpf.Map
	consumer words // the page with the position up to which the reader has read: below the other one, it is readable
	producer words
	cancel   int // an eventfd: a context has ended
	look     uint64
}

func newBell(s *seat, look uint64) (_ *bell, err error) {
	page := os.Getpagesize()
	b := &bell{seat: s, cancel: -1, look: look}
	b.ringbuf, err = ebpf.NewMap(&ebpf.MapSpec{Name: "mapring_bell", Type: ebpf.RingBuf, MaxEntries: uint32(page)})
	if err != nil {
		var errno unix.Errno // cilium/ebpf advises RemoveMemlock, which does not help here
		if errors.As(err, &errno) {
			err = errno
		}
		return nil, failf(ErrUnsupported, "bpf(BPF_MAP_CREATE): %v; a bell of its own needs CAP_BPF", err)
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.consumer, err = mapWords(b.ringbuf.FD(), 0, uint64(page)/8, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return nil, failf(ErrUnsupported, "mmap of a ringbuf: %v", err)
	}
	if b.producer, err = mapWords(b.ringbuf.FD(), int64(page), uint64(page)/8, unix.PROT_READ); err != nil {
		return nil, failf(ErrUnsupported, "mmap of a ringbuf: %v", err)
	}
	if b.cancel, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, failf(ErrUnsupported, "eventfd: %v", err)
	}
	return b, b.makeProgramsLook()
}

// makeProgramsLook puts the bell where programs find it. When this returns, each program looks for sleepers: the kernel has
// waited for an RCU grace period.
func (b *bell) makeProgramsLook() error {
	b.seat.willSleep(b.look)
	if err := b.seat.bells.put(uint32(b.seat.number), b.ringbuf.FD()); err != nil {
		return failf(ErrNotWritable, "bpf(BPF_MAP_UPDATE_ELEM) of %s: %v; it needs write access to this map", b.seat.bells.what, err)
	}
	return nil
}

// arm silences the bell and says that the reader sleeps, until any ticket ends, or those of the watermark. Then the reader must
// check for records.
func (r *reader) arm(b *bell) error {
	b.consumer.store(0, b.producer.load(0))
	for shard := range int(b.seat.readers.shards) {
		b.seat.mem.store(wakeAt(shard, b.seat.number), 0)
	}
	for _, s := range r.shards {
		if count := r.watermark.count; count > 1 && s.number < int(b.seat.readers.shards) {
			b.seat.mem.store(wakeAt(s.number, b.seat.number), watermark(s.next, count)+1)
		}
	}
	b.seat.showsLife()
	b.seat.mem.store(wordIdleSince, 0)
	// A full barrier is between this and the loads of the slots.
	b.seat.mem.set(wordAsleep, 1<<b.seat.number) // SYNC asleep, idle: before it looks for records, and at which tickets programs look
	if b.seat.mem.load(wordLook)&never&^b.look == 0 {
		return nil
	}
	return b.makeProgramsLook() // they had stopped looking: no reader had slept for long
}

func (b *bell) awake() { b.seat.mem.clear(wordAsleep, 1<<b.seat.number) }

// sleep returns when the bell of one of the readers rings, `cancel` is readable, or the time is over.
func sleep(readers []*reader, cancel int, limit time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(cancel), Events: unix.POLLIN}}
	for _, r := range readers {
		fds = append(fds, unix.PollFd{Fd: int32(r.waiting.bell.ringbuf.FD()), Events: unix.POLLIN})
	}
	timeout := unix.NsecToTimespec(int64(limit))
	if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && err != unix.EINTR {
		return failf(ErrUnsupported, "ppoll: %v", err)
	}
	return nil
}

// cancelWith ends a sleep when the context ends. The result undoes it.
func (b *bell) cancelWith(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(b.cancel, binary.NativeEndian.AppendUint64(nil, 1))
		close(done)
	})
	return func() {
		if !stop() {
			<-done // the descriptor may be closed after this
			_, _ = unix.Read(b.cancel, make([]byte, 8))
		}
	}
}

func (b *bell) close() {
	if b.seat.isMine() {
		_ = b.seat.bells.remove(uint32(b.seat.number))
	}
	b.consumer.unmap()
	b.producer.unmap()
	if b.cancel >= 0 {
		_ = unix.Close(b.cancel)
	}
	_ = b.ringbuf.Close()
}
