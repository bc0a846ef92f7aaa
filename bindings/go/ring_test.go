package mapring

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// The examples of docs/abi.md.
func TestSizesAreThoseOfTheSpecification(t *testing.T) {
	for _, row := range []struct {
		layout
		size, perLine, first, header, elements, bytes uint64
	}{
		{ring(56, 4096, 2), 64, 1, 2, 1, 8196, 524544},
		{ring(20, 8, 2), 32, 2, 4, 2, 24, 768},
		{ring(16, 4, 2), 24, 8, 8, 8, 40, 960},
		{layout{kind: KindRing, options: Resizable, record: 20, capacity: 8, shards: 2}, 32, 2, 4, 2, 24, 768},
		{layout{kind: KindRing, options: PerCPUMaps, record: 20, capacity: 8, shards: 1}, 32, 2, 4, 2, 14, 448},
		{layout{kind: KindCells, record: 56, capacity: 128, shards: 1}, 64, 1, 2, 0, 130, 8320},
		{layout{kind: KindLatches, record: 12, capacity: 16, shards: 1}, 40, 8, 8, 0, 24, 960},
		{layout{kind: KindCommands, record: 56, capacity: 64, shards: 1}, 64, 1, 2, 1, 67, 4288},
		{layout{kind: KindCounters, record: 8, capacity: 9, shards: 3}, 128, 1, 1, 0, 4, 512},
		{layout{kind: KindPerCPUCells, record: 56, capacity: 16, shards: 1}, 64, 1, 2, 0, 18, 1152},
		{layout{kind: KindPerCPUCounters, record: 8, capacity: 512, shards: 1}, 4096, 1, 1, 0, 2, 8192},
		{layout{kind: KindHistograms, record: 4096, capacity: 3, shards: 2}, 12288, 1, 1, 0, 3, 36864},
		{layout{kind: KindGauges, record: 16384, capacity: 1, shards: 2}, 16384, 1, 1, 0, 3, 49152},
		{layout{kind: KindTopKeys, record: 248, capacity: 16, shards: 2}, 256, 1, 1, 0, 33, 8448},
		{layout{kind: KindReaders, record: 8, capacity: 64, shards: 2}, 512, 1, 4, 0, 10, 5120},
	} {
		l := row.layout
		if err := l.complete(); err != nil {
			t.Fatal(err)
		}
		found := [...]uint64{l.size, l.perLine, l.first, l.header, l.elements, l.size * l.elements}
		if found != [...]uint64{row.size, row.perLine, row.first, row.header, row.elements, row.bytes} {
			t.Errorf("%s: %v", &l, found)
		}
	}
	l := ring(20, 8, 2)
	_ = l.complete()
	if at := 8*l.slotsAt(1) + 3*l.slot; at != 608 {
		t.Errorf("slot 3 of shard 1 is at byte %d", at)
	}
	l = layout{kind: KindRing, options: Tails, record: 24, capacity: 16, shards: 2, longest: 100, area: 1024}
	if err := l.complete(); err != nil || l.size != 2112 || 8*l.headerAt(1) != 2240 || 8*l.slotsAt(1) != 2560 || 8*l.areaAt(1) != 3072 {
		t.Errorf("%v: %+v", err, l)
	}
}

func TestAReaderWaitsForASlowWriter(t *testing.T) {
	image := newImage(t, ring(8, 64, 1))
	reader := open[uint64](t, image).Reader(Oldest)
	defer reader.Close()
	slow, _ := image.push(0, abandon, 7)
	image.push(0, commit, 8)
	reader.SetPatience(time.Hour)
	for range 100 {
		if event, ok := reader.Next(); ok {
			t.Fatal(event)
		}
	}
	image.mem.store(image.slotsAt(0)+slow*image.slot/8, 2)
	var events [4]Event[uint64]
	if n := reader.ReadBatch(events[:]); n != 2 || events[0].Record != 7 || events[1].Record != 8 {
		t.Fatal(events[:n])
	}
}

func TestReadersStartWhereTheyAreTold(t *testing.T) {
	image := newImage(t, ring(8, 8, 1))
	for n := range uint64(20) {
		image.push(0, commit, n)
	}
	ring := open[uint64](t, image)
	readers := [3]*Reader[uint64]{}
	for start := range readers {
		readers[start] = ring.Reader(Start(start))
		defer readers[start].Close()
	}
	if event, _ := readers[Oldest].Next(); event.Ticket != 12 {
		t.Error(event)
	}
	// An eighth of the slots is left to the writer.
	if event, _ := readers[First].Next(); event.Ticket != 13 || readers[First].Stats().Lapped != 13 {
		t.Error(event)
	}
	if event, ok := readers[Now].Next(); ok {
		t.Error(event)
	}
	image.push(0, commit, 20)
	if event, _ := readers[Now].Next(); event.Ticket != 20 {
		t.Error(event)
	}
}

func TestTailsAreWholeOrLost(t *testing.T) {
	image := newImage(t, layout{kind: KindRing, options: Tails, record: 24, capacity: 64, shards: 1, longest: 100, area: 1024})
	reader := open[uint64](t, image).Reader(Oldest)
	defer reader.Close()
	tail := func(n uint64) []byte { return []byte(strings.Repeat(string(rune('a'+n%26)), int(n%101))) }
	for n := range uint64(60) {
		image.pushTail(0, tail(n), n)
	}
	events := make([]Event[uint64], 64)
	n := reader.ReadBatch(events)
	for _, event := range events[:n] {
		if string(event.Tail) != string(tail(event.Record)) || event.Ticket != event.Record {
			t.Fatal(event)
		}
	}
	stats := reader.Stats()
	if stats.Delivered != uint64(n) || n == 0 || stats.TailLost != 60-uint64(n) || stats.TailLost == 0 {
		t.Fatal(stats)
	}
	for n := uint64(60); n < 2000; n++ {
		image.pushTail(0, tail(n), n)
		if event, ok := reader.Next(); !ok || string(event.Tail) != string(tail(n)) {
			t.Fatal(event, ok)
		}
	}
}

func TestWaitReturnsWithARecordOrItsContext(t *testing.T) {
	image := newImage(t, ring(8, 8, 1))
	reader := open[uint64](t, image).Reader(Oldest)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { image.push(0, commit, 1) }()
	if err := reader.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := reader.Next(); !ok {
		t.Fatal("no record")
	}
	go cancel()
	if err := reader.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// A loop ends with its context, however many records there are.
	for n := range uint64(8) {
		image.push(0, commit, n)
	}
	if err := reader.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := reader.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := reader.Bell(); !errors.Is(err, ErrNotWakeable) {
		t.Fatal(err)
	}
	reader.Close()
	if err := reader.Wait(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, ok := reader.Next(); ok || reader.Close() == nil {
		t.Fatal("it is closed")
	}
}

func TestAReaderBesideAFastWriter(t *testing.T) {
	besideAWriter[[7]uint64](t, 64, func(record [7]uint64) []uint64 { return record[:] })
	// In one slot, the writer overwrites most records while they are copied.
	besideAWriter[[128]uint64](t, 1, func(record [128]uint64) []uint64 { return record[:] })
}

func besideAWriter[T any](t *testing.T, slots uint64, wordsOf func(T) []uint64) {
	count := len(wordsOf(*new(T)))
	image := newImage(t, ring(uint64(8*count), slots, 1))
	reader := open[T](t, image).Reader(First)
	defer reader.Close()
	const tickets = 50_000
	done := make(chan bool)
	go func() {
		record := make([]uint64, count)
		for n := range uint64(tickets) {
			for i := range record {
				record[i] = n + uint64(i)
			}
			image.push(0, commit, record...)
		}
		close(done)
	}()
	next := uint64(0)
	read := func() {
		for event := range reader.Drain() {
			for i, word := range wordsOf(event.Record) {
				if word != event.Ticket+uint64(i) {
					t.Fatalf("torn: %v", event)
				}
			}
			if event.Ticket < next {
				t.Fatalf("%d after %d", event.Ticket, next)
			}
			next = event.Ticket + 1
		}
	}
	readUntil(done, read)
	if stats := reader.Stats(); stats.Passed() != tickets || stats.Delivered == 0 {
		t.Fatal(stats)
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	image := newImage(t, layout{kind: KindRing, options: Tails, record: 24, capacity: 64, shards: 1, longest: 100, area: 1024})
	reader := open[uint64](t, image).Reader(Oldest)
	defer reader.Close()
	tail := make([]byte, 50)
	reader.Next()
	allocations := testing.AllocsPerRun(100, func() {
		for range 3 {
			reader.Next()
		}
	})
	image.pushTail(0, tail, 1)
	reader.Next()
	if allocations != 0 {
		t.Error(allocations)
	}
	image.pushTail(0, tail, 1)
	image.pushTail(0, tail, 1)
	if allocations := testing.AllocsPerRun(1, func() { reader.Next() }); allocations != 0 || reader.Stats().Delivered != 3 {
		t.Error(allocations, reader.Stats())
	}
}
