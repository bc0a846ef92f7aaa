package mapring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// pins makes a directory for pins that other users can search.
func pins(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/sys/fs/bpf", "mapring-go-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Loads two rings of a name, which tests pin in turn.
func twice(t *testing.T) (colls [2]*ebpf.Collection) {
	for i := range colls {
		colls[i] = kernelProgram(t, "options.bpf.c", nil)
	}
	return colls
}

func TestAReaderFindsTheEarlierRingOrTheNewOneWhole(t *testing.T) {
	const times = 1000
	colls, dir := twice(t), pins(t)
	for _, name := range []string{"wakes", "keeps_of_cpu"} {
		pin := filepath.Join(dir, name)
		how := PinOptions{Mode: 0o666, Replace: true}
		if err := PinRegion(colls[0].Maps, name, pin, how); err != nil {
			t.Fatal(err)
		}
		if info := must(os.Stat(pin)); info.IsDir() && info.Mode().Perm() != 0o755 {
			t.Error(info.Mode())
		}
		first, found, ended, done := openRing[rec](t, Pin(pin)), [2]atomic.Uint64{}, make(chan error, 1), atomic.Bool{}
		go func() {
			// Without capabilities a reader finds the readers and bells only by their pins. This thread ends with the goroutine.
			runtime.LockOSThread()
			header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
			err := unix.Capset(&header, &none[0])
			for err == nil && !done.Load() {
				var ring *Ring[rec]
				if ring, err = OpenPinned[rec](pin); err != nil {
					break
				}
				reader, at := ring.Reader(Oldest), 0
				var seat *seat
				if seat, err = reader.seat(); err == nil {
					seat.leave()
				}
				if ring.parts[0].info.id == first.parts[0].info.id {
					at = 1
				}
				last := len(first.parts) - 1
				if last != len(ring.parts)-1 || (ring.parts[last].info.id == first.parts[last].info.id) != (at == 1) {
					err = fmt.Errorf("the maps of two rings, or %d maps, not %d", len(ring.parts), last+1)
				}
				found[at].Add(1)
				reader.Close()
				ring.Close()
			}
			ended <- err
		}()
		for n := 0; len(ended) == 0 && (n < times || min(found[0].Load(), found[1].Load()) < times/2); n++ {
			if err := PinRegion(colls[n%2].Maps, name, pin, how); err != nil {
				t.Fatal(err)
			}
		}
		done.Store(true)
		if err := <-ended; err != nil {
			t.Error(name, err)
		}
	}
}

func TestPinsAreMadeWhereNoOtherUserCanExchangeThem(t *testing.T) {
	colls, dir := twice(t), pins(t)
	maps, pin := colls[0].Maps, filepath.Join(dir, "wakes")
	if err := PinRegion(maps, "wakes", pin, PinOptions{Mode: 0o644, Freeze: true}); err != nil {
		t.Fatal(err)
	}
	if err := Initialize(compiled(t, "proofs", "kernel", "bpf", "options.bpf.c"), maps); err != nil {
		t.Error(err) // a loader that starts again, and reuses frozen maps
	}
	if err := PinRegion(maps, "wakes", pin, PinOptions{Mode: 0o644, Freeze: true, Replace: true}); err != nil {
		t.Error(err)
	}
	refused := func(name, path string, kind ErrorKind, says string) {
		t.Helper()
		if err := PinRegion(maps, name, path, PinOptions{Mode: 0o600}); err == nil || !errors.Is(err, kind) {
			t.Error(path, err)
		} else {
			contains(t, err.Error(), says)
		}
	}
	refused("wakes", pin, ErrNotWritable, "something is already pinned there: remove it first, or set PinOptions.Replace")
	refused("none", pin, ErrOpen, "no map none")
	refused("plain", filepath.Join(t.TempDir(), "plain"), ErrOpen, "not a name in a BPF file system")
	// A ring without readers takes those of the earlier one away.
	if err := PinRegion(colls[1].Maps, "plain", pin, PinOptions{Mode: 0o600, Replace: true}); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "wakes" {
		t.Error(left)
	}
	// A tree of another user, which a loader might not be able to remove.
	for name, at := range map[string]string{"wakes": "tree", "keeps_of_cpu": "tree", "wakes_grows": "ring" + suffixBells} {
		planted := filepath.Join(dir, at)
		if err := errors.Join(os.MkdirAll(filepath.Join(planted, "deep"), 0o755), os.Chown(planted, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		err := PinRegion(maps, name, filepath.Join(dir, strings.TrimSuffix(at, suffixBells)), PinOptions{Mode: 0o600, Replace: true})
		if !errors.Is(err, ErrUntrusted) {
			t.Fatal(name, err)
		}
		contains(t, err.Error(), at+" belongs to user 65534, who may have put it there: remove it")
	}
	if exists(unix.AT_FDCWD, filepath.Join(dir, "tree__next")) {
		t.Error("a stage is left")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	refused("wakes", filepath.Join(dir, "other"), ErrUntrusted, "another user could exchange names")
	// Another process changes the pin.
	_ = os.Chmod(dir, 0o755)
	stage := filepath.Join(dir, "busy__next")
	if err := os.Mkdir(stage, 0o700); err != nil {
		t.Fatal(err)
	}
	lock := must(unix.Open(stage, unix.O_RDONLY, 0))
	defer unix.Close(lock)
	if err := unix.Flock(lock, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	refused("wakes", filepath.Join(dir, "busy"), ErrNotWritable, "another process is at work in busy__next")
}
