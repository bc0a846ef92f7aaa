// Words of shared memory: the only file that touches it. A mapping is a pointer that the kernel returned and a number of
// words; no slice, string or struct of Go ever points into it. The other two uses of unsafe are about private memory.

package mapring

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// words is mapped memory that others write while it is read. Each access is one whole word (sync/atomic), and is checked
// against the number of words first. The loads are acquires, and in the order of the program: what docs/abi.md asks a fence
// for, their order gives.
type words struct {
	base  unsafe.Pointer
	count uint64
}

// mapWords maps whole words from a page on.
func mapWords(fd int, offset int64, count uint64, prot int) (words, error) {
	base, err := unix.MmapPtr(fd, offset, nil, uintptr(8*count), prot, unix.MAP_SHARED)
	if err != nil {
		return words{}, err
	}
	return words{base, count}, nil
}

func (w words) unmap() {
	if w.base != nil {
		// The kernel gave this address and this length.
		_ = unix.MunmapPtr(w.base, uintptr(8*w.count))
	}
}

// at is the address of a word.
func (w words) at(at uint64) *uint64 {
	if at >= w.count {
		outside(at, 1, w.count)
	}
	// at < count, so the word is in the mapping, and aligned as the mapping is.
	return (*uint64)(unsafe.Add(w.base, 8*at))
}

func (w words) load(at uint64) uint64         { return atomic.LoadUint64(w.at(at)) }
func (w words) store(at, value uint64)        { atomic.StoreUint64(w.at(at), value) }
func (w words) swap(at, old, new uint64) bool { return atomic.CompareAndSwapUint64(w.at(at), old, new) }
func (w words) set(at, bits uint64)           { atomic.OrUint64(w.at(at), bits) }
func (w words) clear(at, bits uint64)         { atomic.AndUint64(w.at(at), ^bits) }
func (w words) add(at, more uint64)           { atomic.AddUint64(w.at(at), more) }

// copy loads the words from at on, once each, into private memory.
func (w words) copy(to []uint64, at uint64) {
	n := uint64(len(to))
	if at > w.count || n > w.count-at {
		outside(at, n, w.count)
	}
	// at + len(to) <= count: every word of the loop is in the mapping. At most one past its end for an empty copy.
	from := unsafe.Add(w.base, 8*at)
	for i := range to {
		to[i] = atomic.LoadUint64((*uint64)(unsafe.Add(from, 8*i)))
	}
}

// outside reports a defect of this package: places come from sizes that were checked, never from shared memory.
func outside(at, n, count uint64) {
	panic(fmt.Sprintf("mapring: words %d to %d of %d", at, at+n, count))
}

// fence is a full barrier between two lookups, which the kernel makes by plain loads.
func fence() {
	var word atomic.Uint64
	word.Add(1)
	word.Swap(0)
}

// decode copies a value out of private words.
func decode[T any](value *T, from []uint64) {
	if n := unsafe.Sizeof(*value); n > 0 {
		// The words are private, aligned for any T, and at least as long: the index checks this. T has no pointers (plain).
		_ = from[(n-1)/8]
		*value = *(*T)(unsafe.Pointer(&from[0]))
	}
}

// bytesOf is the first n bytes of private words.
func bytesOf(from []uint64, n uint64) []byte {
	if n == 0 {
		return nil
	}
	_ = from[(n-1)/8]
	return unsafe.Slice((*byte)(unsafe.Pointer(&from[0])), n)
}
