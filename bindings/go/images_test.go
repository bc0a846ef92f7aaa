// The golden images of proofs/images: every kind of region and every set of options, read without BPF and without privilege.

package mapring

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// golden is the file beside an image. Pointers are nil, and lists too, where the kind does not have them.
type golden struct {
	Error, Text              string
	Kind, Options            string
	Record, Capacity, Shards uint64

	Reads  []goldenRead
	Merged [][2]uint64

	Values                   []goldenValue
	Dropped                  *uint64
	Counters                 [][]uint64
	Sums                     []uint64
	Histograms, Gauges       [][][3]uint64
	Pushed, Applied, Skipped *uint64
	Keys                     [][3]uint64
	Unlisted, Total          *uint64
	Busy                     bool
	Seats                    []goldenSeat
}

type goldenRead struct {
	Start   string
	Counts  map[string]uint64
	Unended [][2]uint64
	Records []goldenRecord
}

type goldenRecord struct {
	Shard, Ticket uint64
	Record, Tail  string
}

type goldenValue struct {
	Version uint64
	Value   string
	Busy    bool
}

type goldenSeat struct {
	Seat, Pid, Asleep, Required, Lease uint64
	Positions                          []uint64
}

func TestGoldenImages(t *testing.T) {
	images, err := filepath.Glob(filepath.Join("..", "..", "proofs", "images", "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if len(images) == 0 {
		if os.Getenv("MAPRING_REQUIRE_BPF") == "1" {
			t.Fatal("no golden images")
		}
		t.Skip("NOT TESTED: the golden images are in the repository of mapring")
	}
	for _, path := range images {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".bin"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			beside, err := os.ReadFile(strings.TrimSuffix(path, ".bin") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want golden
			if err := json.Unmarshal(beside, &want); err != nil {
				t.Fatal(err)
			}
			bytes := make([]uint64, len(content)/8)
			copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(bytes))), len(content)), content)
			fd, mem := memfd(t, uint64(len(content)))
			for at, word := range bytes {
				mem.store(uint64(at), word)
			}
			if got := readGolden(t, FD(fd), &want); !reflect.DeepEqual(got, want) {
				found, _ := json.MarshalIndent(got, "", "  ")
				t.Errorf("found %s, expected %s", found, beside)
			}
		})
	}
}

// readGolden reads an image. `want` says how long to wait, and which part of an error's text counts.
func readGolden(t *testing.T, source Source, want *golden) (got golden) {
	r, err := openRegion(source)
	if err != nil {
		for name, kind := range map[string]ErrorKind{"Preamble": ErrPreamble, "Contradiction": ErrContradiction, "WrongType": ErrWrongType} {
			if errors.Is(err, kind) {
				got.Error = name
			}
		}
		if got.Text = err.Error(); strings.Contains(got.Text, want.Text) {
			got.Text = want.Text
		}
		return got
	}
	defer r.close()
	got = golden{Kind: r.kind.String(), Options: r.options.String(), Record: r.record, Capacity: r.capacity, Shards: r.shards}
	if want.Dropped != nil {
		dropped := r.access().word(wordDropped)
		got.Dropped = &dropped
	}
	size := r.record
	if r.options.Has(Tails) {
		size -= tailPrefix
	}
	switch {
	case r.kind == KindRing && size == 13:
		goldenRing[[13]byte](t, source, want, &got)
	case r.kind == KindRing && size == 24:
		goldenRing[[3]uint64](t, source, want, &got)
	case r.kind == KindRing:
		goldenRing[[2]uint64](t, source, want, &got)
	case r.kind == KindCells:
		cells := need(OpenCells[[12]byte](source))(t)
		got.Values = goldenValues(t, cells.Len(), cells.Read)
	case r.kind == KindLatches:
		latches := need(OpenLatches[[12]byte](source))(t)
		got.Values = goldenValues(t, latches.Len(), latches.Read)
	case r.kind == KindCounters:
		counters := need(OpenCounters(source))(t)
		for shard := range counters.Shards() {
			got.Counters = append(got.Counters, numbers(counters.Len(), func(at int) uint64 { return need(counters.Shard(shard, at))(t) }))
		}
		got.Sums = numbers(counters.Len(), func(at int) uint64 { return need(counters.Sum(at))(t) })
	case r.kind == KindHistograms:
		histograms := need(OpenHistograms(source))(t)
		for index := range histograms.Len() {
			buckets := [][3]uint64{}
			for bucket, count := range need(histograms.Read(index))(t) {
				if first, last := BucketRange(bucket); count != 0 {
					buckets = append(buckets, [3]uint64{first, last, count})
				}
			}
			got.Histograms = append(got.Histograms, buckets)
		}
	case r.kind == KindGauges:
		gauges := need(OpenGauges(source))(t)
		for index := range gauges.Len() {
			windows := [][3]uint64{}
			for _, window := range need(gauges.Windows(index))(t) {
				windows = append(windows, [3]uint64{window.Number, window.Least, window.Largest})
			}
			got.Gauges = append(got.Gauges, windows)
		}
	case r.kind == KindCommands:
		commands := need(OpenCommands[[2]uint64](source))(t)
		pushed, applied, skipped := need(commands.Pushed())(t), need(commands.Acknowledged())(t), need(commands.Skipped())(t)
		got.Pushed, got.Applied, got.Skipped = &pushed, &applied, &skipped
	case r.kind == KindTopKeys:
		keys, unlisted, total, err := need(OpenTopKeys(source))(t).Largest(1 << 20)
		if got.Busy = errors.Is(err, ErrBusy); got.Busy {
			break
		}
		for _, key := range keys {
			got.Keys = append(got.Keys, [3]uint64{key.Key, key.Least, key.Most})
		}
		got.Unlisted, got.Total = &unlisted, &total
	case r.kind == KindReaders:
		got.Seats = goldenSeats(r)
	}
	return got
}

// need is a value without an error.
func need[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
		return value
	}
}

func numbers(count int, of func(at int) uint64) (all []uint64) {
	for at := range count {
		all = append(all, of(at))
	}
	return all
}

func goldenValues(t *testing.T, count int, read func(index int) ([12]byte, uint64, error)) (values []goldenValue) {
	for index := range count {
		value, version, err := read(index)
		switch {
		case errors.Is(err, ErrBusy):
			values = append(values, goldenValue{Busy: true})
		case err != nil:
			t.Fatal(err)
		default:
			values = append(values, goldenValue{Version: version, Value: hex.EncodeToString(value[:])})
		}
	}
	return values
}

func goldenSeats(r *region) (all []goldenSeat) {
	a := r.access()
	for seat := range seats {
		owner := a.word(ownerAt(seat))
		if owner == 0 {
			continue
		}
		bit := func(word uint64) uint64 { return a.word(word) >> seat & 1 }
		position := func(shard int) uint64 { return a.word(positionAt(shard, seat)) }
		all = append(all, goldenSeat{uint64(seat), owner & pidMask, bit(wordAsleep), bit(wordRequired), a.word(leaseAt(seat)),
			numbers(int(r.shards), position)})
	}
	return all
}

func goldenRing[T any](t *testing.T, source Source, want, got *golden) {
	ring := need(OpenRing[T](source))(t)
	defer ring.Close()
	starts := map[string]Start{"oldest": Oldest, "first": First, "now": Now}
	for _, want := range want.Reads {
		start, ok := starts[want.Start]
		if !ok {
			t.Fatalf("no start %q", want.Start)
		}
		reader := ring.Reader(start)
		reader.SetPatience(0)
		read := goldenRead{Start: want.Start, Records: []goldenRecord{}, Unended: [][2]uint64{}}
		for _, event := range readGoldenRing(reader, sumOfCounts(want.Counts)) {
			record := hex.EncodeToString(unsafe.Slice((*byte)(unsafe.Pointer(&event.Record)), unsafe.Sizeof(event.Record)))
			read.Records = append(read.Records, goldenRecord{uint64(event.Shard), event.Ticket, record, hex.EncodeToString(event.Tail)})
		}
		// There is no order between shards.
		slices.SortStableFunc(read.Records, func(a, b goldenRecord) int { return int(a.Shard) - int(b.Shard) })
		read.Counts = goldenCounts(reader.Stats())
		for _, it := range reader.Unended() {
			read.Unended = append(read.Unended, [2]uint64{uint64(it.Shard), it.Ticket})
		}
		got.Reads = append(got.Reads, read)
		reader.Close()
	}
	if want.Merged == nil {
		return
	}
	reader := ring.Reader(Oldest)
	defer reader.Close()
	reader.SetPatience(0)
	reader.Merge(Monotonic, func(record *T) uint64 { return *(*uint64)(unsafe.Pointer(record)) })
	for _, event := range readGoldenRing(reader, sumOfCounts(want.Reads[0].Counts)) {
		got.Merged = append(got.Merged, [2]uint64{uint64(event.Shard), event.Ticket})
	}
}

// readGoldenRing reads until so many tickets are passed, and three times more.
func readGoldenRing[T any](reader *Reader[T], passed uint64) (events []Event[T]) {
	end := time.Now().Add(5 * time.Second)
	for more := 3; more > 0; {
		found := len(events)
		for event := range reader.Drain() {
			event.Tail = slices.Clone(event.Tail)
			events = append(events, event)
		}
		if found == len(events) && (sumOfCounts(goldenCounts(reader.Stats())) >= passed || time.Now().After(end)) {
			more--
		}
	}
	return events
}

func goldenCounts(s Stats) map[string]uint64 {
	return map[string]uint64{"delivered": s.Delivered, "lapped": s.Lapped, "skipped": s.Skipped, "tail_lost": s.TailLost,
		"discarded": s.Discarded, "stepped_over": s.SteppedOver, "no_slot": s.NoSlot, "full": s.Full, "no_shard": s.NoShard,
		"no_tail": s.NoTail, "too_long": s.TooLong}
}

// sumOfCounts is the number of tickets that a reader passed.
func sumOfCounts(counts map[string]uint64) (sum uint64) {
	for _, name := range []string{"delivered", "lapped", "skipped", "tail_lost", "discarded", "stepped_over"} {
		sum += counts[name]
	}
	return sum
}
