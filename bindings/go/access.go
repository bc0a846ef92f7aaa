// Reads words of an open region: of a mapping, or by system call.

package mapring

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// access reads words of a region for one user. It is for one goroutine at a time.
type access struct {
	*region
	lookups *lookups // if it is not mapped
	err     error    // the last failed lookup; the words that it was for are 0
}

func (r *region) access() *access {
	a := &access{region: r}
	if !r.mapped() {
		a.lookups = newLookups(r)
	}
	return a
}

// word loads a word, counted from the region's start. By system call it is the median of three lookups.
func (a *access) word(at uint64) uint64 {
	if a.lookups == nil {
		return a.mem.load(at)
	}
	words := a.size / 8
	if !a.lookup(at / words) {
		return 0
	}
	return a.lookups.median(0, at%words)
}

// lookup makes three lookups of an element.
func (a *access) lookup(element uint64) bool {
	if err := a.lookups.three(element); err != nil {
		a.err = err
		return false
	}
	return true
}

// takeErr returns the last failed lookup since the last call.
func (a *access) takeErr() error {
	if a.lookups == nil || a.err == nil {
		return nil
	}
	err := a.err
	a.err = nil
	return failf(ErrNotReadable, "%s: bpf(BPF_MAP_LOOKUP_ELEM): %v", a.what, err)
}

// sum adds a word over all copies of a per-CPU map.
func (a *access) sum(at uint64) uint64 {
	sum := a.word(at)
	for i := 1; i < len(a.cpus) && a.err == nil; i++ {
		sum += a.lookups.median(i, at%(a.size/8))
	}
	return sum
}

// table is what all handles but rings share: a region, read by any number of goroutines.
type table struct {
	mu     sync.Mutex // only by system call: the lookups are shared
	closed atomic.Bool
	a      *access
	// The word with the number of dropped writes; 0 if there is none.
	droppedAt uint64
}

func (t *table) open(source Source, kinds ...Kind) error {
	r, err := openRegion(source)
	if err != nil {
		return err
	}
	if err := r.expect(kinds...); err != nil {
		r.close()
		return err
	}
	r.share()
	t.a, t.droppedAt = r.access(), wordDropped
	return nil
}

// opened is a handle, or the error with which it was opened.
func opened[H any](handle *H, err error) (*H, error) {
	if err != nil {
		return nil, err
	}
	return handle, nil
}

// Access says how it is read: "mapped", or by system call and why.
func (t *table) Access() string { return t.a.how() }

// Close ends it: what is read later returns an error that is os.ErrClosed. Other goroutines may still read it. The memory goes back
// once none of them does.
func (t *table) Close() error {
	if t.closed.Swap(true) {
		return closed(t.a.what)
	}
	return nil
}

// Dropped is the number of writes that programs gave up: out of range, or into a value that another program wrote.
func (t *table) Dropped() (uint64, error) {
	if t.droppedAt == 0 {
		return 0, nil
	}
	if err := t.begin(); err != nil {
		return 0, err
	}
	defer t.end()
	dropped := t.a.sum(t.droppedAt)
	return dropped, t.a.takeErr()
}

// begin is before a read, and end after it: a lock is held while lookups are made and used.
func (t *table) begin() error {
	if t.closed.Load() {
		return closed(t.a.what)
	}
	if !t.a.mapped() {
		t.mu.Lock()
	}
	return nil
}

func (t *table) end() {
	if !t.a.mapped() {
		t.mu.Unlock()
	}
	runtime.KeepAlive(t)
}
