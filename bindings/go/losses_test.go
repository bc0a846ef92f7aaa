package mapring

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// sums checks that losses add up to the counts since `before`.
func sums(t testing.TB, all []Loss, before, stats Stats) {
	t.Helper()
	var found [len(causes)]uint64
	for _, loss := range all {
		found[loss.Cause] += loss.Count
		if loss.Since > loss.Until || loss.To-loss.From < loss.Count && loss.From != loss.To {
			t.Errorf("%+v", loss)
		}
	}
	for cause, count := range found {
		if now, old := *stats.of(LossCause(cause)), *before.of(LossCause(cause)); count != now-old {
			t.Errorf("%v: %d reported, %d counted", LossCause(cause), count, now-old)
		}
	}
}

func TestLossesSayWhichRecordsAndWhen(t *testing.T) {
	image := newImage(t, ring(8, 8, 2))
	reader := open[uint64](t, image).Reader(Oldest)
	defer reader.Close()
	reader.SetPatience(0)
	drain := func() {
		for range reader.Drain() {
		}
	}
	image.push(1, commit, 1)
	drain()
	if all := reader.TakeLosses(); len(all) != 0 {
		t.Fatal(all)
	}
	image.push(1, abandon)
	image.push(1, commit, 3)
	begun := monotonic()
	drain()
	all := reader.TakeLosses()
	want := Loss{Shard: 1, Cause: LostSkipped, From: 1, To: 2, Count: 1}
	if len(all) != 1 || all[0].Since == 0 || all[0].Since > begun || all[0].Until < begun || all[0].Until > notBefore() {
		t.Fatal(all)
	}
	if want.Since, want.Until = all[0].Since, all[0].Until; all[0] != want {
		t.Error(all[0])
	}
	// The slot of the skipped ticket is no writer's any more: ticket 9 is stepped over.
	for n := range uint64(40) {
		image.push(0, commit, n)
	}
	drain()
	all = reader.TakeLosses()
	if len(all) != 1 || all[0].Cause != LostLapped || all[0].Shard != 0 || all[0].From != 0 || all[0].To != all[0].Count {
		t.Fatal(all)
	}
	contains(t, all[0].String(), "shard 0: 33 overwritten, tickets 0 to 32, within ")
	for range 9 {
		image.push(0, abandon)
	}
	if next, ok := reader.Position(0); !ok || next != 40 {
		t.Error(next, ok)
	}
	all = reader.TakeLosses()
	sums(t, all, Stats{Lapped: 33, Skipped: 1}, reader.Stats())
	contains(t, reader.Stats().String(), "lost (", "no free slot")
	if len(all) != 1 || all[0].Cause != DroppedNoSlot || !all[0].Cause.IsDrop() || all[0].From != all[0].To {
		t.Error(all)
	}
	if again := reader.TakeLosses(); len(again) != 0 {
		t.Error(again)
	}
	// A reader of the first ticket does not know since when.
	first := open[uint64](t, image).Reader(First)
	defer first.Close()
	for range first.Drain() {
	}
	if all := first.TakeLosses(); len(all) < 2 || all[0].Since != 0 {
		t.Error(all)
	}
}

func TestAFullListOfLossesKeepsTheSums(t *testing.T) {
	list, want := newLosses(lossesOfShard), [2]uint64{}
	for n := range uint64(1000) {
		cause, count := LossCause(n%2), 1+n%5
		list.add(Loss{Shard: int(n % 3), Cause: cause, From: 10 * n, To: 10*n + count, Count: count, Since: 100 * n, Until: 100*n + 50})
		want[cause] += count
	}
	found := [2]uint64{}
	for _, loss := range list.list {
		found[loss.Cause] += loss.Count
	}
	if found != want || len(list.list) != lossesOfShard || list.list[0].Since != 0 || list.list[8].From != 9990 {
		t.Error(found, want, list.list)
	}
	list = newLosses(lossesOfShard)
	for shard := range 10 {
		list.add(Loss{Shard: shard, Cause: LostLapped, From: 1, To: 2, Count: 1})
	}
	if first := list.list[0]; first != (Loss{Shard: -1, Cause: LostLapped, Count: 2}) || len(list.list) != lossesOfShard {
		t.Error(list.list)
	}
	list = newLosses(lossesOfShard)
	list.add(Loss{From: 3, To: 5, Count: 2})
	list.add(Loss{From: 5, To: 9, Count: 4})
	if want := []Loss{{From: 3, To: 9, Count: 6}}; !slices.Equal(list.list, want) {
		t.Error(list.list)
	}
}

func TestAnyTimesOfDropsGiveAnIntervalThatEndsSoon(t *testing.T) {
	words := []uint64{0, 1, 3, 5, 1 << 63, ^uint64(0), notAfter()}
	for range 1000 {
		began, last := words[rand.IntN(len(words))], words[rand.IntN(len(words))]
		for _, looked := range []uint64{0, notAfter()} {
			known := drops{9, looked}
			loss := known.more(1, DroppedNoSlot, 3, 7, func() (uint64, uint64) { return began, last })
			if loss.Count != 1<<64-6 || loss.Since > loss.Until || loss.Until > notBefore()+ahead || known != (drops{3, 7}) {
				t.Fatal(began, last, loss)
			}
		}
	}
}

func TestLossesOfProgramsAddUp(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	cpu := onCPU(t, 0)
	for _, name := range ringNames {
		ring := openRing[rec](t, Map(coll.Maps[name]))
		reader := readerOf(t, ring, Oldest)
		reader.Next()
		before, begun := reader.Stats(), monotonic()
		if all := reader.TakeLosses(); len(all) != 0 {
			t.Fatal(name, all)
		}
		if ring.parts[0].options.Has(KeepOldest) {
			if err := reader.Require(time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		for n := range uint64(300) {
			push(t, coll, name, n, false)
		}
		for range reader.Drain() {
		}
		all, ended := reader.TakeLosses(), notBefore()
		sums(t, all, before, reader.Stats())
		if len(all) == 0 {
			t.Error(name, "lost nothing")
		}
		for _, loss := range all {
			if loss.Shard != cpu || loss.Since == 0 || loss.Since > ended || loss.Until < begun || loss.Until > ended {
				t.Errorf("%s: %+v", name, loss)
			}
			if isFull := loss.Cause == DroppedFull; isFull != ring.parts[0].options.Has(KeepOldest) || isFull && loss.Since < begun {
				t.Error(name, loss)
			}
		}
		if again := reader.TakeLosses(); len(again) != 0 {
			t.Error(name, again)
		}
	}
}

func TestLossesAddUpAcrossRings(t *testing.T) {
	needBPF(t)
	spec := compiled(t, "proofs", "kernel", "bpf", "options.bpf.c")
	coll := loaded(t, spec, nil)
	onCPU(t, 0)
	reader := readerOf(t, openRing[rec](t, Map(coll.Maps["grows"])), Oldest)
	ring, all := coll.Maps["grows__first"], []Loss(nil)
	for round, slots := range []uint64{128, 16, 1024} {
		for n := range uint64(300) {
			push(t, coll, "grows", n, false)
		}
		ring = replace(t, coll, spec.Maps["grows__first"], ring, slots)
		for range 3 * round { // the first time it stays in its ring, and misses the second one
			for range reader.Drain() {
			}
			all = append(all, reader.TakeLosses()...)
		}
	}
	sums(t, all, Stats{}, reader.Stats())
	if reader.Rings() < 2 || reader.Stats().Lapped == 0 || !slices.ContainsFunc(all, func(loss Loss) bool { return loss.Shard == -1 }) {
		t.Error(reader.Rings(), all)
	}
}

func TestRecordsThatNoProgramEnds(t *testing.T) {
	coll := kernelProgram(t, "basic.bpf.c", nil)
	cpu := onCPU(t, 0)
	const abandon = 3
	for how, source := range both(t, coll.Maps["ring_12_64"]) {
		reader := readerOf(t, openRing[words12](t, source), Now)
		reader.SetPatience(0)
		if list := reader.Unended(); len(list) != 0 {
			t.Fatal(how, list)
		}
		run(t, coll, "write_12_64", abandon, 0, 1, 0)
		run(t, coll, "write_12_64", 0, 0, 2, 0)
		for range reader.Drain() {
		}
		list := reader.Unended()
		if len(list) != 1 || list[0].Shard != cpu || list[0].Noticed < 0 || reader.Stats().Skipped != 1 {
			t.Fatal(how, list, reader.Stats())
		}
		contains(t, list[0].String(), "shard 0: the record of ticket ", "and not ended; a path of the program has no commit")
	}
}

func TestAReaderWithAWatermarkSleepsUntilSoManyRecords(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	onCPU(t, 0)
	const count = 16
	reader := readerOf(t, openRing[rec](t, Map(coll.Maps["wakes"])), Oldest)
	reader.SetWatermark(count, time.Second)
	if err := reader.Bell(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		bell := reader.waiting.bell
		rung, asleep, woken := bell.producer.load(0), make(chan bool), make(chan error)
		go func() {
			for bell.seat.mem.load(wordAsleep) == 0 {
			}
			close(asleep)
		}()
		go func() { woken <- reader.Wait(context.Background()) }()
		<-asleep
		pushed := uint64(0)
		for bell.producer.load(0) == rung && pushed < optionSlots {
			push(t, coll, "wakes", pushed, false)
			pushed++
		}
		if err := <-woken; err != nil {
			t.Fatal(err)
		}
		if pushed < count || pushed > count+count/4 {
			t.Error(pushed)
		}
		read := uint64(0)
		for range reader.Drain() {
			read++
		}
		if read != pushed {
			t.Error(read, pushed)
		}
	}
	// Fewer are read after a time.
	reader.SetWatermark(count, time.Millisecond)
	push(t, coll, "wakes", 0, false)
	if err := reader.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, ok := reader.Next(); !ok {
		t.Error("no record")
	}
	reader.Close()
}

func TestLookAndWatermark(t *testing.T) {
	for _, row := range [][3]uint64{{1, 5, 5}, {7, 5, 11}, {8, 5, 13}, {16, 0, 15}, {16, 5, 23}, {1 << 40, 0, 1<<40 - 1}} {
		if found := watermark(row[1], row[0]); found != row[2] {
			t.Error(row, found)
		}
	}
}
