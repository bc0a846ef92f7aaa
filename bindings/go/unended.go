// Records that were reserved and that no program ends.

package mapring

import (
	"fmt"
	"runtime"
	"time"
)

// Unended is a record that a program reserved and has not ended, although later ones have ended. Either the program was interrupted
// for that long, or nothing ends the record: then its slot is unusable for good.
type Unended struct {
	Shard   int
	Ticket  uint64
	Noticed time.Duration // for how long the reader has known it
}

// String is `shard 3: the record of ticket 7 has been reserved for 12s or more and not ended; a path of the program has no commit`.
func (u Unended) String() string {
	long := ""
	if u.Noticed >= time.Second {
		long = fmt.Sprintf("for %ds or more ", u.Noticed/time.Second)
	}
	return fmt.Sprintf("shard %d: the record of ticket %d has been reserved %sand not ended; a path of the program has no commit",
		u.Shard, u.Ticket, long)
}

// Unended lists the records that no program has ended: at most one for each shard, and only those that this reader passed, or whose
// slots it found taken. It makes system calls if the ring is not mapped.
func (r *reader) Unended() (list []Unended) {
	defer runtime.KeepAlive(r)
	for _, s := range r.shards {
		if s.isUnended() {
			list = append(list, Unended{s.number, s.unended.ticket, time.Since(s.unended.noticed)})
		}
		if err := s.takeErr(); err != nil {
			r.err = err
		}
	}
	return list
}

// isUnended says whether the ticket in `unended` still is.
func (s *shard) isUnended() bool {
	u := s.unended
	return !u.noticed.IsZero() && stateOf(s.seq(u.ticket)) == s.writing(u.ticket)
}

// note remembers the ticket that holds the next slot, whose sequence is seen, unless an earlier one is unended still.
func (s *shard) note(seen uint64) {
	if seen&1 == 1 && !s.isUnended() {
		s.unended.ticket, s.unended.noticed = s.taken(stateOf(seen), s.next), time.Now()
	}
}
