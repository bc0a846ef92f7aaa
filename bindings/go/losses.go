// The losses of a reader: which records it did not get, for which cause, between which tickets, and in which interval.

package mapring

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// LossCause is why a reader did not get records. Stats has a count of each.
type LossCause uint8

// IsDrop says whether programs dropped the records: no reader gets them.
func (c LossCause) IsDrop() bool { return c >= DroppedNoSlot }

func (c LossCause) String() string { return causes[c] }

// Loss is records that a reader did not get, all for one cause. Times are nanoseconds of CLOCK_MONOTONIC, as bpf_ktime_get_ns().
type Loss struct {
	Shard int // -1 if the records have none, or if losses of several shards were merged
	Cause LossCause
	// The tickets among which they are missing: from From up to To, which is not among them. Both are 0 for records without a
	// ticket.
	From, To uint64
	Count    uint64 // the number of records; less than To - From if losses were merged
	// None was lost before this time; 0 if that is not known. In the first loss of each cause that programs dropped records for, it
	// is when the latest spell of drops began, and earlier ones are included.
	Since uint64
	// None was lost after this time.
	Until uint64
}

// String is `shard 1: 12 overwritten, tickets 100 to 111, within 3.2ms`.
func (l Loss) String() string {
	text := fmt.Sprintf("%d %s", l.Count, l.Cause)
	if l.Shard >= 0 {
		text = fmt.Sprintf("shard %d: %s", l.Shard, text)
	}
	if l.To != l.From {
		text += fmt.Sprintf(", tickets %d to %d", l.From, l.To-1)
	}
	if l.Since != 0 {
		text += fmt.Sprintf(", within %v", time.Duration(l.Until-min(l.Since, l.Until)))
	}
	return text
}

// The room of a shard's list, and of that of earlier rings. Both are more than there are causes.
const (
	lossesOfShard = 9
	lossesOfRings = 32
)

// losses is a list with room for some. When it is full, the two oldest of one shard and cause become one, so sums stay exact.
type losses struct{ list []Loss }

func newLosses(most int) losses { return losses{make([]Loss, 0, most)} }

// add appends a loss that was found after all others. A gap that goes on is one loss.
func (l *losses) add(loss Loss) {
	last := len(l.list) - 1
	switch {
	case loss.Count == 0:
		return
	case last >= 0 && l.list[last].isLike(loss) && loss.From != loss.To && l.list[last].To == loss.From:
		l.list[last].merge(loss)
		return
	case last >= 0 && len(l.list) == cap(l.list):
		if !l.mergeTwo(Loss.isLike) {
			l.mergeTwo(func(a, b Loss) bool { return a.Cause == b.Cause })
		}
	}
	l.list = append(l.list, loss)
}

func (l *losses) mergeTwo(alike func(a, b Loss) bool) bool {
	for later := range l.list {
		for earlier := range later {
			if alike(l.list[earlier], l.list[later]) {
				l.list[earlier].merge(l.list[later])
				l.list = slices.Delete(l.list, later, later+1)
				return true
			}
		}
	}
	return false
}

func (l Loss) isLike(other Loss) bool { return l.Shard == other.Shard && l.Cause == other.Cause }

// merge adds a later loss of the same cause.
func (l *Loss) merge(later Loss) {
	if l.Shard != later.Shard || l.From == l.To || later.From == later.To {
		l.From, l.To = 0, 0
	} else {
		l.To = later.To
	}
	if l.Shard != later.Shard {
		l.Shard = -1
	}
	l.Count += later.Count
	l.Since, l.Until = min(l.Since, later.Since), max(l.Until, later.Until)
}

// lose passes the tickets up to `to` as lost.
func (s *shard) lose(cause LossCause, to uint64) outcome {
	s.losses.add(Loss{Shard: s.number, Cause: cause, From: s.next, To: to, Count: to - s.next, Since: s.whole, Until: notBefore()})
	return s.pass(s.stats.of(cause), to-s.next)
}

// drops are the drops in a ring that were reported as losses, for one cause.
type drops struct {
	known  uint64
	looked uint64 // when the count was last read; 0 if never
}

const ahead = uint64(time.Second) // how far the times of programs may be ahead

// more is the drops that were not reported yet. The count and the times, which programs wrote, can have any value.
func (d *drops) more(shard int, cause LossCause, count uint64, before uint64, times func() (began, last uint64)) Loss {
	loss := Loss{Shard: shard, Cause: cause, Count: count - d.known}
	if loss.Count == 0 {
		d.looked = before
		return loss
	}
	began, last := times()
	end := notBefore() + ahead
	if began > end {
		began = 0
	}
	loss.Since = max(began, d.looked)
	if d.looked != 0 && began > d.looked && began-d.looked > spell {
		loss.Since = d.looked // there may have been another spell between
	}
	if loss.Until = last; last < max(loss.Since, 1) || last > end {
		loss.Until = max(notBefore(), loss.Since)
	}
	*d = drops{count, before}
	return loss
}

// dropCauses are those that a shard counts.
var dropCauses = [...]LossCause{DroppedNoSlot, DroppedFull, DroppedNoTail, DroppedTooLong}

// dropped is how many records of a shard programs dropped for one of dropCauses.
func (s *shard) dropped(cause LossCause) uint64 {
	switch {
	case cause == DroppedNoSlot:
		return s.word(s.head + wordNoSlot)
	case cause == DroppedFull && s.options.Has(KeepOldest):
		return s.word(s.head + wordFull)
	case cause == DroppedNoTail && s.hasTails:
		return s.word(s.tailsAt + wordTailNoSpace)
	case cause == DroppedTooLong && s.hasTails:
		return s.word(s.tailsAt + wordTailTooLong)
	}
	return 0
}

// spell is when the latest spell of drops began, and when the last drop was.
func (s *shard) spell() (began, last uint64) {
	return s.word(s.head + wordDropsSince), s.word(s.head + wordDropsUntil)
}

// TakeLosses returns what this reader lost, and what programs dropped, since the last call of it: how many records, for which
// cause, between which tickets, and when; in the order of Until. The sums of their counts are those of Stats, if programs drop
// nothing meanwhile. The first call includes all drops since the ring's start.
//
// The reader keeps a few losses for each shard. If there are more, it merges the oldest ones of a shard and cause: counts stay
// exact, and intervals become longer. TakeLosses allocates, and makes system calls if the ring is not mapped. If one fails, Err
// has it, and a later call includes the drops.
func (r *reader) TakeLosses() []Loss {
	defer runtime.KeepAlive(r)
	all := slices.Clone(r.losses.list)
	r.losses.list = r.losses.list[:0]
	r.collect(func(loss Loss) { all = append(all, loss) })
	slices.SortStableFunc(all, func(a, b Loss) int { return int(int64(a.Until - b.Until)) })
	return all
}

// collect takes the losses of the current ring.
func (r *reader) collect(f func(Loss)) {
	failed := func(err error) bool {
		if err != nil {
			r.err = err
		}
		return err != nil
	}
	for _, s := range r.shards {
		for _, loss := range s.losses.list {
			f(loss)
		}
		s.losses.list = s.losses.list[:0]
		for i, cause := range dropCauses {
			before := notAfter()
			if count := s.dropped(cause); !failed(s.takeErr()) {
				if loss := s.drops[i].more(s.number, cause, count, before, s.spell); loss.Count != 0 {
					f(loss)
				}
			}
		}
	}
	if before, count := notAfter(), r.noShard(); r.err == nil {
		none := func() (uint64, uint64) { return 0, 0 }
		if loss := r.noShards.more(-1, DroppedNoShard, count, before, none); loss.Count != 0 {
			f(loss)
		}
	}
}

// reported is the counts that the losses so far add up to.
func (r *reader) reported() Stats {
	sum := r.past
	sum.NoShard += r.noShards.known
	for _, s := range r.shards {
		sum.add(s.stats)
		for i, cause := range dropCauses {
			*sum.of(cause) += s.drops[i].known
		}
	}
	return sum
}

// The clock that programs read is Go's own, plus what it was when both were read: so its readings take no system call.
var bothClocks = sync.OnceValue(func() (c struct {
	begun       time.Time
	early, late uint64 // CLOCK_MONOTONIC before and after that
}) {
	for try := range 8 {
		early, begun, late := monotonic(), time.Now(), monotonic()
		if try == 0 || late-early < c.late-c.early {
			c.begun, c.early, c.late = begun, early, late
		}
	}
	return c
})

// notAfter is a time of CLOCK_MONOTONIC that has passed.
func notAfter() uint64 { c := bothClocks(); return c.early + uint64(time.Since(c.begun)) }

// notBefore is one that is not before now.
func notBefore() uint64 { c := bothClocks(); return c.late + uint64(time.Since(c.begun)) }

// looks at the clock are made after so many turns of all shards, or after each if turns are rare.
const turnsBetween = 64

// turned is called when all shards had their turn.
func (r *reader) turned() {
	if r.untilClock--; r.untilClock > 0 {
		return
	}
	now := notAfter()
	if r.untilClock = turnsBetween; now-r.clock >= uint64(time.Millisecond) {
		r.untilClock = 1
	}
	r.clock = now
}
