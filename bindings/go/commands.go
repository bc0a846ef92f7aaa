// Commands: userspace pushes them, and programs carry them out.

package mapring

import (
	"os"
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands are commands of type T from userspace to programs (MAPRING_COMMANDS). Programs carry out each command once, in order, at
// the start of their next event, and acknowledge it by counting. Safe for use by several goroutines.
type Commands[T any] struct {
	table
	check string
	mem   words // mapped for writing by the first Push
	room  []uint64
	me    uint64
}

// OpenCommands opens commands. See OpenRing for T and for what it needs.
func OpenCommands[T any](source Source) (*Commands[T], error) {
	c := new(Commands[T])
	err := c.open(source, KindCommands)
	if err == nil {
		if c.check, err = checkRecord[T](c.a.region); err != nil {
			_ = c.table.Close()
		}
	}
	return opened(c, err)
}

// Slots is how many commands can wait for programs.
func (c *Commands[T]) Slots() int { return int(c.a.capacity) }

// LayoutCheck says whether T was compared with the C type field by field, or by size alone and why.
func (c *Commands[T]) LayoutCheck() string { return c.check }

func (c *Commands[T]) word(word uint64) (uint64, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	defer c.end()
	found := c.a.word(c.a.headerAt(0) + word)
	return found, c.a.takeErr()
}

// Pushed is the number of commands so far.
func (c *Commands[T]) Pushed() (uint64, error) { return c.word(wordPushed) }

// Acknowledged is the number of commands that programs carried out or skipped. Every program that begins afterwards sees what they
// changed.
func (c *Commands[T]) Acknowledged() (uint64, error) { return c.word(wordApplied) }

// Skipped is how often programs found words that no owner writes.
func (c *Commands[T]) Skipped() (uint64, error) { return c.word(wordSkipped) }

// pushing is held while one goroutine of this process pushes, or gives commands back.
var pushing sync.Mutex

// Push pushes a command, and returns its number: 1 for the first one. It is carried out once Acknowledged returns this number or
// more. Every program that begins after Push returned carries it out, unless another one is carrying out commands at that moment.
//
// One process pushes commands at a time: the first to call this, until it calls Close or ends. The first call maps the region for
// writing. If all slots are taken it returns ErrFull, and nothing was pushed: push again after an event. ErrOwned names the process
// that pushes these commands.
func (c *Commands[T]) Push(command *T) (uint64, error) {
	pushing.Lock()
	defer pushing.Unlock()
	if c.closed.Load() {
		return 0, closed(c.a.what)
	}
	if err := c.own(); err != nil {
		return 0, err
	}
	header := c.a.headerAt(0)
	pushed := c.mem.load(header + wordPushed)
	// SYNC applied: the slot is written again after its command was copied.
	if pushed-c.mem.load(header+wordApplied) >= c.a.capacity {
		return 0, failf(ErrFull, "no slot for the command: %d wait for programs to carry them out; push it again after an event", c.a.capacity)
	}
	encode(c.room, command)
	slot := c.a.slotsAt(0) + pushed%c.a.capacity*c.a.slot/8
	for i, word := range c.room {
		c.mem.store(slot+1+uint64(i), word)
	}
	c.mem.store(slot, pushed+1)
	c.mem.store(header+wordPushed, pushed+1) // SYNC publish: the command comes before its number
	return pushed + 1, nil
}

// own makes this process the one that pushes.
func (c *Commands[T]) own() (err error) {
	if c.mem.count == 0 {
		if c.mem, err = mapWords(c.a.fd, 0, c.a.words(), unix.PROT_READ|unix.PROT_WRITE); err != nil {
			c.mem = words{}
			return failf(ErrNotWritable, "%s can't be written: %v; pushing commands needs write access to a map that is not frozen", c.a.what, err)
		}
		c.room = make([]uint64, wordsOf(c.a.record))
	}
	if c.me == 0 {
		start, _, ok := startOf("self")
		if !ok {
			return failf(ErrUnsupported, "/proc says nothing of this process: mount procfs at /proc")
		}
		c.me = start<<pidBits | uint64(os.Getpid())&pidMask
	}
	at := c.a.headerAt(0) + wordOwner
	for range 16 { // again only if another process takes it or gives it back meanwhile
		owner := c.mem.load(at) // SYNC own: with the swap, after that of the owner before
		if owner == c.me || !processLives(owner) && c.mem.swap(at, owner, c.me) {
			return nil
		}
		if processLives(owner) {
			return failf(ErrOwned, "%s: process %d pushes these commands, and lives: end it, or have it push yours", c.a.what, owner&pidMask)
		}
	}
	return failf(ErrOwned, "%s: other processes take these commands all the time", c.a.what)
}

// Close gives the commands to the next process. What is called later returns an error that is os.ErrClosed.
func (c *Commands[T]) Close() error {
	pushing.Lock()
	defer pushing.Unlock()
	if c.mem.count != 0 && !c.closed.Load() {
		c.mem.swap(c.a.headerAt(0)+wordOwner, c.me, 0)
		c.mem.unmap()
		c.mem = words{}
	}
	return c.table.Close()
}

// encode copies a value into private words; the bytes after it in the last word are 0.
func encode[T any](to []uint64, value *T) {
	n := reflect.TypeFor[T]().Size()
	to[len(to)-1] = 0
	// T has no pointers (plain), and as many bytes as the record whose words these are.
	copy(bytesOf(to, uint64(n)), unsafe.Slice((*byte)(unsafe.Pointer(value)), n))
}
