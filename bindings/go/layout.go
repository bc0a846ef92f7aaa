// Where everything in a region is (docs/abi.md, "Sizes" and "Preamble"). Accesses no memory.

package mapring

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// LayoutVersion is the version of the memory layout that this package reads and writes. It refuses all others.
const LayoutVersion = 3

// Kind is the kind of a region.
type Kind uint8

// The kinds of regions.
const (
	KindRing Kind = 1 + iota
	KindCells
	KindCounters
	KindLatches
	KindPerCPUCells
	KindPerCPUCounters
	KindHistograms
	KindGauges
	KindReaders
	KindCommands
	KindTopKeys
)

var kindNames = [...]string{"nothing", "ring", "cells", "counters", "latches", "cells for each CPU", "counters for each CPU",
	"histograms", "gauges", "readers", "commands", "top keys"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("unknown kind %d", uint8(k))
}

// RingOptions are what a ring has beyond what every ring has.
type RingOptions uint8

// The options of MAPRING_RING. KeepOldest comes with Wakeable.
const (
	Wakeable RingOptions = 1 << iota
	KeepOldest
	Tails
	PerCPUMaps
	Resizable
	allOptions = 1<<iota - 1
)

// Has says whether all of these options are set.
func (o RingOptions) Has(options RingOptions) bool { return o&options == options }

// known says whether this version knows them, and a ring can have them together.
func (o RingOptions) known() bool {
	return o <= allOptions && (!o.Has(Resizable) || o&^(Resizable|Wakeable) == 0) && (!o.Has(KeepOldest) || o.Has(Wakeable))
}

// String lists them as in the declaration.
func (o RingOptions) String() string {
	var names []string
	for i, name := range []string{"WAKEABLE", "KEEP_OLDEST", "TAILS", "PER_CPU_MAPS", "RESIZABLE"} {
		if o>>i&1 == 1 && (i > 0 || !o.Has(KeepOldest)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

const (
	line          = 64
	preambleWords = 16
	recordMax     = 1<<29 - 8
	elementsMax   = 1<<32 - 1
	shardsMax     = 65536
	histogramSize = 4096
	gaugeSize     = 16384
	bucketSize    = 248
	places        = 64

	// A shard with tails: the bytes to its parts.
	tailShard    = 128
	tailHeader   = 192
	tailSlots    = 448
	tailShardMax = 1 << 29
	tailPrefix   = 16 // the position and the length of the tail, before the program's record
)

// layout is a region's description of itself, and what follows from it.
type layout struct {
	kind             Kind
	options          RingOptions
	record           uint64 // bytes
	capacity, shards uint64
	longest, area    uint64 // of tails, in bytes

	size, slot             uint64 // bytes of an element, and of a slot
	first, header, perLine uint64 // elements
	elements               uint64
}

func roundUp(n, multiple uint64) uint64 { return (n + multiple - 1) / multiple * multiple }
func wordsOf(bytes uint64) uint64       { return roundUp(bytes, 8) / 8 }
func isPowerOfTwo(n uint64) bool        { return n != 0 && n&(n-1) == 0 }

// bank is the bytes of each value in a shard's bank; 0 for kinds without banks.
func (l *layout) bank() uint64 {
	switch l.kind {
	case KindHistograms:
		return histogramSize
	case KindGauges:
		return gaugeSize
	case KindCounters, KindPerCPUCounters, KindReaders:
		return 8
	}
	return 0
}

func (k Kind) isPerCPU() bool { return k == KindPerCPUCells || k == KindPerCPUCounters }

func (l *layout) hasSlots() bool { return l.kind == KindRing || l.kind == KindCommands }

func (l *layout) isSharded() bool {
	if l.kind == KindRing {
		return !l.options.Has(PerCPUMaps)
	}
	return l.bank() != 0 && l.kind != KindPerCPUCounters || l.kind == KindTopKeys
}

// complete computes what follows from the description, or says which limit it exceeds.
func (l *layout) complete() error {
	if err := l.withinLimits(); err != nil {
		return err
	}
	switch bank := l.bank(); {
	case bank != 0:
		l.size = roundUp(bank*l.capacity, line)
	case l.kind == KindLatches:
		l.size = 8 + 2*roundUp(l.record, 8)
	default:
		l.size = 8 + roundUp(l.record, 8)
	}
	l.slot = l.size
	l.perLine = line / min(line, l.size&-l.size)
	l.first = roundUp((8*preambleWords+l.size-1)/l.size, l.perLine)
	if l.kind == KindReaders {
		l.first = 4 // with the owners of the places, their leases, and what they want
	}
	l.header = 0
	switch {
	case l.hasSlots():
		l.header = roundUp((line+l.size-1)/l.size, l.perLine)
		l.elements = l.first + l.shards*(l.header+l.slotElements())
	case l.isSharded():
		l.elements = l.bankAt(l.shards)
	case l.bank() != 0:
		l.elements = l.first + 1
	default:
		l.elements = l.first + l.capacity
	}
	if l.elements > elementsMax {
		return tooMany(l.elements)
	}
	if l.options.Has(Tails) {
		l.size = tailSlots + l.slotBytes() + l.area + roundUp(l.longest, line)
		l.perLine, l.first, l.header, l.elements = 1, 0, 0, l.shards
		if l.size > tailShardMax {
			return fmt.Errorf("a shard of %d bytes, with its tails: the kernel takes at most %d", l.size, tailShardMax)
		}
	}
	return nil
}

// withinLimits refuses what no region can be, in the words of the library in Rust.
func (l *layout) withinLimits() error {
	bank := l.bank()
	if l.kind == KindTopKeys {
		bank = bucketSize
	}
	switch {
	case l.kind < KindRing || l.kind > KindTopKeys:
		return fmt.Errorf("a region of unknown kind %d, this library knows 1 (ring) to 11 (top keys)", l.kind)
	case l.kind != KindRing && l.options != 0 || !l.options.known():
		return fmt.Errorf("%s with the options %#x: only rings have options, and a RESIZABLE ring has no others except WAKEABLE", l.kind, uint8(l.options))
	case l.options.Has(Tails) && (l.area < 128 || l.area > 1<<28 || !isPowerOfTwo(l.area) || l.longest < 1 || l.longest > l.area/2):
		return fmt.Errorf("tails of up to %d bytes in %d bytes: the area is a power of two from 128 to 2^28, and at least "+
			"twice the longest tail", l.longest, l.area)
	case max(l.capacity, l.shards) > elementsMax:
		return tooMany(max(l.capacity, l.shards))
	case l.record < 1 || l.record > recordMax:
		return fmt.Errorf("records of %d bytes: a record has 1 to %d bytes", l.record, recordMax)
	case (l.hasSlots() || l.kind == KindTopKeys) && !isPowerOfTwo(l.capacity):
		return fmt.Errorf("a ring needs a power of two of slots, and top keys of buckets (1, 2, 4, …), not %d", l.capacity)
	case bank != 0 && l.record != bank:
		return fmt.Errorf("%s of %d bytes: one has %d bytes", l.kind, l.record, bank)
	case l.kind == KindReaders && l.capacity != places:
		return fmt.Errorf("readers with %d places, this library knows %d", l.capacity, places)
	case l.shards > 1 && l.options.Has(PerCPUMaps):
		return fmt.Errorf("%d shards in the map of one CPU: it has 1", l.shards)
	case l.shards > 1 && !l.isSharded():
		return fmt.Errorf("only rings, counters, histograms, gauges and top keys have shards, and not in per-CPU maps: 1 shard, not %d", l.shards)
	case l.shards > shardsMax:
		return fmt.Errorf("%d shards: a region has at most %d", l.shards, shardsMax)
	case l.capacity < 1 || l.shards < 1:
		return fmt.Errorf("%s with %d entries in %d shards: both must be at least 1", l.kind, l.capacity, l.shards)
	case l.bank() != 0 && l.capacity > (1<<26-1)*8/bank:
		return tooMany(l.capacity)
	case l.options.Has(Tails) && l.record <= tailPrefix:
		return fmt.Errorf("records with tails have more than %d bytes, not %d", tailPrefix, l.record)
	}
	return nil
}

func tooMany(elements uint64) error {
	return fmt.Errorf("%d elements: a map has at most %d", elements, uint64(elementsMax))
}

// slotElements is the elements of a shard's slots.
func (l *layout) slotElements() uint64 { return roundUp(l.capacity, l.perLine) }

// slotBytes is the bytes of the slots of a shard with tails.
func (l *layout) slotBytes() uint64 { return roundUp(l.capacity*l.slot, line) }

// headerAt is the word at which a shard's header starts.
func (l *layout) headerAt(shard uint64) uint64 {
	switch {
	case l.options.Has(Tails):
		return (shard*l.size + tailShard) / 8
	case l.options.Has(Resizable):
		return (l.first + shard*l.header) * l.size / 8
	}
	return (l.first + shard*(l.header+l.slotElements())) * l.size / 8
}

// slotsAt is the word at which a shard's slots start.
func (l *layout) slotsAt(shard uint64) uint64 {
	switch {
	case l.options.Has(Tails):
		return (shard*l.size + tailSlots) / 8
	case l.options.Has(Resizable):
		return l.headerAt(l.shards) + shard*l.slotElements()*l.size/8
	}
	return l.headerAt(shard) + l.header*l.size/8
}

// tailsAt and areaAt are the words at which a shard's header for tails and its area start.
func (l *layout) tailsAt(shard uint64) uint64 { return (shard*l.size + tailHeader) / 8 }
func (l *layout) areaAt(shard uint64) uint64  { return l.slotsAt(shard) + l.slotBytes()/8 }

// bankAt is the first element of a shard of banks, buckets or places of readers.
func (l *layout) bankAt(shard uint64) uint64 {
	switch l.kind {
	case KindReaders:
		return l.first + 3*shard
	case KindTopKeys:
		return l.first + l.capacity*shard
	}
	return l.first + shard
}

func (l *layout) words() uint64 { return l.size / 8 * l.elements }

// String is `ring (KEEP_OLDEST): 64 of 16 bytes`.
func (l *layout) String() string {
	text := l.kind.String()
	if l.options != 0 {
		text += " (" + l.options.String() + ")"
	}
	text += fmt.Sprintf(": %d of %d bytes", l.capacity, l.record)
	if l.options.Has(Tails) {
		text += fmt.Sprintf(", tails of %d in %d bytes", l.longest, l.area)
	}
	return text
}

// Words of the preamble.
const (
	wordMagic = iota
	wordVersion
	wordKind
	wordRecord
	wordCapacity
	wordShards
	wordSize
	wordGeneration
	wordName
	wordLoader  = 11
	wordDropped = 12
	wordLink    = 13
	wordGate    = 14
	wordBefore  = 15
)

// The states of a gate, and bits of the words of a resizable ring.
const (
	gateOpen    = 1
	gateClosing = 2 // of readers: open, and another ring is about to take its place
	gateRetired = 3
	gateLeaving = 1 << 16
	counting    = 1 << 63
)

var magic = binary.NativeEndian.Uint64([]byte("mapring\x00"))

// errNoPreamble is the error of a region whose first word is 0: BTF may describe it.
type errNoPreamble struct{}

func (errNoPreamble) Error() string {
	return fmt.Sprintf("no preamble: the first word is 0x%016x, expected 0x%016x (\"mapring\"); its loader writes one with "+
		"mapring.Initialize (in Rust mapring::loader::initialize) once the map is loaded", 0, magic)
}

// decodePreamble reads the words of a preamble, which can have any value.
func decodePreamble(words *[preambleWords]uint64) (layout, error) {
	if words[wordMagic] == 0 {
		return layout{}, errNoPreamble{}
	}
	if words[wordMagic] != magic {
		return layout{}, fmt.Errorf("no preamble: the first word is 0x%016x, expected 0x%016x (\"mapring\"); mapring's macros did "+
			"not declare this map", words[wordMagic], magic)
	}
	if found := words[wordVersion]; found != LayoutVersion {
		remedy := ""
		if found < LayoutVersion {
			remedy = ", and replace what an older one has pinned"
		}
		return layout{}, fmt.Errorf("layout version %d, this library knows %d: build program, loader and reader with one version "+
			"of mapring%s", found, LayoutVersion, remedy)
	}
	word := words[wordKind]
	l := layout{kind: Kind(word), options: RingOptions(word >> 8), record: words[wordRecord], capacity: words[wordCapacity],
		shards: words[wordShards]}
	if l.options.Has(Tails) {
		l.longest = word >> 32
		if log2 := word >> 16 & 0xff; log2 < 64 {
			l.area = 1 << log2
		}
	}
	unknown := fmt.Errorf("a ring with unknown options %#x", word>>8)
	if !l.options.known() {
		return layout{}, unknown
	}
	if err := l.complete(); err != nil {
		return layout{}, err
	}
	if word != l.kindWord() {
		return layout{}, unknown
	}
	if gate := words[wordGate] & 0xff; l.options.Has(Resizable) && gate != gateOpen && gate != gateRetired ||
		!l.options.Has(Resizable) && gate != 0 {
		return layout{}, fmt.Errorf("a gate of state %d: a resizable ring has 1 (open) or 3 (retired), any other region 0", gate)
	}
	if words[wordSize] != l.size {
		return layout{}, fmt.Errorf("elements of %d bytes where the records make them %d", words[wordSize], l.size)
	}
	return l, nil
}

// kindWord is word 2 of the preamble.
func (l *layout) kindWord() uint64 {
	word := uint64(l.options)<<8 | uint64(l.kind)
	if l.options.Has(Tails) {
		word |= l.longest<<32 | uint64(bits.TrailingZeros64(l.area))<<16
	}
	return word
}
