// Reads a ring.

package mapring

import (
	"context"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Start is where a reader starts in each shard.
type Start uint8

// A reader starts at the oldest record that is present, at the first one that is published from now on, or at the first one of
// the ring: then records that are already overwritten count as lost.
const (
	Oldest Start = iota
	Now
	First
)

// DefaultPatience is how long a reader waits for a record that was not committed while later records are present.
const DefaultPatience = 10 * time.Millisecond

const (
	burst       = 64      // records in a row from one shard
	steps       = 1 << 14 // without a record in one call; fewer by system call
	stepsByCall = 1 << 11
	maxRings    = 16 // that one call continues with
)

// Event is a record with its shard and ticket.
type Event[T any] struct {
	Shard  int    // the CPU, if programs write the ring
	Ticket uint64 // the record's number in its shard, from 0
	Record T
	// Tail is the tail of the record, in a ring with TAILS. It is memory of the reader: valid until the reader's next call.
	Tail []byte
}

// Reader is a position in each shard of a ring, and counts. It is for one goroutine at a time; make a reader for each. Another one may
// Close it: then Wait ends, and everything returns or has (Err) an error that is os.ErrClosed. Reading a mapped ring makes no system call, allocates nothing, and writes nothing to the ring.
type Reader[T any] struct{ reader }

// reader is all of it that does not depend on the type of the records.
type reader struct {
	parts        []part
	shards       []*shard
	turn, run    int
	limit        int // steps without a record in one call
	stoppedEarly bool
	err          error
	tails        []uint64 // the tails of the events of one call
	longest      uint64   // words
	past         Stats    // of the rings before this one
	rings        int
	start        Start
	patience     time.Duration
	waiting      waiting
	watermark    struct {
		count uint64
		age   time.Duration
	}
	required   *seat
	merge      *merge // nil if each shard has its turn
	losses     losses // of the rings before this one
	noShards   drops
	clock      uint64 // a time that has passed
	untilClock int    // turns of all shards until it is read again
	closed     atomic.Bool
	life       context.Context // until Close
	die        context.CancelFunc
	mu         sync.Mutex // of the bell and the seat, with which other goroutines have to do in Close alone
}

// Reader makes a reader that starts there.
func (r *Ring[T]) Reader(start Start) *Reader[T] {
	reader := &Reader[T]{reader: reader{start: start, patience: DefaultPatience, rings: 1, losses: newLosses(lossesOfRings)}}
	reader.life, reader.die = context.WithCancel(context.Background())
	reader.watermark.count, reader.watermark.age = 1, longest
	reader.enter(r.parts, start)
	if r.closed.Load() {
		reader.Close()
	}
	return reader
}

// enter begins to read the parts of a ring, which it owns from now on.
func (r *reader) enter(parts []part, start Start) {
	r.parts, r.shards, r.turn, r.run, r.limit = parts, nil, 0, 0, steps
	r.clock, r.noShards = notAfter(), drops{}
	for _, part := range parts {
		a := part.access()
		if !part.mapped() {
			r.limit = stepsByCall
		}
		r.longest = wordsOf(part.longest)
		for index := range part.shards {
			s := newShard(a, index, part.number+int(index))
			s.patience = r.patience
			if start != First {
				s.whole = notAfter()
			}
			s.begin(start)
			s.told = s.next
			r.shards = append(r.shards, s)
		}
	}
}

// SetPatience sets how long the reader waits for a record whose writer was interrupted, or died, while later records are
// present. Then it counts the record as skipped. With 0 it does not wait.
func (r *reader) SetPatience(patience time.Duration) {
	r.patience = patience
	for _, s := range r.shards {
		s.patience = patience
	}
}

// Next returns the next record, if there is one: up to 64 in a row from one shard, then from the next. False means that there
// is no record for now, or that a system call failed (Err), or that the call stopped early (StoppedEarly).
func (r *Reader[T]) Next() (event Event[T], ok bool) {
	ok = r.read(&event, true)
	return event, ok
}

// read fills an event. The tails of earlier events stay valid unless it is the first one of a call.
func (r *Reader[T]) read(event *Event[T], isFirst bool) bool {
	s, ticket := r.next(isFirst)
	runtime.KeepAlive(r)
	if s == nil {
		return false
	}
	r.put(event, s, ticket)
	if s.hasTails {
		r.tails = r.tails[:uint64(len(r.tails))+wordsOf(s.length)]
	}
	return true
}

// put puts the record that was just taken from a shard into an event.
func (r *Reader[T]) put(event *Event[T], s *shard, ticket uint64) {
	event.Shard, event.Ticket = s.number, ticket
	if !s.hasTails {
		decode(&event.Record, s.record)
		return
	}
	decode(&event.Record, s.record[tailPrefix/8:])
	event.Tail = bytesOf(s.tail, s.length)
}

// ReadBatch fills events with the next records, and returns their number. The tails of all of them are valid until the next call.
func (r *Reader[T]) ReadBatch(events []Event[T]) (n int) {
	for n < len(events) && r.read(&events[n], n == 0) {
		n++
	}
	return n
}

// Drain iterates over the records that are present: at most as many as the ring has slots, even if programs are faster.
func (r *Reader[T]) Drain() iter.Seq[Event[T]] {
	return func(yield func(Event[T]) bool) {
		var event Event[T]
		for _, s := range r.shards {
			for range s.mask + 1 {
				if !r.read(&event, true) || !yield(event) {
					return
				}
			}
		}
	}
}

// next takes the next record, into the private memory of its shard.
func (r *reader) next(isFirst bool) (*shard, uint64) {
	if r.err != nil {
		r.err = nil
	}
	if r.closed.Load() {
		r.err = r.closedErr()
		return nil, 0
	}
	if r.longest > 0 {
		r.makeRoom(isFirst)
	}
	for range maxRings {
		if s, ticket := r.search(); s != nil {
			return s, ticket
		}
		if len(r.shards) == 0 || !r.followOn() {
			break
		}
	}
	return nil, 0
}

func (r *reader) search() (*shard, uint64) {
	if r.merge != nil {
		return r.nextMerged()
	}
	left := r.limit
	for empties := 0; empties < len(r.shards); {
		s := r.shards[r.turn]
		if r.run >= burst {
			r.advance(s)
			continue
		}
		if s.hasTails {
			s.tail = r.tails[len(r.tails):cap(r.tails)]
		}
		ticket, outcome := s.step()
		switch outcome {
		case record:
			r.run++
			if r.required != nil {
				r.tell(s, false)
			}
			return s, ticket
		case empty:
			if s.err != nil {
				r.err = s.takeErr()
				return nil, 0
			}
			if empties++; s.unclaimed {
				s.whole = r.clock // when it was read, or later, there was no more
			}
			r.advance(s)
		default:
			if left -= s.cost; left <= 0 {
				r.stoppedEarly = true
				r.advance(s)
				return nil, 0
			}
		}
	}
	return nil, 0
}

// advance gives the turn to the next shard.
func (r *reader) advance(s *shard) {
	if r.required != nil {
		r.tell(s, true)
	}
	r.run = 0
	if r.turn++; r.turn == len(r.shards) {
		r.turn = 0
		r.turned()
	}
}

// makeRoom makes room for the longest tail. The tails of earlier events of the call keep theirs.
func (r *reader) makeRoom(isFirst bool) {
	if isFirst {
		r.tails = r.tails[:0]
	}
	if uint64(cap(r.tails)-len(r.tails)) < r.longest {
		r.tails = make([]uint64, 0, max(uint64(2*cap(r.tails)), r.longest))
	}
}

// Err is the system call that failed in the last call of this reader, if one did. On a mapped ring none can.
func (r *reader) Err() error { return r.err }

// StoppedEarly says whether a call since the last one of StoppedEarly ended after many thousand tickets without a record. There
// may be records further on: read again before waiting.
func (r *reader) StoppedEarly() bool {
	stopped := r.stoppedEarly
	r.stoppedEarly = false
	return stopped
}

// Rings is how many rings were read, including this one: 1, unless the ring was resized.
func (r *reader) Rings() int { return r.rings }

// Close ends the reader, and a Wait of it in another goroutine, and gives its seat back. Counts remain.
func (r *reader) Close() error {
	if r.closed.Swap(true) {
		return r.closedErr()
	}
	r.die()
	r.mu.Lock() // until Wait has ended
	defer r.mu.Unlock()
	r.leave()
	return nil
}

func (r *reader) closedErr() error { return closed("the reader") }
