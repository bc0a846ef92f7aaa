// Package mapring reads regions of mapring: memory that BPF programs write and any number of processes read. BPF programs write
// records to rings, and values to cells, counters, histograms, gauges and top keys, with the macros of mapring's C headers
// (mapring/ring.bpf.h and others). A reader maps the BPF map and reads it with no system call, no lock, and no effect on the
// programs. Where the kernel refuses the mapping, the same reader makes system calls, and says why (Access).
//
// The package is pure Go. It works with the maps of cilium/ebpf (Map), pins (Pin), and descriptors that other processes hand over
// (FD), whoever loaded the programs: mapring's loaders in Rust, libbpf, or this package (Prepare and Initialize).
//
//	ring, err := mapring.OpenPinned[SwitchEvent]("/sys/fs/bpf/switches")
//	reader := ring.Reader(mapring.Oldest)
//	for reader.Wait(ctx) == nil {
//		for event := range reader.Drain() {
//			fmt.Println(event.Shard, event.Record)
//		}
//		fmt.Println(reader.Stats())
//	}
//
// It reads layout version 3 and refuses every other one. It needs a 64-bit machine. Whatever a map contains, also if other
// processes overwrite it, a reader does not crash, does not hang, and reads no memory outside of the map: all words are loaded by
// sync/atomic and copied, and no Go pointer, slice or string ever refers to the map's memory.
//
// Errors have kinds (errors.Is with ErrLayout and so on), and their texts name the remedy.
package mapring
