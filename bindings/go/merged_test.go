package mapring

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"
)

// byStamp is a reader that merges records whose first word is their stamp.
func byStamp[T any](t testing.TB, image *image, stamp func(*T) uint64) *Reader[T] {
	t.Helper()
	reader := open[T](t, image).Reader(Oldest)
	t.Cleanup(func() { reader.Close() })
	reader.Merge(Monotonic, stamp)
	return reader
}

func TestRingsOfTwoTypesAreReadInTheOrderOfStamps(t *testing.T) {
	few, many := newImage(t, ring(16, 64, 2)), newImage(t, ring(24, 256, 3))
	a := byStamp(t, few, func(r *[2]uint64) uint64 { return r[0] })
	b := byStamp(t, many, func(r *[3]uint64) uint64 { return r[1] })
	next, last, of := uint64(0), uint64(0), [2]int{}
	see := func(ring int, stamp, n uint64) {
		if stamp < last || n != next {
			t.Errorf("ring %d: %d at %d, after %d at %d", ring, n, stamp, next, last)
		}
		last, next = stamp, n+1
		of[ring]++
	}
	both := must(NewMerged(
		a.To(func(event *Event[[2]uint64]) { see(0, event.Record[0], event.Record[1]) }),
		b.To(func(event *Event[[3]uint64]) { see(1, event.Record[1], event.Record[2]) }),
	))
	if both.Read(100) != 0 {
		t.Fatal("nothing was written")
	}
	for n := range uint64(300) {
		if n%10 == 3 {
			few.push(n%2, commit, monotonic(), n)
		} else {
			many.push(n%3, commit, 0, monotonic(), n)
		}
	}
	for next < 300 && !t.Failed() {
		if err := both.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if both.Read(7) > 7 {
			t.Error("more than the limit")
		}
	}
	if of != [2]int{30, 270} || both.Err() != nil || both.StoppedEarly() {
		t.Error(of, both.Err())
	}

	// A record that is being written holds back those of the other ring, and no longer than the delay.
	a.SetDelay(time.Hour)
	a.SetPatience(time.Hour)
	slow, _ := few.push(0, abandon, monotonic(), 300)
	many.push(0, commit, 0, monotonic(), 301)
	time.Sleep(time.Millisecond)
	if n := both.Read(10); n != 0 {
		t.Fatal(n)
	}
	few.mem.store(few.slotsAt(0)+1+slow%64*few.slot/8, monotonic()) // a later stamp
	few.mem.store(few.slotsAt(0)+2+slow%64*few.slot/8, 302)
	few.mem.store(few.slotsAt(0)+slow%64*few.slot/8, 2)
	for _, n := range []uint64{301, 302} {
		next = n
		for both.Read(1) == 0 {
		}
	}
	a.SetDelay(time.Microsecond)
	few.push(0, abandon, monotonic(), 303)
	many.push(0, commit, 0, monotonic(), 303)
	for both.Read(10) == 0 {
	}

	// A record with an earlier stamp than one of the other ring counts as late.
	last, next = 0, 400
	few.push(1, commit, 1, 400)
	for both.Read(10) == 0 {
	}
	if a, b := a.Stats(), b.Stats(); a.Late != 1 || b.Late != 0 || a.Delivered != 32 || b.Delivered != 272 {
		t.Error(a, b)
	}
	a.Close()
	if both.Read(10) != 0 || !errors.Is(both.Wait(context.Background()), ErrClosed) {
		t.Error("it is closed")
	}
}

func TestOnlyReadersThatAgreeOnTheirOrderAreMerged(t *testing.T) {
	image := newImage(t, ring(8, 64, 1))
	self := func(r *uint64) uint64 { return *r }
	ignore := func(*Event[uint64]) {}
	plain := open[uint64](t, image).Reader(Oldest)
	boot := open[uint64](t, image).Reader(Oldest)
	boot.Merge(Boottime, self)
	defer plain.Close()
	defer boot.Close()
	for _, other := range []*Reader[uint64]{plain, boot} {
		if _, err := NewMerged(byStamp(t, image, self).To(ignore), other.To(ignore)); !errors.Is(err, ErrUnsupported) {
			t.Error(err)
		}
	}
	empty := must(NewMerged())
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if empty.Read(1) != 0 || empty.Wait(ctx) != context.DeadlineExceeded {
		t.Error("it has no rings")
	}
}

// Writers of two rings at the same time, one of which overwrites its ring again and again: the other one loses nothing.
func TestAFloodOverwritesItsOwnRingOnly(t *testing.T) {
	few, many := newImage(t, ring(16, 1<<12, 1)), newImage(t, ring(16, 64, 2))
	first := func(r *[2]uint64) uint64 { return r[0] }
	a, b := byStamp(t, few, first), byStamp(t, many, first)
	for _, reader := range []*Reader[[2]uint64]{a, b} { // a writer may be preempted in a record
		reader.SetDelay(time.Hour)
		reader.SetPatience(time.Hour)
	}
	const count = 5_000
	next, last := uint64(0), uint64(0)
	inOrder := func(stamp uint64) {
		if stamp < last {
			t.Errorf("%d after %d", stamp, last)
		}
		last = stamp
	}
	both := must(NewMerged(
		a.To(func(event *Event[[2]uint64]) {
			inOrder(event.Record[0])
			if event.Record[1] != next {
				t.Errorf("%d instead of %d", event.Record[1], next)
			}
			next = event.Record[1] + 1
		}),
		b.To(func(event *Event[[2]uint64]) { inOrder(event.Record[0]) }),
	))
	var writers sync.WaitGroup
	done := make(chan bool)
	for shard := range uint64(2) {
		writers.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-done:
					return
				default:
					many.push(shard, commit, stampedNow, n)
				}
			}
		})
	}
	writers.Go(func() {
		for n := range uint64(count) {
			few.push(0, commit, stampedNow, n)
			if n%16 == 0 {
				time.Sleep(time.Microsecond)
			}
		}
	})
	deadline := time.Now().Add(time.Minute)
	for next < count || b.Stats().Lapped == 0 {
		both.Read(math.MaxInt)
		if t.Failed() || time.Now().After(deadline) {
			t.Error(next, a.Stats(), b.Stats())
			break
		}
	}
	close(done)
	writers.Wait()
	if a, b := a.Stats(), b.Stats(); a.Lost() != 0 || a.Late != 0 || b.Late != 0 {
		t.Error(a, b)
	}
}

// Programs of two rings on all CPUs: the reader sleeps on the bells of both.
func TestProgramsOfTwoRingsAreMerged(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	delivered, woken := [2]uint64{}, time.Duration(0)
	var readers [2]*Reader[rec]
	var rings []MergedRing
	for i, name := range []string{"wakes", "keeps_tails_of_cpu"} {
		readers[i] = readerOf(t, openRing[rec](t, Map(coll.Maps[name])), Oldest)
		readers[i].Merge(Monotonic, func(*rec) uint64 { return monotonic() - 100_000 })
		if err := readers[i].Bell(); err != nil {
			t.Fatal(err)
		}
		rings = append(rings, readers[i].To(func(event *Event[rec]) {
			whole(t, name, *event)
			delivered[i]++
		}))
	}
	both := must(NewMerged(rings...))
	for round := range 20 {
		name := []string{"wakes", "keeps_tails_of_cpu"}[round%2]
		var writer sync.WaitGroup
		writer.Go(func() {
			time.Sleep(10 * time.Millisecond)
			push(t, coll, name, uint64(round), false)
		})
		begun := time.Now()
		for before := delivered; delivered == before; {
			if err := both.Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
			both.Read(10)
		}
		woken = max(woken, time.Since(begun))
		writer.Wait()
	}
	if delivered != [2]uint64{10, 10} || woken >= longest {
		t.Error(delivered, woken)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := both.Wait(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
}
