package mapring

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Record is `struct rec` of options.bpf.c.
type rec struct{ N, Twice uint64 }

// slots of its rings.
const optionSlots = 64

var ringNames = []string{"plain", "wakes", "keeps", "tails", "wakes_tails", "keeps_tails", "plain_of_cpu", "wakes_of_cpu",
	"keeps_of_cpu", "tails_of_cpu", "wakes_tails_of_cpu", "keeps_tails_of_cpu", "grows"}

// push runs the program of a ring, and says whether it reserved a record.
func push(t testing.TB, coll *ebpf.Collection, ring string, n uint64, discard bool) bool {
	t.Helper()
	how := uint64(0)
	if discard {
		how = 1
	}
	result, _ := run(t, coll, "push_"+ring, n, how)
	return result == 1
}

// whole checks what each record of options.bpf.c has.
func whole(t testing.TB, ring string, event Event[rec]) {
	t.Helper()
	want := []byte(nil)
	if strings.Contains(ring, "tails") {
		want = bytes.Repeat([]byte{byte(event.Record.N)}, int(event.Record.N%(64+1)))
	}
	if event.Record.Twice != 2*event.Record.N || !bytes.Equal(event.Tail, want) {
		t.Fatalf("%s: torn: %v", ring, event)
	}
}

func TestRingsWithAllOptions(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	cpu := onCPU(t, 1%len(must(possibleCPUs())))
	for _, name := range ringNames {
		ring := openRing[rec](t, Map(coll.Maps[name]))
		readers := []*Reader[rec]{readerOf(t, ring, First)}
		if ring.Access() != "mapped" || ring.LayoutCheck() != "field by field with the map's BTF" || ring.Slots() != optionSlots {
			t.Fatal(name, ring.Access(), ring.LayoutCheck(), ring.Slots())
		}
		if !strings.Contains(name, "tails") && !strings.Contains(name, "_of_cpu") {
			m := coll.Maps[name]
			if name == "grows" {
				m = coll.Maps["grows__first"]
			}
			byCall := openRing[rec](t, readOnly(t, m))
			contains(t, byCall.Access(), "by system call (a read-only file descriptor")
			readers = append(readers, readerOf(t, byCall, First))
		}
		// Each record once and in order, while the readers are fast enough.
		next, pushed, discarded := uint64(0), uint64(0), uint64(0)
		for range 10 {
			for range 20 {
				isDiscarded := pushed%7 == 3
				if !push(t, coll, name, pushed, isDiscarded) {
					t.Fatal(name, "dropped", readers[0].Stats())
				}
				pushed++
				if isDiscarded {
					discarded++
				}
			}
			for i, reader := range readers {
				at := next
				for event := range reader.Drain() {
					if at%7 == 3 {
						at++
					}
					if event.Shard != cpu || event.Ticket != at || event.Record.N != at {
						t.Fatal(name, i, at, event)
					}
					whole(t, name, event)
					at++
				}
				if err := reader.Err(); err != nil {
					t.Fatal(err)
				}
				if i == len(readers)-1 {
					next = at
				}
			}
		}
		want := Stats{Delivered: pushed - discarded, Discarded: discarded}
		for i, reader := range readers {
			if stats := reader.Stats(); stats != want {
				t.Error(name, i, stats)
			}
		}
		// More than the ring holds: what is lost is counted, and all readers count the same.
		for range 300 {
			push(t, coll, name, pushed, false)
			pushed++
		}
		var all []Stats
		for _, reader := range readers {
			for event := range reader.Drain() {
				whole(t, name, event)
			}
			all = append(all, reader.Stats())
			if stats := reader.Stats(); stats.Passed() != pushed || stats.Lapped+stats.TailLost < 300-optionSlots || stats.Dropped() != 0 {
				t.Error(name, stats)
			}
			if all[0] != all[len(all)-1] {
				t.Error(name, all)
			}
		}
	}
}

func TestMapsOfCPUsHaveTheNameThatLoadersReuse(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	for _, name := range []string{"plain_of_cpu", "wakes_of_cpu"} {
		for _, part := range openRing[rec](t, Map(coll.Maps[name])).parts {
			if found := unix.ByteSliceToString(part.info.name[:]); found != (name + suffixFirst)[:15] {
				t.Error(name, part.number, found)
			}
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestMapsThatAreNotMmapableAreReadBySystemCall(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", func(spec *ebpf.CollectionSpec) {
		for _, name := range []string{"plain", "plain_of_cpu", "plain_of_cpu__first"} {
			m := spec.Maps[name]
			if m.InnerMap != nil {
				m = m.InnerMap
			}
			m.Flags &^= flagMmapable
		}
	})
	onCPU(t, 0)
	for _, name := range []string{"plain", "plain_of_cpu"} {
		ring := openRing[rec](t, Map(coll.Maps[name]))
		contains(t, ring.Access(), "by system call (the map was made without BPF_F_MMAPABLE (EINVAL): set map_flags to it)")
		reader := readerOf(t, ring, Oldest)
		for n := range uint64(10) {
			push(t, coll, name, n, false)
		}
		count := uint64(0)
		for event := range reader.Drain() {
			whole(t, name, event)
			count++
		}
		if stats := reader.Stats(); count != 10 || stats != (Stats{Delivered: 10}) {
			t.Error(name, stats)
		}
	}
}

func TestProgramsWakeASleepingReader(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	for _, name := range []string{"wakes", "keeps", "wakes_tails", "wakes_of_cpu"} {
		reader := readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		if err := reader.Bell(); err != nil {
			t.Fatal(name, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if err := reader.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(name, err)
		}
		cancel()
		rung := reader.waiting.bell.producer.load(0)
		for n := range uint64(20) {
			mem, done := reader.waiting.bell.place.mem, make(chan bool)
			go func() {
				for mem.load(wordAsleep) == 0 { // until the reader says that it sleeps
				}
				push(t, coll, name, n, false)
				close(done)
			}()
			if err := reader.Wait(context.Background()); err != nil {
				t.Fatal(name, err)
			}
			event, ok := reader.Next()
			if <-done; !ok || event.Record.N != n {
				t.Fatal(name, event, ok)
			}
		}
		// The bell woke it, and not the check after a second.
		if reader.waiting.bell.producer.load(0) == rung {
			t.Error(name, "no program rang")
		}
		place := reader.waiting.bell.place.number
		reader.Close()
		again := readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		if err := again.Bell(); err != nil || again.waiting.bell.place.number != place {
			t.Error(name, "the place was not freed", err)
		}
	}
}

func TestProgramsWaitForARequiredReader(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	onCPU(t, 0)
	for _, name := range []string{"keeps", "keeps_tails", "keeps_of_cpu"} {
		reader := readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		if err := reader.Require(time.Hour); err != nil || !reader.IsRequired() {
			t.Fatal(name, err)
		}
		for round := range uint64(3) {
			for n := range uint64(200) {
				if pushed := push(t, coll, name, n, false); pushed != (n < optionSlots) {
					t.Fatal(name, round, n, pushed)
				}
			}
			next := uint64(0)
			for event := range reader.Drain() {
				if event.Record.N != next {
					t.Fatal(name, event)
				}
				whole(t, name, event)
				next++
			}
			stats := reader.Stats()
			if next != optionSlots || stats.Full != (round+1)*(200-optionSlots) || stats.Lost() != 0 {
				t.Fatal(name, next, stats)
			}
			if _, ok := reader.Next(); ok { // says how far it has read
				t.Fatal(name)
			}
		}
		if began, last := reader.DropTimes(0); began == 0 || last < began {
			t.Error(name, began, last)
		}
		// A reader that holds programs back for longer than its lease is required no more.
		if err := reader.Require(0); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(4 * optionSlots) {
			push(t, coll, name, n, false)
		}
		if reader.IsRequired() {
			t.Error(name, "the lease has not ended")
		}
	}
	plain := readerOf(t, openRing[rec](t, Map(coll.Maps["plain"])), Oldest)
	if err := plain.Require(time.Hour); !errors.Is(err, ErrNotKeeping) {
		t.Error(err)
	}
	if err := plain.Bell(); !errors.Is(err, ErrNotWakeable) {
		t.Error(err)
	}
}

// replace replaces a resizable ring, as docs/abi.md says, while no program runs.
func replace(t *testing.T, coll *ebpf.Collection, spec *ebpf.MapSpec, old *ebpf.Map, slots uint64) *ebpf.Map {
	t.Helper()
	l := must(decodePreamble(must(openRegion(Map(old))).preambleWords()))
	l.capacity = slots
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	of := spec.Copy()
	of.MaxEntries = uint32(l.elements)
	next, err := ebpf.NewMap(of)
	if err != nil {
		t.Fatal(err)
	}
	from, to := mapAll(t, old), mapAll(t, next)
	image := preambleOf(&l, "rec")
	image[wordBefore] = from.load(wordBefore) | counting
	for at := len(image) - 1; at >= 0; at-- {
		to.store(uint64(at), image[at])
	}
	for shard := range l.shards {
		to.store(l.headerAt(shard)+3, l.slotsAt(shard)*8/l.size<<32|image[wordGate])
	}
	from.set(wordGate, gateLeaving)
	if err := coll.Maps["grows"].Put(uint32(0), next); err != nil {
		t.Fatal(err)
	}
	sum := from.load(wordBefore)
	for shard := range l.shards { // the headers come first: they are at the same place in every such ring
		head := l.headerAt(shard)
		from.store(head+3, 2)
		from.store(head+wordEnd, from.load(head))
		sum += from.load(head)
	}
	to.store(wordBefore, sum)
	from.store(wordGate, from.load(wordGate)&^0xff|gateRetired)
	return next
}

func (r *region) preambleWords() *[preambleWords]uint64 { return must(r.readPreamble()) }

func mapAll(t *testing.T, m *ebpf.Map) words {
	mem, err := mapWords(m.FD(), 0, uint64(m.ValueSize())*uint64(m.MaxEntries())/8, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.unmap)
	return mem
}

func TestReadersGoOnInTheRingThatReplacesTheirs(t *testing.T) {
	needBPF(t)
	spec := compiled(t, "proofs", "kernel", "bpf", "options.bpf.c")
	coll := loaded(t, spec, nil)
	onCPU(t, 0)
	reader := readerOf(t, openRing[rec](t, Map(coll.Maps["grows"])), First)
	late := readerOf(t, openRing[rec](t, Map(coll.Maps["grows"])), First)
	ring, pushed := coll.Maps["grows__first"], uint64(0)
	for round, slots := range []uint64{128, 16, 1024} {
		for range 40 {
			push(t, coll, "grows", pushed, false)
			pushed++
		}
		ring = replace(t, coll, spec.Maps["grows__first"], ring, slots)
		for range 10 {
			push(t, coll, "grows", pushed, false)
			pushed++
		}
		want := uint64(0)
		if err := reader.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		for event := range reader.Drain() {
			whole(t, "grows", event)
			want++
		}
		if want == 0 || reader.Rings() != round+2 {
			t.Fatal(round, want, reader.Rings(), reader.Stats())
		}
		for range reader.Drain() {
		}
		if stats := reader.Stats(); stats.Passed() != pushed {
			t.Fatal(round, stats, pushed)
		}
	}
	if stats := reader.Stats(); stats.Lost() != 0 && stats.Delivered+stats.Lapped != pushed {
		t.Error(stats)
	}
	// A reader that comes late has missed the rings in between.
	for range 3 {
		for range late.Drain() {
		}
	}
	if stats := late.Stats(); stats.Passed() != pushed || late.Rings() != 2 || stats.Lapped == 0 {
		t.Error(stats, late.Rings())
	}
}
