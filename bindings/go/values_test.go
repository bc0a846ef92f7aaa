package mapring

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// word is WORD of records.h.
func word(n uint64, i int) uint32 { return uint32(n)*2654435761 + uint32(i) }

func isRecord(words []uint32, n uint64) bool {
	for i, found := range words {
		if found != word(n, i) {
			return false
		}
	}
	return true
}

// both are the same region, mapped and by system call.
func both(t *testing.T, m *ebpf.Map) map[string]Source {
	return map[string]Source{"mapped": Map(m), "by system call": readOnly(t, m)}
}

type words12 struct{ Words [3]uint32 }
type words56 struct{ Words [14]uint32 }

func TestCellsAndCounters(t *testing.T) {
	coll := kernelProgram(t, "basic.bpf.c", nil)
	cpu := onCPU(t, len(must(possibleCPUs()))-1)
	for how, source := range both(t, coll.Maps["cells_12"]) {
		cells, err := OpenCells[words12](source)
		if err != nil {
			t.Fatal(err)
		}
		defer cells.Close()
		contains(t, cells.Access(), how)
		contains(t, cells.LayoutCheck(), "field by field")
		version := uint64(0)
		if _, version, err = cells.Read(1); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(10) {
			run(t, coll, "cell_12", 0, 1, n, 0)
			value, now, err := cells.Read(1)
			if err != nil || now != version+n+1 || !isRecord(value.Words[:], n) {
				t.Fatal(how, value, now, err)
			}
		}
		if _, _, err := cells.Read(3); !errors.Is(err, ErrOutOfRange) {
			t.Error(err)
		}
		if _, _, err := cells.ReadCPU(-1, 0); !errors.Is(err, ErrOutOfRange) {
			t.Error(err)
		}
	}
	const abandon = 3
	run(t, coll, "cell_12", abandon, 2, 5, 0)
	run(t, coll, "cell_12", 0, 2, 5, 0)
	for how, source := range both(t, coll.Maps["cells_12"]) {
		cells := must(OpenCells[words12](source))
		defer cells.Close()
		if _, _, err := cells.Read(2); !errors.Is(err, ErrBusy) {
			t.Error(how, err)
		}
		if dropped, err := cells.Dropped(); err != nil || dropped != 1 {
			t.Error(how, dropped, err)
		}
	}
	for range 5 {
		run(t, coll, "count_10", 0, 9, 100, 0)
		run(t, coll, "inc_10", 0, 8, 0, 0)
	}
	run(t, coll, "inc_10", 0, 10, 0, 0)
	for how, source := range both(t, coll.Maps["counters_10"]) {
		counters, err := OpenCounters(source)
		if err != nil {
			t.Fatal(err)
		}
		defer counters.Close()
		sum, err := counters.Sum(9)
		one, _ := counters.Shard(cpu, 8)
		if dropped, _ := counters.Dropped(); err != nil || sum != 500 || one != 5 || dropped != 1 || counters.Len() != 10 {
			t.Error(how, sum, one, dropped, err)
		}
	}
	_, err := OpenCells[words56](Map(coll.Maps["cells_12"]))
	if contains(t, err.Error(), "words56.Words is unsigned int[3] in C, and 14 times an integer of 4 bytes in Go"); !errors.Is(err, ErrLayout) {
		t.Error(err)
	}
	if _, err = OpenCounters(Map(coll.Maps["cells_12"])); !errors.Is(err, ErrWrongType) {
		t.Error(err)
	}
	contains(t, err.Error(), "holds cells, expected counters")
	_, err = OpenCells[words12](Map(coll.Maps["plain"]))
	contains(t, err.Error(), "expected at least 128; such a map holds no region")
}

func TestEachCPUHasItsCopy(t *testing.T) {
	coll := kernelProgram(t, "percpu.bpf.c", nil)
	cpus := must(possibleCPUs())
	cells, err := OpenCells[words12](Map(coll.Maps["cells_12"]))
	if err != nil {
		t.Fatal(err)
	}
	defer cells.Close()
	contains(t, cells.Access(), "by system call (maps of this type are never mapped (ENOTSUPP)")
	counters := must(OpenCounters(Map(coll.Maps["counters_512"])))
	defer counters.Close()
	for i, cpu := range cpus {
		onCPU(t, cpu)
		run(t, coll, "write_12", 0, 2, uint64(100+cpu), 0)
		for range cpu + 1 {
			run(t, coll, "count", 0, 511, 3, 0)
		}
		value, version, err := cells.ReadCPU(cpu, 2)
		if err != nil || version != 1 || !isRecord(value.Words[:], uint64(100+cpu)) {
			t.Error(cpu, value, version, err)
		}
		if one, err := counters.Shard(i, 511); err != nil || one != uint64(3*(cpu+1)) {
			t.Error(cpu, one, err)
		}
	}
}

func TestLatches(t *testing.T) {
	coll := kernelProgram(t, "latches.bpf.c", nil)
	for how, source := range both(t, coll.Maps["latches_56"]) {
		latches, err := OpenLatches[words56](source)
		if err != nil {
			t.Fatal(err)
		}
		defer latches.Close()
		_, before, _ := latches.Read(2)
		for n := range uint64(5) {
			run(t, coll, "write_56", 0, 2, n, 0)
			if value, version, err := latches.Read(2); err != nil || version != before+n+1 || !isRecord(value.Words[:], n) {
				t.Fatal(how, value, version, err)
			}
		}
	}
}

func TestHistograms(t *testing.T) {
	for value, bucket := range map[uint64]int{0: 0, 15: 15, 16: 16, 17: 16, 960: 63, 1023: 63, 1 << 63: 488, ^uint64(0): 495} {
		first, last := BucketRange(Bucket(value))
		if Bucket(value) != bucket || first > value || last < value {
			t.Error(value, Bucket(value), first, last)
		}
	}
	coll := kernelProgram(t, "histogram.bpf.c", nil)
	for value := range uint64(100) {
		run(t, coll, "add", 1, value)
	}
	run(t, coll, "add", 1, ^uint64(0))
	for how, source := range both(t, coll.Maps["histograms"]) {
		histograms, err := OpenHistograms(source)
		if err != nil {
			t.Fatal(err)
		}
		defer histograms.Close()
		copied, err := histograms.Read(1)
		if err != nil || copied.Count() != 101 || copied[15] != 1 || copied[16] != 2 || copied[495] != 1 {
			t.Fatal(how, copied, err)
		}
		contains(t, copied.String(), "101 values, p50 48 to 51, p99 96 to 103")
		if first, _, _ := copied.Percentile(100); first != 15<<60 {
			t.Error(first)
		}
		if _, _, ok := copied.Since(copied).Percentile(50); ok {
			t.Error("nothing was added")
		}
		if _, err := histograms.Read(3); !errors.Is(err, ErrOutOfRange) {
			t.Error(err)
		}
	}
}

func TestGauges(t *testing.T) {
	coll := kernelProgram(t, "gauge.bpf.c", nil)
	const window = 5000
	for _, value := range []uint64{500, 3, 77} {
		run(t, coll, "set_at", 1, value, window*uint64(WindowLength))
	}
	run(t, coll, "set_at", 1, 9, (window+1)*uint64(WindowLength))
	for how, source := range both(t, coll.Maps["gauges"]) {
		gauges, err := OpenGauges(source)
		if err != nil {
			t.Fatal(err)
		}
		defer gauges.Close()
		windows, err := gauges.Windows(1)
		if err != nil || len(windows) != 2 || windows[0] != (Window{window, 3, 500}) || windows[1] != (Window{window + 1, 9, 9}) {
			t.Error(how, windows, err)
		}
	}
}

func TestTopKeys(t *testing.T) {
	coll := kernelProgram(t, "top.bpf.c", nil)
	exact, total := map[uint64]uint64{}, uint64(0)
	for n := range uint64(2000) {
		key := n * n % 300
		run(t, coll, "add", key, 1+n%3)
		exact[key] += 1 + n%3
		total += 1 + n%3
	}
	for how, source := range both(t, coll.Maps["table"]) {
		top, err := OpenTopKeys(source)
		if err != nil {
			t.Fatal(err)
		}
		defer top.Close()
		keys, unlisted, sum, err := top.Largest(1000)
		if err != nil || sum != total || len(keys) == 0 {
			t.Fatal(how, keys, sum, err)
		}
		listed := map[uint64]bool{}
		for _, key := range keys {
			if listed[key.Key] = true; key.Least > exact[key.Key] || key.Most < exact[key.Key] {
				t.Error(how, key, exact[key.Key])
			}
		}
		for key, sum := range exact {
			if !listed[key] && sum > unlisted {
				t.Error(how, key, sum, unlisted)
			}
		}
	}
}

func TestObjectsThatAreNotPreparedAreRefused(t *testing.T) {
	needBPF(t)
	if len(must(possibleCPUs())) == 1 {
		t.Skip("NOT TESTED: one CPU needs one shard")
	}
	spec := compiled(t, "proofs", "kernel", "bpf", "basic.bpf.c")
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for _, err := range []error{Initialize(spec, coll.Maps), func() error {
		_, err := OpenRing[[14]uint32](Map(coll.Maps["ring_56_4"]))
		return err
	}()} {
		if !errors.Is(err, ErrNotPrepared) || !strings.Contains(err.Error(), "1 shard, expected") || !strings.Contains(err.Error(), "call mapring.Prepare") {
			t.Error(err)
		}
	}
}

func TestAPreambleThatContradictsBTFIsRefused(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	mapAll(t, coll.Maps["plain"]).store(wordCapacity, 32)
	if _, err := OpenRing[rec](Map(coll.Maps["plain"])); !errors.Is(err, ErrContradiction) {
		t.Error(err)
	}
}

// Another file is mounted over the list of the CPUs: this one lists one CPU, number 8191 or so.
func TestAWrongListOfCPUsIsNotBelieved(t *testing.T) {
	right := must(listedCPUs())
	if needBPF(t); len(right) == 1 {
		t.Skip("NOT TESTED: the file is right on a machine with one CPU")
	}
	cells := kernelProgram(t, "percpu.bpf.c", nil).Maps["cells_4096"]
	found := make(chan []any)
	go func() {
		runtime.LockOSThread() // which ends with this goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("/sys/devices/system/cpu/kernel_max", "/sys/devices/system/cpu/possible", "", unix.MS_BIND, ""))
		r := must(openRegion(Map(cells)))
		defer r.close()
		found <- []any{err, len(must(listedCPUs())), len(must(possibleCPUs())), len(r.cpus), len(newLookups(r).copies[0])}
	}()
	if found, expected := <-found, []any{error(nil), 1, len(right), len(right), int(cells.ValueSize()) / 8 * len(right)}; !slices.Equal(found, expected) {
		t.Error(found)
	}
}
