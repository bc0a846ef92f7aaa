// A position in one shard of a ring, and its steps: docs/abi.md, "Reading a ring". Nothing here allocates. Each step takes a
// bounded number of loads, whatever the memory contains.

package mapring

import "time"

const (
	// A cursor without a record checks for later tickets once in so many steps: `head` is the writers' line.
	checkEvery = 16
	// The cost of a step that searches for the end of the ring, in steps of about 16 loads.
	searchCost = 6
)

// after says whether a comes after b, with wrap-around.
func after(a, b uint64) bool { return int64(a-b) > 0 }

func stateOf(seq uint64) uint64 { return seq &^ discarded }

type outcome uint8

const (
	empty  outcome = iota // no record to read yet
	moved                 // no record, but there may be one further on
	record                // the record is in shard.record
)

// shard is a cursor, and where its shard is.
type shard struct {
	*access
	number        int    // the CPU
	index         uint64 // in its region
	head, slots   uint64 // words from the region's start
	stride, mask  uint64 // words of a slot; slots - 1
	bits          uint
	tailsAt, area uint64
	hasTails      bool

	next     uint64
	waits    int
	patience time.Duration
	waiting  struct {
		since time.Time
		upto  uint64
	}
	stats  Stats
	losses losses
	drops  [len(dropCauses)]drops
	// A time at which nothing was lost yet of the tickets from next on; 0 if there is none.
	whole     uint64
	unclaimed bool // the last step found that no writer had the ticket
	unended   struct {
		ticket  uint64
		noticed time.Time // zero if there is none
	}
	cost   int // of the last step without a record
	told   uint64
	record []uint64 // the private copy of the last record
	tail   []uint64 // room for the longest tail, set by the reader
	length uint64   // of the last tail, in bytes
}

func newShard(a *access, index uint64, number int) *shard {
	l := &a.layout
	s := &shard{access: a, number: number, index: index, head: l.headerAt(index), slots: l.slotsAt(index), stride: l.slot / 8,
		mask: l.capacity - 1, hasTails: l.options.Has(Tails), patience: DefaultPatience, record: make([]uint64, wordsOf(l.record)),
		losses: newLosses(lossesOfShard)}
	for 1<<s.bits < l.capacity {
		s.bits++
	}
	if s.hasTails {
		s.tailsAt, s.area = l.tailsAt(index), l.areaAt(index)
	}
	return s
}

// The states of the slot of t: free for it, being written, ended.
func (s *shard) free(t uint64) uint64    { return t >> s.bits * 2 }
func (s *shard) writing(t uint64) uint64 { return s.free(t) + 1 }
func (s *shard) ended(t uint64) uint64   { return s.free(t) + 2 }

// taken is the ticket that set the slot of t to this state, which is not 0.
func (s *shard) taken(state, t uint64) uint64 { return (state-1)>>1<<s.bits + t&s.mask }

func (s *shard) slotAt(t uint64) uint64 { return s.slots + t&s.mask*s.stride }
func (s *shard) seq(t uint64) uint64    { return s.word(s.slotAt(t)) }

// hint is the last claimed ticket according to `head`, which can have any value.
func (s *shard) hint() uint64 { return s.word(s.head+wordHead)&^pending - 1 }

// lastTaken finds the last claimed ticket, from t if `head` is wrong. False if there is none.
func (s *shard) lastTaken(t uint64) (uint64, bool) {
	from := s.hint()
	if seen := stateOf(s.seq(from)); seen != s.writing(from) && seen != s.ended(from) {
		if seen = stateOf(s.seq(t)); seen == 0 {
			return 0, false
		}
		from = s.taken(seen, t)
	}
	for range walk {
		// All tickets between here and the end are claimed…
		for bit := (s.mask + 1) / 2; bit > 0; bit /= 2 {
			if stateOf(s.seq(from+bit)) > s.free(from+bit) {
				from += bit
			}
		}
		// …except tickets whose slots were stepped over.
		behind, found := uint64(0), uint64(0)
		for gap := uint64(1); gap <= min(tries, s.mask+1); gap++ {
			if found = stateOf(s.seq(from + gap)); found > s.free(from+gap) {
				behind = gap
				break
			}
		}
		if behind == 0 {
			break
		}
		from = s.taken(found, from+behind)
	}
	return from, true
}

// later is how far after t a ticket has ended; 0 if none is found.
func (s *shard) later(t uint64) uint64 {
	u := s.hint()
	for gap := uint64(0); gap <= min(tries, s.mask); gap++ {
		if gap > 0 {
			u = t + gap
		}
		if !after(u, t) {
			continue
		}
		if seen := stateOf(s.seq(u)); !after(s.ended(u), seen) {
			return s.taken(seen, u) - t
		}
	}
	return 0
}

// oldest is the ticket to continue from after t, whose slot has the state of a later lap.
func (s *shard) oldest(t, state uint64) uint64 {
	last, ok := s.lastTaken(s.taken(state, t))
	if !ok {
		last = t
	}
	slots := s.mask + 1
	if to := last + 1 - (slots - slots/8); after(to, t) {
		return to
	}
	return t + 1
}

// begin moves to where a reader starts.
func (s *shard) begin(start Start) {
	if start == First {
		return
	}
	last, ok := s.lastTaken(0)
	switch slots := s.mask + 1; {
	case !ok:
	case start == Now:
		s.next = last + 1
	case last+1 > slots:
		s.next = last + 1 - slots
	}
}

func (s *shard) pass(count *uint64, tickets uint64) outcome {
	*count += tickets
	s.next += tickets
	s.waits = 0
	return moved
}

// take copies the record of t, if its slot stays published meanwhile. Otherwise it returns the slot's sequence.
func (s *shard) take(t uint64) (seen uint64, whole bool) {
	at, published := s.slotAt(t), s.ended(t)
	if s.lookups == nil {
		if seen = s.mem.load(at); seen != published {
			return seen, false
		}
		// SYNC publish, claim: the load of seq comes before these, and they before the second one (words).
		s.mem.copy(s.record, at+1)
		return seen, s.mem.load(at) == published
	}
	words, copies := s.size/8, &s.lookups.copies
	if s.err = s.lookups.lookup(0, at/words); s.err != nil {
		return s.free(t), false
	}
	if seen = copies[0][0]; seen&1 == 0 && seen <= s.free(t) {
		return seen, false // one lookup is enough: a later step looks again
	}
	for i := 1; i < 3; i++ {
		if s.err = s.lookups.lookup(i, at/words); s.err != nil {
			return s.free(t), false
		}
	}
	if seen != published {
		return s.lookups.median(0, 0), false
	}
	copy(s.record, copies[1][1:])
	return seen, copies[2][0] == published
}

// takeTail copies the tail of the copied record. False if it was overwritten.
func (s *shard) takeTail() bool {
	at, length := s.record[0], s.record[1]
	if length > s.longest {
		return false
	}
	// The area ends round_up(longest, 64) bytes behind the place of any position.
	s.mem.copy(s.tail[:wordsOf(length)], s.area+(at&(s.layout.area-1)&^15)/8)
	s.length = length
	// SYNC overwrite: after the copy.
	return s.mem.load(s.tailsAt+wordTailHigh)-at <= s.layout.area
}

// step tries to read the next ticket, or passes it.
func (s *shard) step() (uint64, outcome) {
	t := s.next
	seen, whole := s.take(t)
	if whole {
		if s.hasTails && !s.takeTail() {
			s.cost = 1
			return t, s.lose(LostTail, t+1)
		}
		s.next, s.waits = t+1, 0
		s.stats.Delivered++
		return t, record
	}
	return t, s.without(seen)
}

// without is the step for a ticket that gave no record; seen is the sequence of its slot.
func (s *shard) without(seen uint64) outcome {
	t, state, published := s.next, stateOf(seen), s.ended(s.next)
	s.cost = 1
	switch {
	case s.err != nil:
		return empty
	case seen == published:
		s.stats.Torn++
		return moved
	case seen == published|discarded:
		return s.pass(&s.stats.Discarded, 1)
	case after(state, published):
		s.cost = searchCost
		to := s.oldest(t, state)
		if s.err != nil {
			return empty
		}
		return s.lose(LostLapped, to)
	}
	s.unclaimed = state != published-1
	if s.waits++; s.patience != 0 && s.waits%checkEvery != 0 {
		return empty
	}
	// Being written, or never claimed: has a later ticket ended?
	gap := s.later(t)
	if gap == 0 || s.err != nil {
		return empty
	}
	mayEnd := s.mayEnd(seen)
	// SYNC order: the slot is loaded again after the later ticket's.
	if s.seq(t) != seen {
		return moved
	}
	slots := s.mask + 1
	if s.err != nil || mayEnd && gap < slots-slots/4 && !s.hasWaited(t+gap) {
		return empty
	}
	s.giveUp(seen, mayEnd)
	s.lookPast() // there may be more that it has waited for
	return moved
}

// mayEnd says whether a writer may still end the ticket: it is being written, or its slot is free and a guarded claim, which
// may be about to take it, is in progress.
func (s *shard) mayEnd(seen uint64) bool {
	if seen&1 == 0 {
		return s.word(s.head+wordHead)&pending != 0
	}
	return stateOf(seen) == s.writing(s.next)
}

// hasWaited says whether the wait for this ticket is over. It began with the first call for it, or for an earlier ticket if
// this one was claimed then.
func (s *shard) hasWaited(upto uint64) bool {
	now := time.Now()
	if s.waiting.since.IsZero() || after(s.next, s.waiting.upto) {
		s.waiting.since, s.waiting.upto = now, upto
	}
	return now.Sub(s.waiting.since) >= s.patience
}

// giveUp passes a ticket that has not ended. It is lost only if a writer has it.
func (s *shard) giveUp(seen uint64, hasWriter bool) {
	s.note(seen)
	if hasWriter {
		s.lose(LostSkipped, s.next+1)
	} else {
		s.pass(&s.stats.SteppedOver, 1)
	}
}

// lookPast makes the next step without a record check for later tickets.
func (s *shard) lookPast() { s.waits = checkEvery - 1 }

type unread uint8

const (
	nothing unread = iota
	held           // tickets have ended behind one that has not
	some           // fewer tickets have ended than were asked for
	many
)

// unread is what the next steps would find. count is a watermark.
func (s *shard) unread(count uint64) unread {
	t, seen := s.next, s.seq(s.next)
	if s.err != nil || after(stateOf(seen), s.ended(t)) {
		return many // a whole lap, or an error that the caller shall learn of
	}
	if stateOf(seen) == s.ended(t) {
		// The ticket whose program rings, and no earlier one that may end after it.
		if last := watermark(t, count); count > 1 && after(s.ended(last), stateOf(s.seq(last))) {
			return some
		}
		return many
	}
	gap := s.later(t)
	switch {
	case gap == 0:
		return nothing
	case s.mayEnd(seen) && !s.hasWaited(t+gap):
		return held
	}
	return many
}

// atEnd says whether this is the end of a retired ring, in which no slot is claimed any more. It passes what it has waited for.
func (s *shard) atEnd() bool {
	t := s.next
	seen := s.seq(t)
	if s.err != nil || !after(s.ended(t), stateOf(seen)) {
		return false
	}
	last, ok := s.lastTaken(t)
	ok = ok && !after(t, last)
	isWritten := stateOf(seen) == s.writing(t)
	if s.err != nil {
		return false
	}
	if !isWritten && !ok {
		return true
	}
	if !ok {
		last = t
	}
	if s.hasWaited(last) && s.seq(t) == seen && s.err == nil {
		s.giveUp(seen, isWritten)
	}
	return false
}
