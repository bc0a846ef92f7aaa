// What BTF says of a map: which region it is, and the fields of its records, which are compared with a Go type.

package mapring

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// types are the types of a map's values; `why` there are none, otherwise.
type types struct {
	value btf.Type
	why   string
}

// typesOf reads the BTF of a map. This needs CAP_SYS_ADMIN.
func typesOf(info *mapInfo) types {
	if info.btf == 0 || info.btfValue == 0 {
		return types{why: "the map has no BTF: compile its object with clang -g"}
	}
	handle, err := btf.NewHandleFromID(btf.ID(info.btf))
	if isErrno(err, unix.EPERM) {
		return types{why: "reading BTF takes CAP_SYS_ADMIN"}
	}
	if err != nil {
		return types{why: fmt.Sprintf("no BTF: %v", err)}
	}
	defer handle.Close()
	spec, err := handle.Spec(nil)
	if err == nil {
		var value btf.Type
		if value, err = spec.TypeByID(btf.TypeID(info.btfValue)); err == nil {
			return types{value: value}
		}
	}
	return types{why: fmt.Sprintf("no BTF: %v", err)}
}

func (t types) region() *layout { return describe(t.value) }

// hint says what BTF would have helped.
func (t types) hint() string {
	if t.value != nil {
		return ""
	}
	return " (its types are unknown, too: " + t.why + ")"
}

var kindPrefixes = map[string]Kind{
	"ring": KindRing, "cell": KindCells, "latch": KindLatches, "counters": KindCounters, "histograms": KindHistograms,
	"gauges": KindGauges, "top": KindTopKeys, "percpu_cell": KindPerCPUCells, "percpu_counters": KindPerCPUCounters,
	"readers": KindReaders, "commands": KindCommands,
}

// describe is the region that a type of values declares, with one shard; nil if mapring's macros did not make the type.
func describe(value btf.Type) *layout {
	declared, ok := value.(*btf.Struct)
	if !ok {
		return nil
	}
	name, isOurs := strings.CutPrefix(declared.Name, "mapring_")
	prefix, _, _ := strings.Cut(name, "__")
	l := &layout{kind: kindPrefixes[prefix], shards: 1}
	if !isOurs || l.kind == 0 {
		return nil
	}
	var there bool
	if l.capacity, there = innerLength(declared, "mapring_tso"); !there {
		if l.capacity, there = innerLength(declared, "mapring_any"); !there {
			return nil
		}
	}
	switch l.kind {
	case KindCounters, KindPerCPUCounters, KindReaders, KindHistograms, KindGauges:
		l.record = l.bank()
	case KindTopKeys:
		l.record = bucketBytes
	case KindRing:
		options, there := innerLength(declared, "mapring_options")
		if !there || options > uint64(allOptions) { // of version 2, or of a later one
			return nil
		}
		l.options = RingOptions(options)
		l.longest, _ = innerLength(declared, "mapring_longest")
		l.area, _ = innerLength(declared, "mapring_tails")
		fallthrough
	default:
		record := recordOf(declared)
		if record == nil {
			return nil
		}
		size, err := btf.Sizeof(record)
		if err != nil || size < 0 {
			return nil
		}
		l.record = uint64(size)
	}
	if l.complete() != nil {
		return nil
	}
	return l
}

// forEntries is the same with as many shards as a map with this number of elements has.
func (l *layout) forEntries(entries uint64) (layout, error) {
	found := *l
	if found.isSharded() && entries > found.first {
		found.shards = max(1, (entries-found.first)/(found.elements-found.first))
		if err := found.complete(); err != nil {
			return found, err
		}
	}
	if found.elements != entries {
		return found, fmt.Errorf("its BTF makes the number of entries %d, the kernel says %d; leave max_entries to mapring's macros "+
			"and mapring.Prepare", found.elements, entries)
	}
	return found, nil
}

// alike compares what a declaration says; not the number of shards, nor the slots of a resizable ring.
func (l *layout) alike(found *layout) bool {
	return l.kind == found.kind && l.options == found.options && l.record == found.record && l.longest == found.longest &&
		l.area == found.area && (l.capacity == found.capacity || l.options.Has(Resizable))
}

func member(of *btf.Struct, name string) btf.Type {
	for _, member := range of.Members {
		if member.Name == name {
			return member.Type
		}
	}
	return nil
}

// innerLength is the length of a member such as `__u8 mapring_any[0][length]`.
func innerLength(of *btf.Struct, name string) (uint64, bool) {
	if array, ok := member(of, name).(*btf.Array); ok {
		if inner, ok := array.Type.(*btf.Array); ok {
			return uint64(inner.Nelems), true
		}
	}
	return 0, false
}

// recordOf is the type of the records in a value. In a ring with tails, a value has an array of slots.
func recordOf(value *btf.Struct) btf.Type {
	if array, ok := member(value, "slot").(*btf.Array); ok {
		if slot, ok := btf.UnderlyingType(array.Type).(*btf.Struct); ok {
			value = slot
		}
	}
	return member(value, "record")
}

// plain refuses Go types that are not plain data of a fixed size, whose bytes can have any value.
func plain(t reflect.Type) error {
	switch t.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return nil
	case reflect.Array:
		return plain(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if err := plain(t.Field(i).Type); err != nil {
				return fmt.Errorf("%s.%s: %w", t, t.Field(i).Name, err)
			}
		}
		return nil
	case reflect.Bool:
		return errors.New("a bool has only two values, and a byte in C any: use uint8")
	}
	return fmt.Errorf("%s is not plain data: use integers of a fixed size, floats, arrays and structs of these", t)
}

// checkRecord compares T with the records of a region: by size, and by fields if its BTF can be read. It returns how.
func checkRecord[T any](r *region) (string, error) {
	t := reflect.TypeFor[T]()
	if err := plain(t); err != nil {
		return "", failf(ErrLayout, "%s can't be read as %s: %v", r.what, t, err)
	}
	record, size := r.record, uint64(t.Size())
	tailed := r.kind == KindRing && r.options.Has(Tails)
	if tailed {
		record -= tailPrefix
	}
	value, _ := r.types.value.(*btf.Struct)
	if value != nil && describe(value) == nil {
		value = nil
	}
	if value != nil {
		theirs := recordOf(value)
		if inner, ok := theirs.(*btf.Struct); tailed && ok {
			theirs = member(inner, "record")
		}
		if theirs != nil {
			if err := compareTypes(t, theirs, t.Name()); err != nil {
				return "", failf(ErrLayout, "%s: %v", r.what, err)
			}
		}
	}
	// The padding at the end of a C struct with tails is in both.
	if record != size {
		return "", failf(ErrLayout, "%s has records of %d bytes, but %s has %d", r.what, record, t, size)
	}
	switch {
	case value != nil:
		return "field by field with the map's BTF", nil
	case r.types.value != nil:
		return "by size alone (the map's BTF describes no records: no macro of mapring declared it)", nil
	}
	return "by size alone (" + r.types.why + ")", nil
}

// compareTypes finds the first difference between a Go type and a C type.
func compareTypes(ours reflect.Type, theirs btf.Type, at string) error {
	theirs = btf.UnderlyingType(theirs)
	differ := func() error { return fmt.Errorf("%s is %s in C, and %s in Go", at, cName(theirs), goName(ours)) }
	err := error(nil)
	switch ours.Kind() {
	case reflect.Struct:
		switch c := theirs.(type) {
		case *btf.Struct:
			err = compareFields(ours, flatten(c.Members, 0, false, 0), at)
		case *btf.Union:
			err = compareFields(ours, flatten(c.Members, 0, true, 0), at)
		default:
			return differ()
		}
	case reflect.Array:
		c, ok := theirs.(*btf.Array)
		if !ok || int(c.Nelems) != ours.Len() {
			return differ()
		}
		err = compareTypes(ours.Elem(), c.Type, at+"[]")
	case reflect.Float32, reflect.Float64:
		if _, ok := theirs.(*btf.Float); !ok {
			return differ()
		}
	default:
		switch theirs.(type) {
		case *btf.Int, *btf.Enum, *btf.Pointer:
		default:
			return differ()
		}
	}
	if err != nil {
		return err
	}
	if size, err := btf.Sizeof(theirs); err != nil || size < 0 || uintptr(size) != ours.Size() {
		return differ()
	}
	return nil
}

// field is a named field of a C struct; a choice if it is one of several in a union.
type field struct {
	btf.Member
	choice bool
}

// flatten lists the fields, also those in members without a name.
func flatten(members []btf.Member, from btf.Bits, choice bool, depth int) (fields []field) {
	for _, m := range members {
		m.Offset += from
		if m.Name != "" || depth > 8 {
			fields = append(fields, field{m, choice})
			continue
		}
		switch inner := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			fields = append(fields, flatten(inner.Members, m.Offset, choice, depth+1)...)
		case *btf.Union:
			fields = append(fields, flatten(inner.Members, m.Offset, true, depth+1)...)
		}
	}
	return fields
}

// compareFields compares by name and offset. Fields whose names start with _ are padding, on both sides.
func compareFields(ours reflect.Type, theirs []field, at string) error {
	known := map[string]bool{}
	for i := range ours.NumField() {
		our := ours.Field(i)
		if strings.HasPrefix(our.Name, "_") {
			continue
		}
		name := cFieldName(our)
		path := at + "." + our.Name
		differ := func(c string) error {
			return fmt.Errorf("%s is %s in C, and %s at byte %d in Go", path, c, goName(our.Type), our.Offset)
		}
		known[name] = true
		var their *field
		for i := range theirs {
			if folded(theirs[i].Name) == name || theirs[i].Name == our.Tag.Get("btf") {
				their = &theirs[i]
				known[folded(their.Name)] = true
			}
		}
		switch {
		case their == nil:
			return differ("no such field")
		case their.BitfieldSize > 0:
			return differ(fmt.Sprintf("a bit field of %d bits at bit %d", their.BitfieldSize, their.Offset))
		case uintptr(their.Offset.Bytes()) != our.Offset:
			return differ(fmt.Sprintf("%s at byte %d", cName(their.Type), their.Offset.Bytes()))
		}
		if err := compareTypes(our.Type, their.Type, path); err != nil {
			return err
		}
	}
	for _, their := range theirs {
		if !their.choice && !strings.HasPrefix(their.Name, "_") && !known[folded(their.Name)] {
			return fmt.Errorf("%s.%s is %s in C, and no such field in Go", at, their.Name, cName(their.Type))
		}
	}
	return nil
}

// cFieldName is the folded name of a field in C: PrevPID is prev_pid. The tag `btf:"name"` names another one.
func cFieldName(field reflect.StructField) string {
	if tag := field.Tag.Get("btf"); tag != "" {
		return folded(tag)
	}
	return folded(field.Name)
}

func folded(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

func cName(t btf.Type) string {
	switch c := btf.UnderlyingType(t).(type) {
	case *btf.Array:
		return fmt.Sprintf("%s[%d]", cName(c.Type), c.Nelems)
	case *btf.Struct:
		return "struct " + printable(c.Name)
	case *btf.Union:
		return "union " + printable(c.Name)
	case *btf.Pointer:
		return "a pointer"
	case nil:
		return "nothing"
	default:
		return printable(c.TypeName())
	}
}

func goName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return fmt.Sprintf("a struct of %d bytes", t.Size())
	case reflect.Array:
		return fmt.Sprintf("%d times %s", t.Len(), goName(t.Elem()))
	case reflect.Float32, reflect.Float64:
		return fmt.Sprintf("a float of %d bytes", t.Size())
	}
	return fmt.Sprintf("an integer of %d bytes", t.Size())
}
