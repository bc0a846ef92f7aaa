// The counts of a reader: what it delivered and lost, and what programs dropped.

package mapring

import (
	"fmt"
	"runtime"
	"strings"
)

// Stats are the counts of a ring's records, by outcome. The tickets that a reader has passed are Delivered + Lost() + Discarded
// + SteppedOver. A dropped record has no ticket: programs count it, for all readers, from the ring's start.
type Stats struct {
	Delivered   uint64
	Lapped      uint64 // overwritten before they were read
	Skipped     uint64 // not ended while later records had
	TailLost    uint64 // whose tail was overwritten before it was read
	Discarded   uint64 // by programs; not lost
	SteppedOver uint64 // tickets that no program had; not lost
	Torn        uint64 // copies thrown away; the ticket counts as lapped
	NoSlot      uint64 // dropped: no slot was free
	Full        uint64 // dropped: a required reader had not read the oldest
	NoShard     uint64 // dropped: the CPU had no shard, or the ring was not initialized
	NoTail      uint64 // dropped: no space for a tail
	TooLong     uint64 // refused: the tail was too long
	Late        uint64 // of a merging reader: delivered after a later stamp
	Ahead       uint64 // of a merging reader: stamps beyond its clock
}

// Lost is the number of records that this reader lost.
func (s Stats) Lost() uint64 { return s.Lapped + s.Skipped + s.TailLost }

// Dropped is the number of records that programs dropped. No reader gets them.
func (s Stats) Dropped() uint64 { return s.NoSlot + s.Full + s.NoShard + s.NoTail + s.TooLong }

// Passed is the number of tickets that the reader has passed.
func (s Stats) Passed() uint64 { return s.Delivered + s.Lost() + s.Discarded + s.SteppedOver }

func (s *Stats) add(more Stats) {
	s.Delivered += more.Delivered
	s.Discarded += more.Discarded
	s.SteppedOver += more.SteppedOver
	s.Torn += more.Torn
	for cause := LostLapped; cause <= DroppedTooLong; cause++ {
		*s.of(cause) += *more.of(cause)
	}
}

// of is the count of a cause.
func (s *Stats) of(cause LossCause) *uint64 {
	return [...]*uint64{&s.Lapped, &s.Skipped, &s.TailLost, &s.NoSlot, &s.Full, &s.NoShard, &s.NoTail, &s.TooLong}[cause]
}

// String is `5 delivered, 2 lost (1 overwritten, 1 skipped), 1 dropped (1 no free slot)`.
func (s Stats) String() string {
	text := fmt.Sprintf("%d delivered", s.Delivered)
	list := func(word string, sum uint64, first, last LossCause) {
		text += fmt.Sprintf(", %d %s", sum, word)
		var parts []string
		for cause := first; cause <= last; cause++ {
			if count := *s.of(cause); count != 0 {
				parts = append(parts, fmt.Sprintf("%d %s", count, cause))
			}
		}
		if parts != nil {
			text += " (" + strings.Join(parts, ", ") + ")"
		}
	}
	list("lost", s.Lost(), LostLapped, LostTail)
	list("dropped", s.Dropped(), DroppedNoSlot, DroppedTooLong)
	if s.SteppedOver != 0 {
		text += fmt.Sprintf(", %d stepped over", s.SteppedOver)
	}
	if s.Late != 0 {
		text += fmt.Sprintf(", %d late", s.Late)
	}
	if s.Ahead != 0 {
		text += fmt.Sprintf(", %d ahead of the clock", s.Ahead)
	}
	return text
}

// Stats are the counts of all shards, and of the rings before this one. By system call it makes three for each shard; if one
// fails, Err has it.
func (r *reader) Stats() Stats {
	defer runtime.KeepAlive(r)
	sum := r.past
	for _, s := range r.shards {
		sum.add(s.counts())
	}
	sum.NoShard += r.noShard()
	if m := r.merge; m != nil {
		sum.Delivered -= m.held() // not yet
		sum.Late, sum.Ahead = m.late, m.ahead
	}
	return sum
}

// noShard is the drops in all regions of the ring for want of a shard.
func (r *reader) noShard() (sum uint64) {
	for _, part := range r.parts {
		a := r.accessOf(part)
		sum += a.word(wordDropped)
		if err := a.takeErr(); err != nil {
			r.err = err
		}
	}
	return sum
}

func (r *reader) accessOf(part part) *access {
	for _, s := range r.shards {
		if s.region == part.region {
			return s.access
		}
	}
	return part.access()
}

// Position is the next ticket of a shard that this reader will deliver or pass; false if it does not read the shard.
func (r *reader) Position(number int) (ticket uint64, ok bool) {
	for at, s := range r.shards {
		if s.number == number {
			if r.merge != nil {
				return r.merge.runs[at].unread(s.next), true
			}
			return s.next, true
		}
	}
	return 0, false
}

// ShardStats are the counts of one shard of the current ring.
func (r *reader) ShardStats(number int) (Stats, bool) {
	defer runtime.KeepAlive(r)
	for at, s := range r.shards {
		if s.number == number {
			stats := s.counts()
			if m := r.merge; m != nil {
				stats.Delivered -= uint64(m.runs[at].count) // not yet
			}
			if err := s.takeErr(); err != nil {
				r.err = err
			}
			return stats, true
		}
	}
	return Stats{}, false
}

// counts are the reader's counts and the programs' of a shard.
func (s *shard) counts() Stats {
	sum := s.stats
	for _, cause := range dropCauses {
		*sum.of(cause) = s.dropped(cause)
	}
	return sum
}

// DropTimes are when the latest spell of drops in a shard began, and when the last drop was, in nanoseconds of CLOCK_MONOTONIC;
// 0 if there was none.
func (r *reader) DropTimes(number int) (began, last uint64) {
	defer runtime.KeepAlive(r)
	for _, s := range r.shards {
		if s.number == number {
			return s.spell()
		}
	}
	return 0, 0
}
