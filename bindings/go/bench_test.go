package mapring

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

type benchEvent struct{ Words [7]uint64 }

const (
	benchRun   = 256 // records of one run of the program
	benchBatch = 2048
)

// besides runs b for a reader: it fills the buffer, and then times `read`, which reads so many records.
func besides(b *testing.B, program string, open func(*ebpf.Collection) (read func(n int))) {
	needBPF(b)
	coll := loaded(b, compiled(b, "bindings", "go", "testdata", "beside.bpf.c"), nil)
	onCPU(b, 0)
	read := open(coll)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= benchBatch {
		b.StopTimer()
		for range benchBatch / benchRun {
			if result, _ := run(b, coll, program); result != 0 {
				b.Fatal("no space")
			}
		}
		b.StartTimer()
		read(benchBatch)
	}
}

func check(b *testing.B, found, n int) {
	if found != n {
		b.Fatalf("%d of %d", found, n)
	}
}

func benchReader(b *testing.B, coll *ebpf.Collection) *Reader[benchEvent] {
	return readerOf(b, openRing[benchEvent](b, Map(coll.Maps["events"])), Oldest)
}

func BenchmarkNext(b *testing.B) {
	besides(b, "to_ring", func(coll *ebpf.Collection) func(int) {
		reader := benchReader(b, coll)
		return func(n int) {
			found := 0
			for range n {
				if event, ok := reader.Next(); ok && event.Record.Words[6] == event.Record.Words[0]+6 {
					found++
				}
			}
			check(b, found, n)
		}
	})
}

func BenchmarkReadBatch(b *testing.B) {
	besides(b, "to_ring", func(coll *ebpf.Collection) func(int) {
		reader, events := benchReader(b, coll), make([]Event[benchEvent], 256)
		return func(n int) {
			found := 0
			for {
				read := reader.ReadBatch(events)
				if read == 0 {
					break
				}
				found += read
			}
			check(b, found, n)
		}
	})
}

func BenchmarkDrain(b *testing.B) {
	besides(b, "to_ring", func(coll *ebpf.Collection) func(int) {
		reader := benchReader(b, coll)
		return func(n int) {
			found := 0
			for event := range reader.Drain() {
				if event.Record.Words[6] == event.Record.Words[0]+6 {
					found++
				}
			}
			check(b, found, n)
		}
	})
}

func BenchmarkCiliumReadInto(b *testing.B) {
	cilium(b, func(reader *ringbuf.Reader, record *ringbuf.Record) error { return reader.ReadInto(record) })
}

func BenchmarkCiliumRead(b *testing.B) {
	cilium(b, func(reader *ringbuf.Reader, record *ringbuf.Record) (err error) {
		*record, err = reader.Read()
		return err
	})
}

func cilium(b *testing.B, read func(*ringbuf.Reader, *ringbuf.Record) error) {
	besides(b, "to_ringbuf", func(coll *ebpf.Collection) func(int) {
		reader, err := ringbuf.NewReader(coll.Maps["ringbuf"])
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { reader.Close() })
		var record ringbuf.Record
		return func(n int) {
			found := 0
			for range n {
				if err := read(reader, &record); err == nil && len(record.RawSample) == 56 {
					found++
				}
			}
			check(b, found, n)
		}
	})
}
