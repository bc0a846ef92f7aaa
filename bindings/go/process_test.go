// Readers in other processes, programs that run at the same time, and the example.

package mapring

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestProgramsAndReadersAtTheSameTime(t *testing.T) {
	coll := kernelProgram(t, "options.bpf.c", nil)
	const count = 20_000
	for _, name := range []string{"plain", "tails", "wakes", "keeps_tails_of_cpu"} {
		ring := openRing[rec](t, Map(coll.Maps[name]))
		ctx, cancel := context.WithCancel(context.Background())
		var writers, readers sync.WaitGroup
		var reserved [64]uint64 // on each CPU
		cpus := must(possibleCPUs())
		for range 2 {
			reader := ring.Reader(First)
			readers.Go(func() {
				defer reader.Close()
				next := make([]uint64, len(reserved))
				read := func() {
					for event := range reader.Drain() {
						whole(t, name, event)
						if event.Ticket < next[event.Shard] {
							t.Errorf("%s: %d after %d", name, event.Ticket, next[event.Shard])
						}
						next[event.Shard] = event.Ticket + 1
					}
				}
				for reader.Wait(ctx) == nil {
					read()
				}
				writers.Wait()
				read()
				sum := uint64(0)
				for _, tickets := range reserved {
					sum += tickets
				}
				if stats := reader.Stats(); stats.Passed() != sum || stats.Delivered == 0 || stats.Dropped()+sum != count*uint64(len(cpus)) {
					t.Errorf("%s: %v of %d", name, stats, sum)
				}
			})
		}
		for _, cpu := range cpus {
			writers.Go(func() {
				onCPU(t, cpu)
				for n := range uint64(count) {
					if push(t, coll, name, n, false) {
						reserved[cpu]++
					}
				}
			})
		}
		writers.Wait()
		cancel()
		readers.Wait()
	}
}

// Records that are overwritten while they are copied: one slot of a page.
func TestTornRecordsAreThrownAway(t *testing.T) {
	coll := kernelProgram(t, "basic.bpf.c", nil)
	type record struct{ Words [1024]uint32 }
	var readers []*Reader[record]
	var cells []*Cells[record]
	for _, source := range both(t, coll.Maps["ring_4096_1"]) {
		readers = append(readers, readerOf(t, openRing[record](t, source), First))
	}
	for _, source := range both(t, coll.Maps["cells_4096"]) {
		cell := must(OpenCells[record](source))
		defer cell.Close()
		cells = append(cells, cell)
	}
	const count = 20_000
	done := make(chan bool)
	go func() {
		defer close(done)
		onCPU(t, 0)
		for n := range uint64(count) {
			run(t, coll, "write_4096_1", 0, 0, n, 0)
			run(t, coll, "cell_4096", 0, 0, n, 0)
			for range n % 8 { // for as long as about so many system calls of the reader
				run(t, coll, "inc_1", 0, 0, 0, 0)
			}
		}
	}()
	read := func() {
		for _, cell := range cells {
			value, version, err := cell.Read(0)
			if err != nil && !errors.Is(err, ErrBusy) || version > 0 && !isRecord(value.Words[:], version-1) {
				t.Error("torn: cell", version, err)
			}
		}
		for _, reader := range readers {
			for event := range reader.Drain() {
				if !isRecord(event.Record.Words[:], event.Ticket) {
					t.Errorf("torn: ticket %d", event.Ticket)
				}
			}
			if err := reader.Err(); err != nil {
				t.Error(err)
			}
		}
	}
	readUntil(done, read)
	for _, reader := range readers {
		if stats := reader.Stats(); stats.Passed() != count || stats.Delivered == 0 {
			t.Error(stats)
		}
	}
}

// The program of docs/go.md, as printed.
func TestTheExample(t *testing.T) {
	page, err := os.ReadFile(root(t, "docs", "go.md"))
	if err != nil {
		t.Skip("NOT TESTED: the page is in the repository of mapring")
	}
	for file, fence := range map[string]string{"main.go": "go", "switches.bpf.c": "c"} {
		program, err := os.ReadFile(filepath.Join("examples", "switches", file))
		if err != nil || !strings.Contains(string(page), "```"+fence+"\n"+string(program)+"```\n") {
			t.Errorf("docs/go.md does not have examples/switches/%s as it is: %v", file, err)
		}
	}
	needBPF(t)
	dir := t.TempDir()
	object := filepath.Join(dir, "switches.bpf.o")
	compileTo(t, object, filepath.Join("examples", "switches", "switches.bpf.c"))
	binary := filepath.Join(dir, "switches")
	buildAsPrinted(t, string(page), dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, object)
	run.Cancel = func() error { return run.Process.Kill() }
	var stderr, out strings.Builder
	run.Stderr = &stderr
	lines, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	interrupt := sync.OnceFunc(func() { _ = run.Process.Signal(os.Interrupt) })
	for output := bufio.NewScanner(lines); output.Scan(); {
		out.WriteString(output.Text() + "\n")
		if strings.Contains(output.Text(), "cpu 0") {
			interrupt()
		}
	}
	if err := run.Wait(); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), stderr.String())
	}
	contains(t, out.String(), "cpu 0", " delivered, ", "0 dropped; mapped, compared field by field")
}

// buildAsPrinted builds the example in a module of its own, by the commands of the page. Instead of `go mod tidy`, which needs a
// network, it uses the libraries with which this test was built.
func buildAsPrinted(t *testing.T, page, dir string) {
	t.Helper()
	goes := func(args ...string) string {
		t.Helper()
		command := exec.Command("go", args...)
		if args[0] != "list" {
			command.Dir, command.Env = dir, append(os.Environ(), "GOWORK=off")
		}
		out, err := command.Output()
		if err != nil {
			t.Fatalf("go %s: %v: %s", strings.Join(args, " "), err, err.(*exec.ExitError).Stderr)
		}
		return strings.TrimSpace(string(out))
	}
	program, err := os.ReadFile(filepath.Join("examples", "switches", "main.go"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(page) {
		switch row = strings.TrimSpace(row); {
		case strings.HasPrefix(row, "go mod tidy"):
			for _, library := range []string{"github.com/cilium/ebpf", "golang.org/x/sys"} {
				goes("mod", "edit", "-replace", library+"="+goes("list", "-m", "-f", "{{.Dir}}", library))
			}
		case strings.HasPrefix(row, "go mod "):
			goes(strings.Fields(strings.ReplaceAll(row, "=PATH/", "="+root(t)+"/"))[1:]...)
		case strings.HasPrefix(row, "go build "):
			row, _, _ = strings.Cut(row, " &&")
			goes(strings.Fields(strings.Replace(row, "build", "build -mod=mod", 1))[1:]...)
			return
		}
	}
	t.Error("docs/go.md does not say how to build the example")
}
