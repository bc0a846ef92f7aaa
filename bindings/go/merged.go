// Merges the records of several rings in the order of their stamps.

package mapring

import (
	"context"
	"math"
	"runtime"
)

// Merged reads several rings, each by a reader that merges its CPUs (Merge), and delivers all records in the order of their stamps.
// So important records can have a ring of their own, which a flood of others does not overwrite.
//
// A record is delivered once no earlier one can come from any of the rings: what Merge says of the shards of a ring holds for all
// shards of all rings. A record that comes after a later stamp, of whichever ring, is delivered and counts as Late. The readers
// keep their methods: Stats, TakeLosses, Err, Require and others are those of one ring. Read them by Merged alone.
type Merged struct {
	turns []turn
	last  uint64 // the latest stamp that was delivered
}

// MergedRing is a reader of a Merged, and the function that gets its records: Reader.To makes one.
type MergedRing interface {
	base() *reader
	deliver(s *shard, ticket uint64)
}

// turn is a ring with its next record.
type turn struct {
	ring MergedRing
	*reader
	at    int    // the record's shard, or -1: there is none for now
	bound uint64 // its stamp; or if there is none, no earlier stamp can come
	begun bool   // the round of this call
}

type mergedRing[T any] struct {
	*Reader[T]
	to    func(event *Event[T])
	event Event[T]
}

func (m *mergedRing[T]) base() *reader { return &m.Reader.reader }

func (m *mergedRing[T]) deliver(s *shard, ticket uint64) {
	m.put(&m.event, s, ticket)
	m.to(&m.event)
}

// To names the function that gets the records of this reader from a Merged. An event is valid until the function returns.
func (r *Reader[T]) To(f func(event *Event[T])) MergedRing { return &mergedRing[T]{Reader: r, to: f} }

// NewMerged merges readers, for each of which Merge was called, with the same clock.
func NewMerged(rings ...MergedRing) (*Merged, error) {
	m := &Merged{}
	for at, ring := range rings {
		r := ring.base()
		switch {
		case r.merge == nil:
			return nil, failf(ErrUnsupported, "ring %d: its reader does not merge its shards: call Merge first", at)
		case r.merge.clock != rings[0].base().merge.clock:
			return nil, failf(ErrUnsupported, "ring %d: its stamps are of another clock than those of ring 0", at)
		}
		m.turns = append(m.turns, turn{ring: ring, reader: r, at: -1})
	}
	return m, nil
}

// Read delivers up to limit records that are present, and returns their number. It ends even if programs are faster. Makes no system
// call if all rings are mapped.
func (m *Merged) Read(limit int) (n int) {
	most := 0
	for i := range m.turns {
		t := &m.turns[i]
		t.err, t.begun = nil, false
		t.look()
		for _, s := range t.shards {
			most += int(s.mask) + 1 + heldMost
		}
	}
	for limit = min(limit, most); n < limit; {
		t := m.first()
		if t == nil || t.at < 0 && t.begun {
			break
		}
		if t.at < 0 {
			t.begin()
			continue
		}
		t.merge.last = m.last
		s, ticket := t.take(t.at)
		m.last = t.merge.last
		t.ring.deliver(s, ticket)
		n++
		t.look()
	}
	for i := range m.turns {
		if r := m.turns[i].reader; r.required != nil {
			for _, s := range r.shards {
				r.tell(s, true)
			}
		}
	}
	runtime.KeepAlive(m)
	return n
}

// first is the ring with the earliest stamp, or the one that may still get an earlier one. The first of several.
func (m *Merged) first() (found *turn) {
	for i := range m.turns {
		t := &m.turns[i]
		if found == nil || t.bound < found.bound || t.bound == found.bound && t.at < 0 && found.at >= 0 {
			found = t
		}
	}
	return found
}

// look finds the next record of the ring in this round.
func (t *turn) look() {
	t.at, t.bound = -1, math.MaxUint64
	if t.closed.Load() {
		t.err, t.begun = t.closedErr(), true
		return
	}
	if t.longest > 0 {
		t.makeRoom(true)
	}
	t.merge.steps = t.limit
	if t.at = t.reader.first(); t.at >= 0 {
		t.bound = t.merge.runs[t.at].held[0].stamp
		return
	}
	t.bound = t.merge.limit
	if t.merge.steps <= 0 {
		t.stoppedEarly, t.begun = true, true
	}
}

// begin begins a round, in the next ring if this one was replaced and nothing of it is left.
func (t *turn) begin() {
	t.begun = true
	for range maxRings {
		t.round()
		if t.look(); t.at >= 0 || t.err != nil || !t.followOn() {
			return
		}
	}
}

// Wait returns nil once there may be records to read, or the context's error when it ends. It sleeps until a program of any ring
// rings, if all rings are WAKEABLE and have a bell (Bell). Otherwise it naps between two checks, for 1 ms at most.
func (m *Merged) Wait(ctx context.Context) error {
	readers := make([]*reader, len(m.turns))
	for i := range m.turns {
		readers[i] = m.turns[i].reader
	}
	return wait(ctx, readers)
}

// Err is a system call that failed in the last Read, if one did: the readers say which ring's.
func (m *Merged) Err() error {
	for i := range m.turns {
		if err := m.turns[i].err; err != nil {
			return err
		}
	}
	return nil
}

// StoppedEarly says whether a call since the last one of StoppedEarly ended after many thousand tickets without a record. There may
// be records further on: read again before waiting.
func (m *Merged) StoppedEarly() (stopped bool) {
	for i := range m.turns {
		stopped = m.turns[i].StoppedEarly() || stopped
	}
	return stopped
}
