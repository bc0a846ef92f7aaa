// Goes on in the ring that replaced a resizable one: docs/abi.md, "Resizable rings".

package mapring

// followOn is called after nothing was found: it continues with the ring that replaced this one, once this one is read to its
// end. It says whether there may be records now (docs/abi.md, "Resizable rings").
func (r *reader) followOn() bool {
	old := r.parts[0]
	if r.err != nil || !old.options.Has(Resizable) || r.gate() != gateRetired {
		return false
	}
	for _, s := range r.shards {
		if !s.atEnd() {
			return false
		}
	}
	if !old.origin.isKnown() {
		return false
	}
	next, err := old.origin.open()
	if err != nil {
		r.err = err
		return false
	}
	if next.info.id == old.info.id {
		next.close()
		return false
	}
	if next.kind != KindRing || next.record != old.record || next.shards != old.shards {
		r.err = failf(ErrWrongType, "%s replaced the ring that is read, but it holds %s, expected %s", next.what, &next.layout, &old.layout)
		next.close()
		return false
	}
	a := next.access()
	before := a.word(wordBefore)
	missed := before - r.tickets()
	for _, err := range []error{a.takeErr(), r.shards[0].takeErr()} {
		if err != nil {
			r.err = err
		}
	}
	if r.err != nil || before&counting != 0 { // the resize is unfinished
		next.close()
		return false
	}
	r.collect(r.losses.add)
	past := r.reported()
	if int64(missed) > 0 { // rings that came and went meanwhile
		past.Lapped += missed
		r.losses.add(Loss{Shard: -1, Cause: LostLapped, Count: missed, Until: notBefore()})
	}
	r.past = past
	r.rings++
	r.mu.Lock()
	if r.waiting.bell == nil {
		r.waiting = waiting{} // the next ring may have a bell for it
	}
	r.mu.Unlock()
	next.share()
	r.enter([]part{{0, next}}, First)
	return true
}

// gate is the state of the ring's gate for readers.
func (r *reader) gate() uint64 {
	a := r.shards[0].access
	gate := a.word(wordGate) // SYNC retired: all claims come before
	if err := a.takeErr(); err != nil {
		r.err = err
		return 0
	}
	if gate&gateLeaving != 0 && gate&0xff == gateOpen {
		return gateClosing
	}
	return gate & 0xff
}

// tickets is the number of tickets in all rings up to the end of this one.
func (r *reader) tickets() uint64 {
	sum := r.shards[0].word(wordBefore) &^ counting
	for _, s := range r.shards {
		sum += s.word(s.head + wordEnd)
	}
	return sum
}
