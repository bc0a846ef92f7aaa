// Cells and latches that are global variables of an object: MAPRING_GLOBAL_CELL and MAPRING_GLOBAL_LATCH.

package mapring

import (
	"reflect"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// OpenGlobalCell opens a global cell by its name, as cell 0. The source is the map of its section: Map(coll.Maps[".bss"]) or a pin.
// It needs CAP_SYS_ADMIN, for the map's BTF. Variables of other types are coll.Variables of cilium/ebpf.
func OpenGlobalCell[T any](section Source, name string) (*Cells[T], error) {
	c := new(Cells[T])
	return opened(c, c.openGlobal(section, name, KindCells))
}

// OpenGlobalLatch is the same for a global latch, as latch 0.
func OpenGlobalLatch[T any](section Source, name string) (*Latches[T], error) {
	l := new(Latches[T])
	return opened(l, l.openGlobal(section, name, KindLatches))
}

func (v *values[T]) openGlobal(section Source, name string, kind Kind) error {
	fd, what, _, err := section.open()
	if err != nil {
		return err
	}
	r := &region{what: "the variable " + printable(name) + " in " + what, fd: fd, cpus: []int{0}}
	at, record, err := r.findGlobal(name, kind)
	if err == nil {
		err = checkGlobal[T](r.what, record)
	}
	if err == nil {
		n := wordsOf(uint64(reflect.TypeFor[T]().Size()))
		r.layout = layout{kind: kind, record: 8 * n, capacity: 1, shards: 1, size: roundUp(uint64(r.info.valueSize), 8)}
		err = r.placeGlobal(at)
	}
	if err != nil {
		r.close()
		return err
	}
	r.share()
	v.a, v.check, v.base, v.droppedAt = r.access(), "field by field with the map's BTF", at, 0
	if kind == KindCells {
		v.droppedAt = at + 1 + r.record/8
	}
	v.makeRoom()
	return nil
}

// findGlobal finds the word of the section at which a variable starts, and the type of its value.
func (r *region) findGlobal(name string, kind Kind) (at uint64, record btf.Type, err error) {
	if r.info, err = infoOf(r.fd); err != nil {
		return 0, nil, failf(ErrWrongType, "%s: not a BPF map: %v", r.what, err)
	}
	if r.info.typ != typeArray || r.info.maxEntries != 1 {
		return 0, nil, failf(ErrWrongType, "%s: not the map of a section of global variables, such as .bss", r.what)
	}
	r.types = typesOf(&r.info)
	section, ok := r.types.value.(*btf.Datasec)
	if !ok {
		why := r.types.why
		if why == "" {
			why = "the map's BTF describes no section of global variables"
		}
		return 0, nil, failf(ErrOpen, "%s can't be found: %s", r.what, why)
	}
	for _, info := range section.Vars {
		variable, ok := info.Type.(*btf.Var)
		if !ok || variable.Name != name {
			continue
		}
		declared, ok := btf.UnderlyingType(variable.Type).(*btf.Struct)
		prefix := map[Kind]string{KindCells: "mapring_global_cell__", KindLatches: "mapring_global_latch__"}[kind]
		if !ok || !strings.HasPrefix(declared.Name, prefix) || member(declared, "record") == nil {
			return 0, nil, failf(ErrWrongType, "%s is %s, expected %s: declare it with MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH", r.what,
				cName(variable.Type), kind)
		}
		if info.Offset%8 != 0 {
			return 0, nil, failf(ErrContradiction, "%s starts at byte %d, which is not a multiple of 8", r.what, info.Offset)
		}
		return uint64(info.Offset) / 8, member(declared, "record"), nil
	}
	return 0, nil, failf(ErrOpen, "%s: there is no such variable", r.what)
}

// placeGlobal maps the section, and checks that the variable ends in it.
func (r *region) placeGlobal(at uint64) (err error) {
	n, count := r.record/8, r.size/8
	length := n + 2 // the count of dropped writes follows a cell
	if r.kind == KindLatches {
		length = 2*n + 1
	}
	if at > count || length > count-at {
		return failf(ErrContradiction, "%s ends beyond its section", r.what)
	}
	if r.mem, err = mapWords(r.fd, 0, count, unix.PROT_READ); err != nil {
		r.mem, r.refusal = words{}, r.refused(err)
	}
	return nil
}

func checkGlobal[T any](what string, theirs btf.Type) error {
	t := reflect.TypeFor[T]()
	err := plain(t)
	if err == nil {
		err = compareTypes(t, theirs, t.Name())
	}
	if err != nil {
		return failf(ErrLayout, "%s: %v", what, err)
	}
	return nil
}
