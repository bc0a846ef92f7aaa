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
			mem, done := reader.waiting.bell.seat.mem, make(chan bool)
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
		seat := reader.waiting.bell.seat.number
		reader.Close()
		again := readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		if err := again.Bell(); err != nil || again.waiting.bell.seat.number != seat {
			t.Error(name, "the seat was not freed", err)
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
