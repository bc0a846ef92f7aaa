package mapring

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// ring declares a ring of this record as MAPRING_RING does.
func declaredRing(record btf.Type, slots, options uint32) *btf.Struct {
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	inner := func(n uint32) btf.Type {
		return &btf.Array{Index: u8, Type: &btf.Array{Index: u8, Type: u8, Nelems: n}}
	}
	size, _ := btf.Sizeof(record)
	return &btf.Struct{Name: "mapring_ring__events", Size: uint32(8 + size), Members: []btf.Member{
		{Name: "seq", Type: &btf.Int{Size: 8}},
		{Name: "record", Type: record, Offset: 64},
		{Name: "mapring_any", Type: inner(slots)},
		{Name: "mapring_options", Type: inner(options)},
	}}
}

func TestFieldsAreComparedWithC(t *testing.T) {
	u64, u32 := &btf.Int{Name: "__u64", Size: 8}, &btf.Int{Name: "__u32", Size: 4}
	char := &btf.Int{Name: "char", Size: 1}
	c := &btf.Struct{Name: "event", Size: 40, Members: []btf.Member{
		{Name: "ns", Type: &btf.Typedef{Name: "u64", Type: u64}},
		{Name: "prev_pid", Type: u32, Offset: 64},
		{Type: &btf.Union{Size: 4, Members: []btf.Member{{Name: "cpu", Type: u32}, {Name: "node", Type: u32}}}, Offset: 96},
		{Name: "comm", Type: &btf.Array{Type: char, Nelems: 16}, Offset: 128},
		{Name: "_pad", Type: u64, Offset: 256},
	}}
	type good struct {
		NS      uint64
		PrevPID int32
		CPU     uint32
		Comm    [16]uint8
		_       uint64
	}
	type tagged struct {
		Time    uint64 `btf:"ns"`
		PrevPid uint32
		Node    uint32
		Comm    [16]int8
		_       uint64
	}
	type shorter struct {
		NS           uint64
		PrevPID, CPU uint32
		Comm         [8]uint8
		_            [2]uint64
	}
	type swapped struct {
		NS           uint64
		CPU, PrevPID uint32
		Comm         [16]uint8
		_            uint64
	}
	type missing struct {
		NS   uint64
		CPU  uint32
		_    uint32
		Comm [16]uint8
		_    uint64
	}
	type unknown struct {
		NS      uint64
		PrevPID uint32
		Other   uint32
		Comm    [16]uint8
		_       uint64
	}
	type real struct {
		NS           float64
		PrevPID, CPU uint32
		Comm         [16]uint8
		_            uint64
	}
	for _, row := range []struct {
		ours reflect.Type
		says string
	}{
		{reflect.TypeFor[good](), ""},
		{reflect.TypeFor[tagged](), ""},
		{reflect.TypeFor[shorter](), "shorter.Comm is char[16] in C, and 8 times an integer of 1 bytes in Go"},
		{reflect.TypeFor[swapped](), "swapped.CPU is __u32 at byte 12 in C, and an integer of 4 bytes at byte 8 in Go"},
		{reflect.TypeFor[missing](), "missing.CPU is __u32 at byte 12 in C, and an integer of 4 bytes at byte 8 in Go"},
		{reflect.TypeFor[unknown](), "unknown.Other is no such field in C, and an integer of 4 bytes at byte 12 in Go"},
		{reflect.TypeFor[real](), "real.NS is __u64 in C, and a float of 8 bytes in Go"},
		{reflect.TypeFor[[5]uint64](), "is struct event in C, and 5 times an integer of 8 bytes in Go"},
	} {
		err := compareTypes(row.ours, c, row.ours.Name())
		if row.says == "" && err != nil || row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%s: %v", row.ours, err)
		}
	}
	for _, ours := range []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[struct{ p *int }](), reflect.TypeFor[[2]bool](),
		reflect.TypeFor[int](), reflect.TypeFor[[]byte](), reflect.TypeFor[map[int]int](), reflect.TypeFor[any]()} {
		if plain(ours) == nil {
			t.Errorf("%s is not plain", ours)
		}
	}
}

func TestBTFDescribesRegions(t *testing.T) {
	record := &btf.Struct{Name: "r", Size: 24, Members: []btf.Member{{Name: "a", Type: &btf.Array{Type: &btf.Int{Size: 8}, Nelems: 3}}}}
	l := describe(declaredRing(record, 64, 3))
	if l == nil || l.kind != KindRing || l.record != 24 || l.capacity != 64 || l.options != Wakeable|KeepOldest {
		t.Fatal(l)
	}
	if l.options.String() != "KEEP_OLDEST" || l.String() != "ring (KEEP_OLDEST): 64 of 24 bytes" {
		t.Error(l)
	}
	if found, err := l.forEntries(l.first + 3*(l.elements-l.first)); err != nil || found.shards != 3 {
		t.Error(found, err)
	}
	if _, err := l.forEntries(l.elements + 1); err == nil {
		t.Error("a part of a shard")
	}
	old := declaredRing(record, 64, 0)
	old.Members = old.Members[:3]
	for _, value := range []btf.Type{nil, record, declaredRing(record, 63, 0), declaredRing(record, 64, 32), declaredRing(record, 64, 20),
		old, &btf.Struct{Name: "mapring_other__x"}, &btf.Struct{Name: "mapring_"}} {
		if l := describe(value); l != nil {
			t.Errorf("%v: %v", value, l)
		}
	}
}
