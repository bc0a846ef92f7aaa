// Where everything in a region is (docs/abi.md, "Sizes" and "Preamble"). Accesses no memory.

package mapring

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// Kind is the kind of a region.
type Kind uint8

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("unknown kind %d", uint8(k))
}

// RingOptions are what a ring has beyond what every ring has.
type RingOptions uint8

// Has says whether all of these options are set.
func (o RingOptions) Has(options RingOptions) bool { return o&options == options }

// known says whether this version knows them, and a ring can have them together.
func (o RingOptions) known() bool {
	return o <= allOptions && (!o.Has(Resizable) || o&^(Resizable|Wakeable) == 0) && (!o.Has(KeepOldest) || o.Has(Wakeable))
}

// String lists them as in the declaration.
func (o RingOptions) String() string {
	var names []string
	for i, name := range optionNames {
		if o>>i&1 == 1 && (i > 0 || !o.Has(KeepOldest)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

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
		return histogramBytes
	case KindGauges:
		return gaugeBytes
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
		l.first = 4 // with the owners of the seats, their leases, and what they want
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
		return fmt.Errorf(notEntries, l.elements)
	}
	if l.options.Has(Tails) {
		l.size = tailFirstSlot + l.slotBytes() + l.area + roundUp(l.longest, line)
		l.perLine, l.first, l.header, l.elements = 1, 0, 0, l.shards
		if l.size > elementMax {
			return fmt.Errorf(notShard, l.size)
		}
	}
	return nil
}

// withinLimits refuses what no region can be, in the words of the library in Rust.
func (l *layout) withinLimits() error {
	isBank := l.bank() != 0 && l.kind != KindReaders
	switch {
	case l.kind < KindRing || l.kind > KindTopKeys:
		return fmt.Errorf(notKind, uint8(l.kind))
	case l.kind != KindRing && l.options != 0 || !l.options.known():
		return fmt.Errorf(notOptionsOf, l.kind, l.options)
	case l.options.Has(Tails) && (l.area < areaMin || l.area > areaMax || !isPowerOfTwo(l.area) || l.longest < 1 || l.longest > l.area/2):
		return fmt.Errorf(notTails, l.longest, l.area)
	case max(l.capacity, l.shards) > elementsMax:
		return fmt.Errorf(notEntries, max(l.capacity, l.shards))
	case l.record < 1 || l.record > recordMax:
		return fmt.Errorf(notRecord, l.record)
	case (l.hasSlots() || l.kind == KindTopKeys) && !isPowerOfTwo(l.capacity):
		return fmt.Errorf(notSlots, l.capacity)
	case l.bank() == 8 && l.record != 8:
		return fmt.Errorf(notCounter, l.record)
	case l.kind == KindReaders && l.capacity != seats:
		return fmt.Errorf(notReaders, l.capacity)
	case l.kind == KindTopKeys && l.record != bucketBytes:
		return fmt.Errorf(notBucket, l.record)
	case l.kind == KindGauges && l.record != gaugeBytes:
		return fmt.Errorf(notGauge, l.record)
	case l.kind == KindHistograms && l.record != histogramBytes:
		return fmt.Errorf(notHistogram, l.record)
	case l.shards > 1 && l.options.Has(PerCPUMaps):
		return fmt.Errorf(notOfCPU, l.shards)
	case l.shards > 1 && !l.isSharded():
		return fmt.Errorf(notSharded, l.shards)
	case l.shards > shardsMax:
		return fmt.Errorf(notShards, l.shards)
	case l.capacity < 1 || l.shards < 1:
		return fmt.Errorf(notEmpty, l.kind, l.capacity, l.shards)
	case isBank && l.capacity > recordMax/l.record:
		return fmt.Errorf(notEntries, l.capacity)
	case l.options.Has(Tails) && l.record <= tailPrefix:
		return fmt.Errorf(notTailed, l.record)
	}
	return nil
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
		return (shard*l.size + tailFirstSlot) / 8
	case l.options.Has(Resizable):
		return l.headerAt(l.shards) + shard*l.slotElements()*l.size/8
	}
	return l.headerAt(shard) + l.header*l.size/8
}

// tailsAt and areaAt are the words at which a shard's header for tails and its area start.
func (l *layout) tailsAt(shard uint64) uint64 { return (shard*l.size + tailHeader) / 8 }
func (l *layout) areaAt(shard uint64) uint64  { return l.slotsAt(shard) + l.slotBytes()/8 }

// bankAt is the first element of a shard of banks, buckets or seats of readers.
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

var magic = binary.NativeEndian.Uint64([]byte("mapring\x00"))

// errNoPreamble is the error of a region whose first word is 0: BTF may describe it.
type errNoPreamble struct{}

func (errNoPreamble) Error() string {
	return fmt.Sprintf(notMagic, 0, magic) + "; its loader writes one with mapring.Initialize (in Rust mapring_loader::initialize) " +
		"once the map is loaded"
}

// decodePreamble reads the words of a preamble, which can have any value.
func decodePreamble(words *[preambleWords]uint64) (layout, error) {
	if words[wordMagic] == 0 {
		return layout{}, errNoPreamble{}
	}
	if words[wordMagic] != magic {
		return layout{}, fmt.Errorf(notMagic+"; mapring's macros did not declare this map", words[wordMagic], magic)
	}
	if found := words[wordVersion]; found > LayoutVersion {
		return layout{}, fmt.Errorf(notVersion, found)
	} else if found < LayoutVersion {
		return layout{}, fmt.Errorf(notVersion+notVersionOlder, found)
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
	unknown := fmt.Errorf(notOptions, word>>8)
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
		return layout{}, fmt.Errorf(notGate, gate)
	}
	if words[wordSize] != l.size {
		return layout{}, fmt.Errorf(notElement, words[wordSize], l.size)
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
