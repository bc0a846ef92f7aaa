/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The header of each macro, for programs that include another one. clang would say "expected identifier". Each header
 * replaces its own macros.
 */
#ifndef MAPRING_MISSING_BPF_H
#define MAPRING_MISSING_BPF_H

#define MAPRING__MISSING(macro, header) _Static_assert(0, "mapring: " macro " needs #include <mapring/" header ">")

#define MAPRING_CELL(...) MAPRING__MISSING("MAPRING_CELL", "cell.bpf.h")
#define MAPRING_CELLS(...) MAPRING__MISSING("MAPRING_CELLS", "cell.bpf.h")
#define MAPRING_COMMANDS(...) MAPRING__MISSING("MAPRING_COMMANDS", "commands.bpf.h")
#define MAPRING_COUNTERS(...) MAPRING__MISSING("MAPRING_COUNTERS", "counters.bpf.h")
#define MAPRING_DISPATCH(...) MAPRING__MISSING("MAPRING_DISPATCH", "dispatch.bpf.h")
#define MAPRING_GAUGE(...) MAPRING__MISSING("MAPRING_GAUGE", "gauge.bpf.h")
#define MAPRING_GAUGES(...) MAPRING__MISSING("MAPRING_GAUGES", "gauge.bpf.h")
#define MAPRING_GLOBAL_CELL(...) MAPRING__MISSING("MAPRING_GLOBAL_CELL", "global.bpf.h")
#define MAPRING_GLOBAL_LATCH(...) MAPRING__MISSING("MAPRING_GLOBAL_LATCH", "global.bpf.h")
#define MAPRING_HISTOGRAM(...) MAPRING__MISSING("MAPRING_HISTOGRAM", "histogram.bpf.h")
#define MAPRING_HISTOGRAMS(...) MAPRING__MISSING("MAPRING_HISTOGRAMS", "histogram.bpf.h")
#define MAPRING_LATCH(...) MAPRING__MISSING("MAPRING_LATCH", "latch.bpf.h")
#define MAPRING_LATCHES(...) MAPRING__MISSING("MAPRING_LATCHES", "latch.bpf.h")
#define MAPRING_PERCPU_CELL(...) MAPRING__MISSING("MAPRING_PERCPU_CELL", "percpu.bpf.h")
#define MAPRING_PERCPU_CELLS(...) MAPRING__MISSING("MAPRING_PERCPU_CELLS", "percpu.bpf.h")
#define MAPRING_PERCPU_COUNTERS(...) MAPRING__MISSING("MAPRING_PERCPU_COUNTERS", "percpu.bpf.h")
#define MAPRING_RING(...) MAPRING__MISSING("MAPRING_RING", "ring.bpf.h")
#define MAPRING_VARIANT(...) MAPRING__MISSING("MAPRING_VARIANT", "tagged.bpf.h")
#define MAPRING_TOP_KEYS(...) MAPRING__MISSING("MAPRING_TOP_KEYS", "top.bpf.h")

#endif
