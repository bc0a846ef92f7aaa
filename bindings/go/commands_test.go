package mapring

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// order is `struct order` of commands.bpf.c.
type order struct {
	Thread, Number uint64
	Words          [5]uint64
}

type small struct{ Value uint64 }

func orderOf(thread, n uint64) *order { return &order{thread, n, [5]uint64{n, n, n, n, n}} }

func TestProgramsCarryOutCommandsOnceAndInOrder(t *testing.T) {
	coll := kernelProgram(t, "commands.bpf.c", nil)
	smalls := must(OpenCommands[small](Map(coll.Maps["smalls"])))
	for n := range uint64(4) {
		if number, err := smalls.Push(&small{100 + n}); err != nil || number != n+1 {
			t.Fatal(number, err)
		}
	}
	if _, err := smalls.Push(new(small)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if done := must(smalls.Acknowledged()); done != 0 || smalls.Slots() != 4 || must(smalls.Pushed()) != 4 {
		t.Error(done, smalls.Slots())
	}
	for n := uint64(0); must(smalls.Acknowledged()) < 4; n++ {
		run(t, coll, "one_small", 0, 0, 0, 0)
	}
	if _, after := run(t, coll, "one_small", 0, 0, 0, 0); after[2] != 103 || after[3] != 1 {
		t.Error(after)
	}
	odds := must(OpenCommands[words12](Map(coll.Maps["odds"])))
	for n := range uint32(9) {
		if _, err := odds.Push(&words12{[3]uint32{n, 1, 2}}); err != nil {
			t.Fatal(err)
		}
		if _, after := run(t, coll, "one_odd", 0, 0, 0, 0); after[2] != uint64(n*(n+1)/2+3*(n+1)) {
			t.Error(n, after)
		}
	}
	if _, err := OpenCommands[order](Map(coll.Maps["odds"])); !errors.Is(err, ErrLayout) {
		t.Error(err)
	}
	if err := errors.Join(smalls.Close(), odds.Close()); err != nil || smalls.Close() == nil {
		t.Error(err)
	}
	if _, err := smalls.Push(new(small)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestGoroutinesPushBesidePrograms(t *testing.T) {
	coll := kernelProgram(t, "commands.bpf.c", nil)
	const each = 2000
	var pushers sync.WaitGroup
	for thread := range uint64(2) {
		commands := must(OpenCommands[order](Map(coll.Maps["orders"]))) // two handles take turns, too
		defer commands.Close()
		pushers.Go(func() {
			for n := uint64(1); n <= each; {
				switch _, err := commands.Push(orderOf(thread, n)); {
				case err == nil:
					n++
				case errors.Is(err, ErrFull):
					run(t, coll, "one_event", 0, 0, 0, 0)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	pushers.Wait()
	byCall := must(OpenCommands[order](readOnly(t, coll.Maps["orders"])))
	defer byCall.Close()
	for must(byCall.Acknowledged()) < 2*each {
		run(t, coll, "one_event", 0, 0, 0, 0)
	}
	for name, want := range map[string]uint64{"carried_out": 2 * each, "out_of_order": 0, "mixed": 0} {
		var found uint64
		if err := coll.Variables[name].Get(&found); err != nil || found != want {
			t.Error(name, found, err)
		}
	}
	if skipped := must(byCall.Skipped()); skipped != 0 || must(byCall.Pushed()) != 2*each {
		t.Error(skipped)
	}
	// What the programs have set: a global latch.
	latch := must(OpenGlobalLatch[order](Map(coll.Maps[".bss"]), "now"))
	defer latch.Close()
	if value, version, err := latch.Read(0); err != nil || version != 2*each || value.Number != each || value.Words[4] != each {
		t.Error(value, version, err)
	}
}

func TestOneProcessPushesCommands(t *testing.T) {
	image := newImage(t, layout{kind: KindCommands, record: 8, capacity: 2, shards: 1})
	commands := must(OpenCommands[uint64](FD(image.fd)))
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	start, _, _ := startOf(fmt.Sprint(other.Process.Pid))
	owner := image.headerAt(0) + wordOwner
	image.mem.store(owner, start<<pidBits|uint64(other.Process.Pid))
	_, err := commands.Push(new(uint64))
	if !errors.Is(err, ErrOwned) {
		t.Error(err)
	}
	contains(t, err.Error(), fmt.Sprintf("process %d pushes these commands, and lives", other.Process.Pid))
	_ = other.Process.Kill()
	_ = other.Wait()
	if _, err := commands.Push(new(uint64)); err != nil || image.mem.load(owner)&pidMask != uint64(unix.Getpid()) {
		t.Error(err)
	}
	// Forged positions are a full ring.
	image.mem.store(image.headerAt(0)+wordApplied, 5)
	if _, err := commands.Push(new(uint64)); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if err := commands.Close(); err != nil || image.mem.load(owner) != 0 {
		t.Error(err, image.mem.load(owner))
	}
}

func TestGlobalCellsAndLatches(t *testing.T) {
	coll := kernelProgram(t, "globals.bpf.c", nil)
	var cells []*Cells[words56]
	for how, source := range both(t, coll.Maps[".bss"]) {
		cell, err := OpenGlobalCell[words56](source, "cell")
		if err != nil {
			t.Fatal(how, err)
		}
		defer cell.Close()
		contains(t, cell.Access(), how)
		cells = append(cells, cell)
	}
	for n := range uint64(10) {
		run(t, coll, "stream", 0, 0, 1, 0)
		for _, cell := range cells {
			value, version, err := cell.Read(0)
			if dropped, err := cell.Dropped(); err != nil || dropped != 0 {
				t.Error(dropped, err)
			}
			if err != nil || version != n+1 || !isRecord(value.Words[:], n) {
				t.Fatal(n, value, version, err)
			}
		}
	}
	type wide struct{ Words [512]uint64 }
	latch := must(OpenGlobalLatch[wide](Map(coll.Maps[".bss"]), "wide_latch"))
	defer latch.Close()
	if value, version, err := latch.Read(0); err != nil || version != 0 || slices.Max(value.Words[:]) != 0 {
		t.Error(version, err)
	}
	bss := Map(coll.Maps[".bss"])
	for _, row := range []struct {
		err  error
		kind ErrorKind
		says string
	}{
		{second(OpenGlobalCell[words56](bss, "none")), ErrOpen, "there is no such variable"},
		{second(OpenGlobalCell[words56](bss, "latch")), ErrWrongType, "is struct mapring_global_latch__latch, expected cells"},
		{second(OpenGlobalCell[words56](bss, "counted")), ErrWrongType, "expected cells: declare it with MAPRING_GLOBAL_CELL"},
		{second(OpenGlobalCell[words12](bss, "cell")), ErrLayout, "words12.Words is unsigned int[14] in C"},
		{second(OpenGlobalCell[words56](Map(coll.Maps["ring"]), "cell")), ErrWrongType, "not the map of a section"},
	} {
		if row.err == nil || !errors.Is(row.err, row.kind) {
			t.Error(row.err, row.kind)
			continue
		}
		contains(t, row.err.Error(), row.says)
	}
}

func second[T any](_ T, err error) error { return err }
