// What is closed by one goroutine while another one uses it, and what is used after Close.

package mapring

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"
)

// endsWhenClosed runs a loop that another goroutine ends by Close, as with cilium/ebpf's ringbuf.Reader.
func endsWhenClosed(t *testing.T, ring *Ring[rec], begun func()) {
	t.Helper()
	reader, done := ring.Reader(Oldest), make(chan error)
	go func() {
		for {
			if err := reader.Wait(context.Background()); err != nil {
				done <- err
				return
			}
			for range reader.Drain() {
			}
			if reader.Stats().Delivered > 0 && begun != nil {
				begun()
				begun = nil
			}
		}
	}()
	time.Sleep(time.Millisecond)
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) || !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := reader.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error("twice", err)
	}
	if _, ok := reader.Next(); ok || !errors.Is(reader.Err(), os.ErrClosed) {
		t.Error(ok, reader.Err())
	}
	for _, err := range []error{reader.Wait(context.Background()), reader.Bell(), reader.Require(time.Second)} {
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
	if reader.IsRequired() {
		t.Error("it is required")
	}
}

func TestCloseEndsAWaitInAnotherGoroutine(t *testing.T) {
	image := newImage(t, ring(16, 64, 2))
	done := make(chan bool)
	go func() {
		for {
			select {
			case <-done:
				return
			default:
				image.push(0, commit, 1, 2)
				runtime.GC() // gives back what nobody can use any more
			}
		}
	}()
	for range 20 {
		ring := must(OpenRing[rec](FD(image.fd)))
		endsWhenClosed(t, ring, func() { ring.Close() })
	}
	close(done)
}

func TestCloseEndsASleepOnTheBell(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	for _, name := range []string{"wakes", "keeps"} {
		for range 20 {
			ring := openRing[rec](t, Map(coll.Maps[name]))
			endsWhenClosed(t, ring, nil)
			// Its seat is free.
			reader := ring.Reader(Oldest)
			if err := reader.Bell(); err != nil || reader.waiting.bell.seat.number != 0 {
				t.Fatal(err, reader.waiting.bell.seat.number)
			}
			reader.Close()
		}
	}
}

func TestARequiredReaderIsClosedWhileItReads(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	onCPU(t, 0)
	for range 20 {
		reader, done := openRing[rec](t, Map(coll.Maps["keeps"])).Reader(Oldest), make(chan bool)
		if err := reader.Require(time.Hour); err != nil {
			t.Fatal(err)
		}
		go func() {
			for ; reader.Err() == nil; reader.Next() {
			}
			close(done)
		}()
		for n := range uint64(100) {
			push(t, coll, "keeps", n, false)
		}
		reader.Close()
		<-done
	}
}

func TestEverythingAfterCloseIsClosed(t *testing.T) {
	opened := func(l layout) Source { return FD(newImage(t, l).fd) }
	ring := must(OpenRing[rec](opened(ring(16, 64, 2))))
	ring.Close()
	if reader := ring.Reader(Oldest); reader.Err() != nil {
		t.Error(reader.Err())
	} else if _, ok := reader.Next(); ok || !errors.Is(reader.Err(), os.ErrClosed) {
		t.Error(ok, reader.Err())
	}
	counters := must(OpenCounters(opened(layout{kind: KindCounters, record: 8, capacity: 3, shards: 2})))
	cells := must(OpenCells[rec](opened(layout{kind: KindCells, record: 16, capacity: 3, shards: 1})))
	counters.Close()
	cells.Close()
	runtime.GC()
	_, ofCounters := counters.Sum(0)
	_, ofDropped := counters.Dropped()
	_, _, ofCells := cells.Read(0)
	for _, err := range []error{ring.Close(), counters.Close(), cells.Close(), ofCounters, ofDropped, ofCells} {
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}
