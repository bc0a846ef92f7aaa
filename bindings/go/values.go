// Cells, latches and counters.

package mapring

import (
	"runtime"
	"sync"
)

// How often a read of a value is tried while programs write it.
const retries = 1000

// spot is where a value is: its first word, counted from the region's start, and whose copy.
type spot struct {
	at   uint64
	copy int
}

// readSeq copies a cell or a latch: the words of the value, and `seq`. False if a writer was in it.
func (a *access) readSeq(at spot, isLatch bool, value []uint64) (seq uint64, whole bool) {
	n := uint64(len(value))
	from := func(seq uint64) uint64 { // the value in use
		if isLatch {
			return 1 + seq&1*n
		}
		return 1
	}
	if a.lookups == nil {
		seq = a.mem.load(at.at)
		if !isLatch && seq&1 == 1 {
			return seq, false
		}
		// SYNC publish, claim: between the two loads of seq.
		a.mem.copy(value, at.at+from(seq))
		return seq, a.mem.load(at.at) == seq
	}
	words := a.size / 8
	if !a.lookup(at.at / words) {
		return 0, false
	}
	in := uint64(at.copy)*words + at.at%words
	seq = a.lookups.copies[0][in]
	if a.lookups.copies[2][in] != seq || !isLatch && seq&1 == 1 {
		return seq, false
	}
	copy(value, a.lookups.copies[1][in+from(seq):])
	return seq, true
}

// values are cells or latches of type T.
type values[T any] struct {
	table
	check string
	base  uint64 // the word at which value 0 starts
	room  sync.Pool
}

func (v *values[T]) open(source Source, kinds ...Kind) error {
	err := v.table.open(source, kinds...)
	if err != nil {
		return err
	}
	if v.check, err = checkRecord[T](v.a.region); err != nil {
		_ = v.Close()
		return err
	}
	v.base = v.a.first * v.a.size / 8
	v.makeRoom()
	return nil
}

func (v *values[T]) makeRoom() {
	n := wordsOf(v.a.record)
	v.room.New = func() any { value := make([]uint64, n); return &value }
}

// Len is the number of values.
func (v *values[T]) Len() int { return int(v.a.capacity) }

// LayoutCheck says whether T was compared with the C type field by field, or by size alone and why.
func (v *values[T]) LayoutCheck() string { return v.check }

// read copies the value of a CPU; of an ordinary map, the CPU is 0.
func (v *values[T]) read(cpu, index int, isLatch bool) (value T, seq uint64, err error) {
	if index < 0 || index >= v.Len() {
		return value, 0, failf(ErrOutOfRange, "no value %d in %s: there are %d", index, v.a.what, v.Len())
	}
	at := spot{at: v.base + uint64(index)*v.a.size/8, copy: -1}
	for i, other := range v.a.cpus {
		if other == cpu {
			at.copy = i
		}
	}
	if at.copy < 0 {
		return value, 0, failf(ErrOutOfRange, "no CPU %d in %s: there are %v", cpu, v.a.what, v.a.cpus)
	}
	words := v.room.Get().(*[]uint64)
	defer v.room.Put(words)
	if err := v.begin(); err != nil {
		return value, 0, err
	}
	defer v.end()
	for try := range retries {
		seq, whole := v.a.readSeq(at, isLatch, *words)
		if whole {
			decode(&value, *words)
			return value, seq, nil
		}
		if err := v.a.takeErr(); err != nil {
			return value, 0, err
		}
		if try%100 == 99 {
			runtime.Gosched()
		}
	}
	return value, 0, failf(ErrBusy, "a writer was in value %d of %s at each of %d tries: it is slow, or died; read it again", index,
		v.a.what, retries)
}

// Cells are the latest values of type T that programs wrote, each whole. Safe for use by several goroutines.
type Cells[T any] struct{ values[T] }

// OpenCells opens cells, also those of a per-CPU map. See OpenRing for T and for what it needs.
func OpenCells[T any](source Source) (*Cells[T], error) {
	c := new(Cells[T])
	return opened(c, c.open(source, KindCells, KindPerCPUCells))
}

// Read returns the latest value of a cell, and its version: the number of writes so far. Before the first write it is all zeros.
func (c *Cells[T]) Read(index int) (T, uint64, error) { return c.ReadCPU(c.a.cpus[0], index) }

// ReadCPU is the same for the cell of one CPU in a per-CPU map.
func (c *Cells[T]) ReadCPU(cpu, index int) (T, uint64, error) {
	value, seq, err := c.read(cpu, index, false)
	return value, seq / 2, err
}

// CPUs lists the CPUs that have copies of the cells: of an ordinary map only 0.
func (c *Cells[T]) CPUs() []int { return c.a.cpus }

// Latches are values that userspace writes for programs; this package only reads them. Safe for use by several goroutines.
type Latches[T any] struct{ values[T] }

// OpenLatches opens latches for reading. See OpenRing for T and for what it needs.
func OpenLatches[T any](source Source) (*Latches[T], error) {
	l := new(Latches[T])
	return opened(l, l.open(source, KindLatches))
}

// Read returns the value of a latch, and the number of writes so far.
func (l *Latches[T]) Read(index int) (T, uint64, error) { return l.read(0, index, true) }

// Counters are counters with a bank for each CPU. Safe for use by several goroutines.
type Counters struct{ table }

// OpenCounters opens counters, also those of a per-CPU map.
func OpenCounters(source Source) (*Counters, error) {
	c := new(Counters)
	return opened(c, c.open(source, KindCounters, KindPerCPUCounters))
}

// Len is the number of counters.
func (c *Counters) Len() int { return int(c.a.capacity) }

// Shards is the number of banks: the possible CPUs.
func (c *Counters) Shards() int {
	if c.a.kind.isPerCPU() {
		return len(c.a.cpus)
	}
	return int(c.a.shards)
}

// Sum is the sum of a counter over all CPUs, each loaded once, at different moments.
func (c *Counters) Sum(index int) (uint64, error) {
	sum := uint64(0)
	for shard := range c.Shards() {
		one, err := c.Shard(shard, index)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// Shard is a counter in one bank. In a per-CPU map, banks are numbered in the order of the possible CPUs.
func (c *Counters) Shard(shard, index int) (uint64, error) {
	if index < 0 || index >= c.Len() || shard < 0 || shard >= c.Shards() {
		return 0, failf(ErrOutOfRange, "no counter %d in bank %d of %s: there are %d in %d", index, shard, c.a.what, c.Len(), c.Shards())
	}
	if err := c.begin(); err != nil {
		return 0, err
	}
	defer c.end()
	if !c.a.kind.isPerCPU() {
		return c.a.word(c.a.bankAt(uint64(shard))*c.a.size/8 + uint64(index)), c.a.takeErr()
	}
	if !c.a.lookup(c.a.first) {
		return 0, c.a.takeErr()
	}
	return c.a.lookups.median(shard, uint64(index)), nil
}
