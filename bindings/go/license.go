// Whether the license of a program allows the guard of mapring's headers.

package mapring

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// guardFunction is the first of the two kernel functions of the guard. The kernel refuses a program with another license even if the
// verifier would remove the calls.
const guardFunction = "bpf_preempt_disable"

// gplCompatible are the licenses that the kernel calls so (license_is_gpl_compatible).
var gplCompatible = []string{"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}

// checkLicense refuses programs that this kernel would refuse: its message names no remedy. Kernels without the function take any.
func checkLicense(spec *ebpf.CollectionSpec) error {
	for name, program := range spec.Programs {
		calls := false
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			calls = calls || ins.IsKfuncCall() && ins.Reference() == guardFunction
		}
		if !calls || slices.Contains(gplCompatible, program.License) {
			continue
		}
		var found *btf.Func
		if kernel, err := btf.LoadKernelSpec(); err != nil || kernel.TypeByName(guardFunction, &found) != nil {
			return nil
		}
		return failf(ErrUnsupported, "program %s calls %s, which this kernel allows only to programs with a GPL-compatible license, and its "+
			"license is %q: put `#define MAPRING_NO_GUARD` before mapring's headers, and programs claim slots by compare-and-swap "+
			"instead, which costs about 3 ns more for each record; or choose a GPL-compatible license", name, guardFunction, program.License)
	}
	return nil
}
