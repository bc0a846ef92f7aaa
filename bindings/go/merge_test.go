package mapring

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

type stamped struct{ NS, BootNS, Writer uint64 }

func TestAMergingReaderDeliversInTheOrderOfStamps(t *testing.T) {
	image := newImage(t, ring(16, 64, 3))
	reader := open[[2]uint64](t, image).Reader(Oldest)
	defer reader.Close()
	reader.Merge(Monotonic, func(record *[2]uint64) uint64 { return record[0] })
	begun, next, slow := monotonic(), uint64(0), uint64(0)
	for n := range uint64(150) {
		if n == 70 { // a record that is being written holds back the others
			slow, _ = image.push(1, abandon, monotonic(), n)
			continue
		}
		image.push(n%3, commit, monotonic(), n)
	}
	reader.SetPatience(time.Hour)
	reader.SetDelay(time.Hour)
	read := func() {
		t.Helper()
		if err := reader.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		for event := range reader.Drain() {
			if event.Record[1] != next || event.Record[0] < begun {
				t.Fatal(next, event)
			}
			next++
		}
		if stats := reader.Stats(); stats.Delivered != next || stats.Late != 0 || stats.Ahead != 0 {
			t.Fatal(stats)
		}
	}
	for range 20 {
		read()
	}
	if next > 70 || next == 0 {
		t.Fatal(next)
	}
	image.mem.store(image.slotsAt(1)+slow%64*image.slot/8, 2)
	for next < 150 {
		read()
	}
	if shard, _ := reader.ShardStats(0); shard.Delivered != 50 {
		t.Error(shard)
	}
	// Stamps of another clock are delivered soon, and counted.
	image.push(0, commit, 1<<60, 150)
	image.push(1, commit, monotonic(), 151)
	for next < 152 {
		for range reader.Drain() {
			next++
		}
	}
	if stats := reader.Stats(); stats.Ahead == 0 || stats.Passed() != 152 {
		t.Error(stats)
	}
	// A late one is counted, too.
	image.push(0, commit, 1, 152)
	for _, ok := reader.Next(); !ok; _, ok = reader.Next() {
	}
	if stats := reader.Stats(); stats.Late != 1 || !strings.Contains(stats.String(), ", 1 late") {
		t.Error(stats)
	}
}

func TestAMergingReaderWaitsForNoSlowWriterForLong(t *testing.T) {
	image := newImage(t, ring(8, 64, 2))
	reader := open[uint64](t, image).Reader(Oldest)
	defer reader.Close()
	reader.Merge(Boottime, func(record *uint64) uint64 { return *record })
	reader.SetPatience(time.Hour)
	reader.SetDelay(time.Microsecond)
	image.push(0, abandon)
	image.push(0, commit, Boottime.now())
	image.push(1, commit, Boottime.now())
	event, ok := reader.Next()
	for ; !ok; event, ok = reader.Next() {
	}
	if event.Shard != 1 {
		t.Fatal(event)
	}
	image.push(1, commit, Boottime.now()) // held, or not read
	reader.Close()
	if _, ok := reader.Next(); ok || !errors.Is(reader.Err(), os.ErrClosed) || reader.Stats().Delivered != 1 {
		t.Error("it is closed", reader.Stats())
	}
}

func TestTailsOfMergedRecordsAreTheirs(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	for _, name := range []string{"tails", "keeps_tails_of_cpu"} {
		reader := readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		reader.Merge(Monotonic, func(record *rec) uint64 { return record.N })
		if strings.HasPrefix(name, "keeps") {
			if err := reader.Require(time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		next, events := uint64(0), make([]Event[rec], 8)
		for pushed := uint64(0); next < 400; {
			for range 40 {
				onCPU(t, int(pushed)%len(must(possibleCPUs())))
				push(t, coll, name, pushed, false)
				pushed++
			}
			for next < pushed {
				n := reader.ReadBatch(events)
				for _, event := range events[:n] {
					whole(t, name, event)
					if event.Record.N != next {
						t.Fatal(name, next, event)
					}
					next++
				}
			}
		}
		if stats := reader.Stats(); stats.Delivered != next || stats.Lost()+stats.Dropped()+stats.Late != 0 {
			t.Error(name, stats)
		}
	}
}

func TestProgramsOnAllCPUsAreMerged(t *testing.T) {
	coll := kernelProgram(t, "merged.bpf.c", nil)
	program, cpus := coll.Programs["on_packet"], must(possibleCPUs())
	const packets, each = 300, 16
	for _, clock := range []Clock{Monotonic, Boottime} {
		reader := readerOf(t, openRing[stamped](t, Map(coll.Maps["stamped"])), Now)
		reader.Merge(clock, func(record *stamped) uint64 {
			if clock == Boottime {
				return record.BootNS
			}
			return record.NS
		})
		var writers sync.WaitGroup
		for _, cpu := range cpus {
			writers.Go(func() {
				onCPU(t, cpu)
				for range packets {
					if _, _, err := program.Test(make([]byte, 64)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		last, late, delivered := uint64(0), uint64(0), 0
		for delivered < packets*each*len(cpus) && !t.Failed() {
			if err := reader.Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
			for event := range reader.Drain() {
				stamp := event.Record.NS
				if clock == Boottime {
					stamp = event.Record.BootNS
				}
				if stamp < last {
					late++
				}
				last = max(last, stamp)
				delivered++
			}
		}
		writers.Wait()
		if stats := reader.Stats(); stats.Late != late || late != 0 || stats.Lost() != 0 || int(stats.Delivered) != delivered {
			t.Error(clock, late, stats)
		}
	}
}
