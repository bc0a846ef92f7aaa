// Regions that the tests write themselves, in memfds: a writer of rings in Go, by docs/abi.md.

package mapring

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// image is a region in a memfd, mapped for writing.
type image struct {
	layout
	fd  int
	mem words
}

// memfd makes sealed memory with this many bytes.
func memfd(t testing.TB, bytes uint64) (int, words) {
	t.Helper()
	fd, err := unix.MemfdCreate("mapring-test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err == nil {
		err = unix.Ftruncate(fd, int64(bytes))
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	var mem words
	if err == nil {
		mem, err = mapWords(fd, 0, bytes/8, unix.PROT_READ|unix.PROT_WRITE)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.unmap(); unix.Close(fd) })
	return fd, mem
}

func newImage(t testing.TB, l layout) *image {
	t.Helper()
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	fd, mem := memfd(t, 8*l.words())
	image := &image{l, fd, mem}
	image.writePreamble()
	return image
}

func (i *image) writePreamble() {
	words := preambleOf(&i.layout, "test")
	for at := len(words) - 1; at >= 0; at-- {
		i.mem.store(uint64(at), words[at])
	}
}

// ring is a ring of records of `record` bytes.
func ring(record, slots, shards uint64) layout {
	return layout{kind: KindRing, record: record, capacity: slots, shards: shards}
}

// end is how a ticket ends.
type end uint8

const (
	commit end = iota
	discard
	abandon
)

// stampedNow is a word of a record that becomes the time when it is stored.
const stampedNow = 1<<63 | 0x7357

// push claims the next ticket of a shard as a compare-and-swap does, and writes words to its record.
func (i *image) push(shard uint64, how end, words ...uint64) (ticket uint64, ok bool) {
	bits := uint64(0)
	for 1<<bits < i.capacity {
		bits++
	}
	head := i.headerAt(shard)
	for t, tried := i.mem.load(head), 0; tried < tries; t, tried = t+1, tried+1 {
		at := i.slotsAt(shard) + t%i.capacity*i.slot/8
		seq, lap := i.mem.load(at), t>>bits*2
		if seq&1 == 1 || seq&^discarded > lap || !i.mem.swap(at, seq, lap+1) {
			continue
		}
		for n, word := range words {
			if word == stampedNow {
				word = monotonic()
			}
			i.mem.store(at+1+uint64(n), word)
		}
		switch how {
		case commit:
			i.mem.store(at, lap+2)
		case discard:
			i.mem.store(at, lap+2|discarded)
		}
		i.mem.store(head, t+1)
		return t, true
	}
	i.mem.add(head+wordNoSlot, 1)
	return 0, false
}

// pushTail is the same for a record of a ring with tails, for one writer at a time: no position is in use by another one.
func (i *image) pushTail(shard uint64, tail []byte, words ...uint64) {
	next, high := i.tailsAt(shard), i.tailsAt(shard)+wordTailHigh
	p := i.mem.load(next)
	i.mem.store(next, p+roundUp(uint64(len(tail)), 16))
	if to := roundUp(p+roundUp(i.longest, 16), i.area/8); to > i.mem.load(high) {
		i.mem.store(high, to)
	}
	padded := append(append([]byte(nil), tail...), make([]byte, 8)...)
	for n := range wordsOf(uint64(len(tail))) {
		i.mem.store(i.areaAt(shard)+p%i.area/8+n, binary.NativeEndian.Uint64(padded[8*n:]))
	}
	i.push(shard, commit, append([]uint64{p, uint64(len(tail))}, words...)...)
}

func open[T any](t testing.TB, i *image) *Ring[T] {
	t.Helper()
	ring, err := OpenRing[T](FD(i.fd))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	return ring
}

// readUntil reads until the writer is done, and once more after that.
func readUntil(done <-chan bool, read func()) {
	for {
		select {
		case <-done:
			read()
			return
		default:
			read()
		}
	}
}
