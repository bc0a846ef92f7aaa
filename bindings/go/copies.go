// The CPUs that have copies of a per-CPU map's values, counted as the kernel counts them. A lookup writes a copy for each possible CPU,
// whatever the length of the buffer, and the file that lists the CPUs can be wrong: a container may have another one mounted over it.

package mapring

import (
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const bpfMapCreate = 0

// copiesOf lists the CPUs that have copies of `size` bytes in a per-CPU map, in ascending order. If the file disagrees with the kernel,
// they are numbered from 0.
func copiesOf(fd int, size uint64) ([]int, error) {
	listed, _ := listedCPUs()
	count, err := countCopies(fd, size, len(listed))
	if err != nil {
		return nil, failf(ErrNotReadable, "bpf(BPF_MAP_LOOKUP_ELEM) of a per-CPU map: %v", err)
	}
	return numbered(listed, count), nil
}

func numbered(listed []int, count int) []int {
	if len(listed) == count {
		return listed
	}
	cpus := make([]int, count)
	for cpu := range cpus {
		cpus[cpu] = cpu
	}
	return cpus
}

// possibleCPUs lists the CPUs that there can be, in ascending order. Their number is measured if this process may create a map.
func possibleCPUs() ([]int, error) {
	listed, err := listedCPUs()
	if count := possibleCount(); count > 0 {
		return numbered(listed, count), nil
	}
	return listed, err
}

func listedCPUs() ([]int, error) { return cpuList("/sys/devices/system/cpu/possible") }

var possibleCount = sync.OnceValue(func() int {
	args := struct{ typ, key, value, entries, flags uint32 }{typePerCPUArray, 4, 8, 1, 0}
	fd, err := bpf(bpfMapCreate, unsafe.Pointer(&args), unsafe.Sizeof(args))
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	count, _ := countCopies(fd, 8, 1)
	return count
})

// countCopies measures how many copies a lookup returns. It makes two lookups if the guess is right.
func countCopies(fd int, size uint64, guess int) (int, error) {
	below, enough := 0, max(guess, 1)
	for {
		fits, err := lookupFits(fd, size*uint64(enough))
		if err != nil {
			return 0, err
		}
		if fits {
			break
		}
		if below, enough = enough, 2*enough; below > 1<<16 { // more CPUs than any kernel can have
			return 0, unix.E2BIG
		}
	}
	for next := enough - 1; below < next; next = (below + enough) / 2 {
		fits, err := lookupFits(fd, size*uint64(next))
		if err != nil {
			return 0, err
		}
		if fits {
			enough = next
		} else {
			below = next
		}
	}
	return enough, nil
}

// lookupFits says whether a lookup writes at most this number of bytes: a page that can't be written follows them.
func lookupFits(fd int, bytes uint64) (bool, error) {
	page := uint64(os.Getpagesize())
	before := (bytes + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, int(before+page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return false, err
	}
	defer unix.Munmap(memory)
	if err := unix.Mprotect(memory[before:], unix.PROT_NONE); err != nil {
		return false, err
	}
	var key uint32
	args := lookupArgs{fd: uint32(fd), key: unsafe.Pointer(&key), value: unsafe.Pointer(&memory[before-bytes])}
	_, err = bpf(bpfMapLookupElem, unsafe.Pointer(&args), unsafe.Sizeof(args))
	if isErrno(err, unix.EFAULT) {
		return false, nil
	}
	return err == nil, err
}
