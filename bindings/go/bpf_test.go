// Programs of the repository on this kernel: compiled with clang, loaded with cilium/ebpf, run by hand.

package mapring

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// root is the repository.
func root(t testing.TB, parts ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// needBPF skips a test that can't run here, with the reason; with MAPRING_REQUIRE_BPF=1 it fails instead.
func needBPF(t testing.TB) {
	t.Helper()
	var why string
	if _, err := os.Stat(root(t, "ring", "include")); err != nil {
		why = "the programs are in the repository of mapring: " + err.Error()
	} else if probe, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		why = "this process may not use BPF; run it as root: " + err.Error()
	} else {
		probe.Close()
		return
	}
	if os.Getenv("MAPRING_REQUIRE_BPF") == "1" {
		t.Fatal(why)
	}
	t.Skip("NOT TESTED: " + why)
}

var objects struct {
	sync.Mutex
	specs map[string]*ebpf.CollectionSpec
}

// compiled is a program of the repository.
func compiled(t testing.TB, path ...string) *ebpf.CollectionSpec {
	t.Helper()
	source := root(t, path...)
	objects.Lock()
	defer objects.Unlock()
	if spec := objects.specs[source]; spec != nil {
		return spec.Copy()
	}
	object := filepath.Join(t.TempDir(), "object.bpf.o")
	compileTo(t, object, source, "-DMAPRING_NO_WEAK")
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		t.Fatal(err)
	}
	if objects.specs == nil {
		objects.specs = map[string]*ebpf.CollectionSpec{}
	}
	objects.specs[source] = spec
	return spec.Copy()
}

// compileTo compiles a program as its users do.
func compileTo(t testing.TB, object, source string, options ...string) {
	t.Helper()
	clang := os.Getenv("CLANG")
	if clang == "" {
		clang = "clang"
	}
	args := append([]string{"-g", "-O2", "-target", "bpf", "-mcpu=v3", "-I", root(t, "ring", "include")}, options...)
	if runtime.GOARCH == "amd64" {
		args = append(args, "-D__TARGET_ARCH_x86")
	}
	for _, folder := range filepath.SplitList(os.Getenv("MAPRING_BPF_HEADERS")) { // instead of the package libbpf-dev
		args = append(args, "-isystem", folder)
	}
	args = append(args, "-c", source, "-o", object)
	if out, err := exec.Command(clang, args...).CombinedOutput(); err != nil {
		t.Fatalf("clang: %v\n%s(apt-get install clang libbpf-dev)", err, out)
	}
}

// loaded loads and initializes an object with this package.
func loaded(t testing.TB, spec *ebpf.CollectionSpec, change func(*ebpf.CollectionSpec)) *ebpf.Collection {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(spec); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(spec)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(coll.Close)
	if err := Initialize(spec, coll.Maps); err != nil {
		t.Fatal(err)
	}
	return coll
}

// A ring that is reused without its readers and bells is refused: those of other processes would sleep for nothing.
func TestARingIsReusedWithItsReadersAndBells(t *testing.T) {
	needBPF(t)
	first := loaded(t, compiled(t, "proofs", "kernel", "bpf", "options.bpf.c"), nil)
	again := func(names ...string) error {
		spec := compiled(t, "proofs", "kernel", "bpf", "options.bpf.c")
		if err := Prepare(spec); err != nil {
			t.Fatal(err)
		}
		reused := map[string]*ebpf.Map{}
		for _, name := range names {
			reused[name] = first.Maps[name]
		}
		coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: reused})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		defer coll.Close()
		return Initialize(spec, coll.Maps)
	}
	for _, names := range [][]string{{"wakes"}, {"wakes__readers"}, {"wakes", "wakes__readers"}, {"wakes__readers", "wakes__bells"}} {
		err := again(names...)
		if !errors.Is(err, ErrContradiction) || !strings.Contains(err.Error(), "reuse all three") {
			t.Errorf("%v: %v", names, err)
		}
	}
	if err := again("wakes", "wakes__readers", "wakes__bells"); err != nil {
		t.Error(err)
	}
	if _, err := openRing[rec](t, Map(first.Maps["wakes"])).Reader(Oldest).seat(); err != nil {
		t.Error(err)
	}
}

func TestALicenseThatDoesNotAllowTheGuardIsRefused(t *testing.T) {
	needBPF(t)
	for option, refused := range map[string]string{"-DMIT": "MIT", "-DNO_LICENSE": "", "-DMAPRING_NO_GUARD": "no"} {
		object := filepath.Join(t.TempDir(), "license.bpf.o")
		compileTo(t, object, root(t, "proofs", "kernel", "bpf", "license", "license.bpf.c"), "-DMAPRING_NO_WEAK", option)
		spec, err := ebpf.LoadCollectionSpec(object)
		if err != nil {
			t.Fatal(err)
		}
		err = Prepare(spec)
		if refused == "no" || runtime.GOARCH != "amd64" {
			if err != nil {
				t.Error(option, err)
			}
		} else if !errors.Is(err, ErrUnsupported) {
			t.Error(option, err)
		} else {
			contains(t, err.Error(), "its license is \""+refused+"\": put `#define MAPRING_NO_GUARD`")
		}
	}
}

// Each region of reuse.bpf.c that reuse_other.bpf.c declares with other fields, and some that both declare alike.
func TestARegionIsReusedWithTheFieldsThatTheObjectDeclares(t *testing.T) {
	first, other := kernelProgram(t, "reuse.bpf.c", nil), compiled(t, "proofs", "kernel", "bpf", "reuse_other.bpf.c")
	if err := Prepare(other); err != nil {
		t.Fatal(err)
	}
	for name, field := range map[string]string{
		"fields": "pid", "sign": "pid", "constants": "why", "nested": "rec.code", "latches": "pid", "same": "", "kept": "",
	} {
		l, declaration := declared(other.Maps[name])
		err := initialize(name, first.Maps[name], l, declaration)
		if field == "" {
			if err != nil {
				t.Error(name, err)
			}
		} else if !errors.Is(err, ErrContradiction) {
			t.Error(name, err)
		} else {
			contains(t, err.Error(), "map "+name+" can't be reused", "in the field "+field+"; remove its pin")
		}
	}
}

func kernelProgram(t testing.TB, name string, change func(*ebpf.CollectionSpec)) *ebpf.Collection {
	t.Helper()
	needBPF(t)
	return loaded(t, compiled(t, "proofs", "kernel", "bpf", name), change)
}

// run runs a syscall program with these words as its context, and returns them afterwards.
func run(t testing.TB, coll *ebpf.Collection, name string, context ...uint64) (result uint32, after []uint64) {
	t.Helper()
	program := coll.Programs[name]
	if program == nil {
		t.Fatalf("no program %s", name)
	}
	after = context
	result, err := program.Run(&ebpf.RunOptions{Context: context, ContextOut: &after})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return result, after
}

// onCPU keeps the test on one CPU, and returns its number.
func onCPU(t testing.TB, cpu int) int {
	t.Helper()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	one.Set(cpu)
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.SchedSetaffinity(0, &before); runtime.UnlockOSThread() })
	return cpu
}

// readOnly is a descriptor of the map that the kernel does not map.
func readOnly(t testing.TB, m *ebpf.Map) Source {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	fd, err := openIDWith(uint32(id), flagRdonly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return FD(fd)
}

func openRing[T any](t testing.TB, source Source) *Ring[T] {
	t.Helper()
	ring, err := OpenRing[T](source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	return ring
}

func readerOf[T any](t testing.TB, ring *Ring[T], start Start) *Reader[T] {
	reader := ring.Reader(start)
	t.Cleanup(func() { reader.Close() })
	return reader
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
}
