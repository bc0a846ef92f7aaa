// Memory that another process forges and scribbles on: no crash, no hang, no load outside of the mapping (words.go checks each).

package mapring

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// forged is a word that an attacker would choose.
func forged(random *rand.Rand) uint64 {
	switch random.IntN(4) {
	case 0:
		return random.Uint64()
	case 1:
		return random.Uint64N(64)
	case 2:
		return ^random.Uint64N(64)
	}
	return random.Uint64N(64) | 1<<63
}

// hostiles are a region of each kind and option, in memory files of a few kilobytes.
func hostiles() []layout {
	all := []layout{ring(24, 8, 2), ring(8, 1, 3), ring(4, 64, 1), ring(4088, 4, 1)}
	for _, options := range []RingOptions{Wakeable, Wakeable | KeepOldest, PerCPUMaps, Resizable} {
		all = append(all, layout{kind: KindRing, options: options, record: 24, capacity: 8, shards: 1})
	}
	for _, options := range []RingOptions{Tails, Tails | Wakeable | KeepOldest} {
		all = append(all, layout{kind: KindRing, options: options, record: 40, capacity: 8, shards: 2, longest: 100, area: 256})
	}
	for kind, record := range map[Kind]uint64{KindCells: 24, KindLatches: 24, KindCounters: 8, KindHistograms: 4096, KindGauges: 16384,
		KindTopKeys: 248} {
		l := layout{kind: kind, record: record, capacity: 4, shards: 1}
		if l.isSharded() {
			l.shards = 2
		}
		all = append(all, l)
	}
	return all
}

// use reads a region in every way that its kind has, for a bounded number of calls.
func use(t *testing.T, image *image) {
	source := FD(image.fd)
	switch {
	case image.kind == KindRing && image.options.Has(Tails):
		useRing[[3]uint64](t, source)
	case image.kind == KindRing && image.record == 24:
		useRing[[3]uint64](t, source)
	case image.kind == KindRing && image.record == 8:
		useRing[uint64](t, source)
	case image.kind == KindRing && image.record == 4:
		useRing[uint32](t, source)
	case image.kind == KindRing:
		useRing[[511]uint64](t, source)
	case image.kind == KindCells:
		useValue(OpenCells[[3]uint64](source))(func(cells *Cells[[3]uint64]) { _, _, _ = cells.Read(3) })
	case image.kind == KindLatches:
		useValue(OpenLatches[[3]uint64](source))(func(latches *Latches[[3]uint64]) { _, _, _ = latches.Read(3) })
	case image.kind == KindCounters:
		useValue(OpenCounters(source))(func(counters *Counters) { _, _ = counters.Sum(3) })
	case image.kind == KindHistograms:
		useValue(OpenHistograms(source))(func(histograms *Histograms) {
			if histogram, err := histograms.Read(3); err == nil {
				_ = histogram.String()
			}
		})
	case image.kind == KindGauges:
		useValue(OpenGauges(source))(func(gauges *Gauges) { _, _ = gauges.Windows(3) })
	case image.kind == KindTopKeys:
		useValue(OpenTopKeys(source))(func(top *TopKeys) { _, _, _, _ = top.Largest(10) })
	}
}

// useValue uses a handle ten times. A preamble that was just forged is refused.
func useValue[H interface{ Close() error }](handle H, err error) func(func(H)) {
	return func(use func(H)) {
		if err == nil {
			for range 10 {
				use(handle)
			}
			handle.Close()
		}
	}
}

func useRing[T any](t *testing.T, source Source) {
	ring, err := OpenRing[T](source)
	if err != nil {
		return
	}
	defer ring.Close()
	for i := range 6 {
		start := Start(i % 3)
		reader := ring.Reader(start)
		if i >= 3 { // a merging one, of stamps that may be forged, too
			reader.Merge(Monotonic, func(*T) uint64 { return rand.Uint64() >> rand.IntN(64) })
			reader.SetDelay(time.Duration(start) * time.Microsecond)
		}
		reader.SetPatience(time.Duration(start) * time.Microsecond)
		for range 6 {
			before := reader.Stats().Delivered
			count, tails := uint64(0), 0
			for event := range reader.Drain() {
				count++
				for _, b := range event.Tail { // each byte of a tail can be read
					tails += int(b)
				}
			}
			stats := reader.Stats()
			if count > uint64(ring.Slots()*ring.Shards()) || stats.Delivered-before != count {
				t.Errorf("%d records, %v", count, stats)
			}
			_ = reader.StoppedEarly()
			_, _ = reader.TakeLosses(), reader.Unended()
			_ = reader.unread(2)
			_, _ = reader.DropTimes(0)
			_ = reader.IsRequired()
		}
		reader.Close()
	}
}

func TestForgedMemoryIsReadSafely(t *testing.T) {
	for seed, l := range hostiles() {
		random := rand.New(rand.NewPCG(uint64(seed), 7))
		image := newImage(t, l)
		for round := range 8 {
			for at := range image.mem.count {
				image.mem.store(at, forged(random))
			}
			if round%4 != 0 { // also with a whole preamble
				image.writePreamble()
			}
			use(t, image)
		}
	}
}

func TestPreamblesWithOneForgedWord(t *testing.T) {
	for seed, l := range hostiles() {
		random := rand.New(rand.NewPCG(uint64(seed), 8))
		image := newImage(t, l)
		for range 200 {
			image.writePreamble()
			image.mem.store(random.Uint64N(preambleWords), forged(random))
			use(t, image)
		}
	}
}

func TestMemoryThatIsOverwrittenMeanwhile(t *testing.T) {
	for seed, l := range hostiles() {
		image := newImage(t, l)
		stop, done := make(chan bool), sync.WaitGroup{}
		done.Go(func() {
			random := rand.New(rand.NewPCG(uint64(seed), 9))
			for {
				select {
				case <-stop:
					return
				default:
					for range 1000 {
						image.mem.store(preambleWords+random.Uint64N(image.mem.count-preambleWords), forged(random))
					}
				}
			}
		})
		for range 40 {
			use(t, image)
		}
		close(stop)
		done.Wait()
	}
}

// The same by system call, in maps that are not mapped.
func TestForgedMapsAreReadSafely(t *testing.T) {
	needBPF(t)
	for seed, l := range hostiles() {
		if err := l.complete(); err != nil || l.options.Has(Tails) {
			continue
		}
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(l.size), MaxEntries: uint32(l.elements)})
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(uint64(seed), 10))
		preamble := preambleOf(&l, "")
		for round := range 3 {
			value := make([]uint64, l.size/8)
			for element := range uint32(l.elements) {
				for i := range value {
					if at := uint64(element)*l.size/8 + uint64(i); at < preambleWords && round > 0 {
						value[i] = preamble[at]
					} else {
						value[i] = forged(random)
					}
				}
				if err := m.Put(element, value); err != nil {
					t.Fatal(err)
				}
			}
			use(t, &image{layout: l, fd: m.FD()})
		}
		m.Close()
	}
}

func TestFilesThatCanLoseTheirPagesAreRefused(t *testing.T) {
	image := newImage(t, ring(24, 8, 2))
	short, mem := memfd(t, 128)
	for at := range uint64(preambleWords) {
		mem.store(at, image.mem.load(at))
	}
	if _, err := OpenRing[[3]uint64](FD(short)); err == nil {
		t.Error("it ends before its region")
	}
	empty, _ := memfd(t, 8)
	if _, err := OpenRing[[3]uint64](FD(empty)); err == nil {
		t.Error("it is too small")
	}
	huge, mem := memfd(t, 1<<30)
	l := ring(24, 1<<24, 1)
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	for at, word := range preambleOf(&l, "") {
		mem.store(uint64(at), word)
	}
	if _, err := OpenRing[[3]uint64](FD(huge)); err == nil {
		t.Error("it consists of holes")
	}
	if _, err := OpenPinned[uint64](""); err == nil || !strings.HasPrefix(err.Error(), "can't open ") {
		t.Error("no path is not descriptor 0", err)
	}
}
