// Whether the records of a map that a loader reuses have the fields that its object declares. Programs write them by these.

package mapring

import (
	"slices"

	"github.com/cilium/ebpf/btf"
)

// comparison finds the first field in which two C types differ. The budget bounds types that nest without an end.
type comparison struct{ budget int }

// alike compares a type of a map with the declared one, or names the field that differs. The names of types are not compared. The
// declared type may have more constants.
func (c *comparison) alike(found, declared btf.Type, at string) (string, bool) {
	found, declared = btf.UnderlyingType(found), btf.UnderlyingType(declared)
	size, failed := btf.Sizeof(found)
	other, err := btf.Sizeof(declared)
	if c.budget--; c.budget < 0 || failed != nil || err != nil || size != other {
		return at, false
	}
	switch f := found.(type) {
	case *btf.Int:
		d, ok := declared.(*btf.Int)
		return at, ok && f.Encoding == d.Encoding
	case *btf.Float:
		_, ok := declared.(*btf.Float)
		return at, ok
	case *btf.Pointer:
		_, ok := declared.(*btf.Pointer)
		return at, ok
	case *btf.Array:
		d, ok := declared.(*btf.Array)
		if !ok || f.Nelems != d.Nelems {
			return at, false
		}
		return c.alike(f.Type, d.Type, at)
	case *btf.Enum:
		d, ok := declared.(*btf.Enum)
		for _, value := range f.Values {
			c.budget--
			ok = ok && slices.Contains(d.Values, value)
		}
		return at, ok
	case *btf.Struct:
		if d, ok := declared.(*btf.Struct); ok {
			return c.members(f.Members, d.Members, at)
		}
	case *btf.Union:
		if d, ok := declared.(*btf.Union); ok {
			return c.members(f.Members, d.Members, at)
		}
	}
	return at, false
}

func (c *comparison) members(found, declared []btf.Member, at string) (string, bool) {
	if at != "" {
		at += "."
	}
	for i, f := range found {
		if i == len(declared) {
			return at + f.Name, false
		}
		d := declared[i]
		if f.Name != d.Name || f.Offset != d.Offset || f.BitfieldSize != d.BitfieldSize {
			return at + f.Name, false
		}
		if field, ok := c.alike(f.Type, d.Type, at+f.Name); !ok {
			return field, false
		}
	}
	if len(found) < len(declared) {
		return at + declared[len(found)].Name, false
	}
	return "", true
}
