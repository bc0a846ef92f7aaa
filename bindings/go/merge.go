// Delivers the records of all shards in the order of their stamps.
//
// A program stamps a record after it has claimed its ticket. So a ticket that is claimed after the reader read the clock has a
// later stamp. Of any nine tickets of a shard before one that was not read yet, one was stamped before that one was claimed, unless
// more than eight programs of that CPU were between claim and stamp at the same time. So while a shard has more to read, the reader
// holds more than that many of its records, sorted by stamp: the ninth from the end is not later than any that follows
// (ring/core/src/protocol/ring/merge has the whole argument).

package mapring

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the clock from which programs read their stamps.
type Clock int32

// The clocks of bpf_ktime_get_ns, bpf_ktime_get_boot_ns and bpf_ktime_get_tai_ns.
const (
	Monotonic Clock = unix.CLOCK_MONOTONIC
	Boottime  Clock = unix.CLOCK_BOOTTIME
	TAI       Clock = unix.CLOCK_TAI
)

// now is a time that has passed, as programs read it. Only that of Monotonic takes no system call.
func (c Clock) now() uint64 {
	if c == Monotonic {
		return notAfter()
	}
	var now unix.Timespec
	_ = unix.ClockGettime(int32(c), &now)
	ns := now.Nano()
	if c == Boottime {
		ns -= aheadOf("boottime")
	}
	return uint64(ns)
}

// DefaultDelay is how long a record that is being written holds back later ones of other shards.
const DefaultDelay = 10 * time.Millisecond

const (
	claims   = 8  // the most programs of a CPU between claim and stamp
	heldMost = 64 // records of a shard
	// How long a claim may take to become visible after its program read the clock, in nanoseconds.
	settle = 10_000
)

// merge is what a reader needs to merge.
type merge struct {
	clock       Clock
	stamp       func(record []uint64) uint64
	delay       uint64
	runs        []*shardRun // of each shard
	now         uint64      // when the round began
	limit       uint64      // records with earlier stamps can be delivered
	last        uint64
	late, ahead uint64
	inUse       bool // no later record can be in another ring
	nap         time.Duration
	steps       int // that remain without a record
}

// shardRun is the records that are held of a shard, sorted by stamp.
type shardRun struct {
	held  [heldMost]*heldRecord // the first `count`; the others are free
	count int
	done  bool   // in this round
	floor uint64 // no record that was not read yet has an earlier stamp
}

type heldRecord struct {
	stamp, ticket uint64
	record, tail  []uint64
	length        uint64 // bytes of the tail
}

// Merge makes the reader deliver the records of all shards in the order of their stamps, which programs read from this clock after
// they have claimed a record. Stats counts those that came late, after a record with a later stamp: only a program that takes
// longer than the delay (SetDelay) between claim and commit makes them, or stamps of another clock. The reader holds up to 64
// records of each shard. A record is delivered 10 µs after its stamp or later, so Wait naps while records are held.
//
// Call it before the first read. Reading then calls the clock for each round of records, without a system call if it is Monotonic.
func (r *Reader[T]) Merge(clock Clock, stamp func(record *T) uint64) {
	record, prefix := new(T), 0
	m := &merge{clock: clock, delay: uint64(DefaultDelay), nap: settle}
	for _, s := range r.shards {
		if s.hasTails {
			prefix = tailPrefix / 8
		}
		run := &shardRun{done: true}
		for i := range run.held {
			run.held[i] = &heldRecord{record: make([]uint64, len(s.record))}
		}
		m.runs = append(m.runs, run)
	}
	m.stamp = func(words []uint64) uint64 {
		decode(record, words[prefix:])
		return stamp(record)
	}
	r.merge = m
}

// SetDelay sets how long a merging reader holds back records while a program writes one that may have an earlier stamp; 10 ms by
// default.
func (r *reader) SetDelay(delay time.Duration) {
	if r.merge != nil {
		r.merge.delay = uint64(max(delay, 0))
	}
}

// round begins a round: what was claimed before it can be delivered in it.
func (r *reader) round() {
	m := r.merge
	r.clock = notAfter()
	m.now = max(m.now, m.clock.now())
	fence() // SYNC clock: the clock is read before the ends of the shards
	m.limit = m.now - settle
	m.inUse = r.inUse()
	for _, run := range m.runs {
		run.done = false
		// Programs that use another clock: delivered soon.
		for at := run.count - 1; at >= 0 && run.held[at].stamp > m.now+settle; at-- {
			run.held[at].stamp = m.now + settle
			m.ahead++
		}
	}
}

// inUse says whether records are written to this ring only: false once another is replacing it.
func (r *reader) inUse() bool {
	if !r.parts[0].options.Has(Resizable) {
		return true
	}
	a := r.shards[0].access
	gate := a.word(wordGate)
	return a.err == nil && gate&0xff == gateOpen && gate&gateLeaving == 0
}

// nextMerged takes the next record that can be delivered, into the private memory of its shard.
func (r *reader) nextMerged() (*shard, uint64) {
	m := r.merge
	m.steps = r.limit
	for try := range 2 {
		if at := r.first(); at >= 0 {
			return r.take(at)
		}
		if m.steps <= 0 {
			r.stoppedEarly = true
			break
		}
		if r.err != nil || try == 1 {
			break
		}
		r.round()
	}
	if r.required != nil {
		for _, s := range r.shards {
			r.tell(s, true)
		}
	}
	return nil, 0
}

// first is the shard whose first record is the next one, and can be delivered; -1 if there is none.
func (r *reader) first() int {
	m, found, first := r.merge, -1, ^uint64(0)
	for i, run := range m.runs {
		if !run.done && run.count <= claims+1 {
			r.fill(r.shards[i], run)
		}
		if run.count > 0 && run.held[0].stamp < first {
			first, found = run.held[0].stamp, i
		}
	}
	if first >= m.limit {
		return -1
	}
	return found
}

// fill reads on in a shard.
func (r *reader) fill(s *shard, run *shardRun) {
	m, end := r.merge, false
	run.done = true
	for m.steps > 0 {
		if run.count == heldMost {
			run.done = false
			break
		}
		if end = s.nothingClaimed() && s.err == nil; end || s.err != nil {
			break
		}
		if s.hasTails {
			s.tail = r.tails[len(r.tails):cap(r.tails)]
		}
		ticket, outcome := s.step()
		if outcome == record {
			run.insert(m, s, ticket)
			continue
		}
		if m.steps -= s.cost; outcome == empty {
			end = s.nothingClaimed() && s.err == nil
			break
		}
	}
	if err := s.takeErr(); err != nil {
		r.err = err
	}
	if run.count > claims {
		run.floor = max(run.floor, run.held[run.count-claims-1].stamp)
	}
	if end {
		s.whole = r.clock
	}
	if end && m.inUse {
		run.floor = max(run.floor, m.now-settle)
	} else if run.done {
		m.limit = min(m.limit, max(run.floor, m.now-min(m.delay, m.now)))
	}
}

// insert holds the record that was just copied, in its place.
func (run *shardRun) insert(m *merge, s *shard, ticket uint64) {
	h := run.held[run.count]
	h.record, s.record = s.record, h.record
	h.ticket, h.stamp = ticket, min(m.stamp(h.record), ^uint64(0)-1)
	if s.hasTails {
		h.tail, h.length = append(h.tail[:0], s.tail[:wordsOf(s.length)]...), s.length
	}
	to := run.count
	for ; to > 0 && run.held[to-1].stamp > h.stamp; to-- {
		run.held[to] = run.held[to-1]
	}
	run.held[to] = h
	run.count++
}

// take takes the first record of a shard.
func (r *reader) take(at int) (*shard, uint64) {
	m, s, run := r.merge, r.shards[at], r.merge.runs[at]
	h := run.held[0]
	copy(run.held[:], run.held[1:run.count])
	run.count--
	run.held[run.count] = h
	h.record, s.record = s.record, h.record
	if s.hasTails {
		s.tail = r.tails[len(r.tails):cap(r.tails)]
		copy(s.tail, h.tail)
		s.length = h.length
	}
	if h.stamp < m.last {
		m.late++
	}
	m.last, m.nap = max(m.last, h.stamp), settle
	if r.required != nil {
		r.tell(s, false)
	}
	return s, h.ticket
}

// unread is the next ticket of a shard that was not delivered.
func (run *shardRun) unread(next uint64) uint64 {
	for _, h := range run.held[:run.count] {
		if after(next, h.ticket) {
			next = h.ticket
		}
	}
	return next
}

// held is the number of records that were read and not delivered.
func (m *merge) held() (count uint64) {
	for _, run := range m.runs {
		count += uint64(run.count)
	}
	return count
}

// nothingClaimed says whether no ticket from the next one on was claimed when this call began.
func (s *shard) nothingClaimed() bool {
	t := s.next
	if after(stateOf(s.seq(t)), s.free(t)) {
		return false
	}
	// A guarded claim that was interrupted between `head` and the slot leaves a free slot before later tickets.
	if !after(s.word(s.head+wordHead)&^pending, t) {
		return true
	}
	last, ok := s.lastTaken(t)
	return !ok || after(t, last)
}
