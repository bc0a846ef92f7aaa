// SPDX-License-Identifier: MIT OR Apache-2.0
/* Regions of all kinds, and the same names with something else in them (OTHER). Tests reuse each in place of the other. */
#include <mapring/cell.bpf.h>
#include <mapring/commands.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/gauge.bpf.h>
#include <mapring/histogram.bpf.h>
#include <mapring/ring.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/top.bpf.h>

char LICENSE[] SEC("license") = "GPL";

enum why { FIRST, SECOND };

struct rec {
	__u64 ns;
	__u32 pid;
	__s32 code;
};

/* Each macro that changes how a record is committed has its own types. */
#define LIKE_REC { __u64 ns; __u32 pid; __s32 code; }
struct to_wakeable LIKE_REC;
struct from_wakeable LIKE_REC;
struct to_keep LIKE_REC;
struct kept LIKE_REC;
struct woken LIKE_REC;
struct resized LIKE_REC;

#ifndef OTHER
#define SLOTS 64
#define COUNT 2
#define LONGEST 64
struct small { __u64 ns; };
struct sized { __u64 ns; };
struct noded { __u64 ns; };
struct swapped { __u64 ns; __u32 pid; __s32 code; };
struct signs { __u64 ns; __u32 pid; __s32 code; };
struct reasons { __u64 ns; enum why why; };
struct outside { struct rec rec; };
MAPRING_RING(kind, struct rec, 64);
MAPRING_RING(to_wakeable, struct to_wakeable, 64);
MAPRING_RING(from_wakeable, struct from_wakeable, 64, WAKEABLE);
MAPRING_RING(to_keep, struct to_keep, 64, WAKEABLE);
MAPRING_CELLS(per_cpu, struct rec, 2);
#else
#define SLOTS 128
#define COUNT 3
#define LONGEST 63
enum other_why { OTHER_FIRST = 1, OTHER_SECOND = 0 };
struct small { __u64 ns, more; };
struct sized { __u64 ns, more; };
struct noded { __u64 ns, more; };
struct swapped { __u64 ns; __s32 code; __u32 pid; };
struct signs { __u64 ns; __s32 pid; __s32 code; };
struct reasons { __u64 ns; enum other_why why; };
struct outside { struct { __u64 ns; __u32 pid; __s32 codes; } rec; };
MAPRING_CELLS(kind, struct rec, 64);
MAPRING_RING(to_wakeable, struct to_wakeable, 64, WAKEABLE);
MAPRING_RING(from_wakeable, struct from_wakeable, 64);
MAPRING_RING(to_keep, struct to_keep, 64, KEEP_OLDEST);
MAPRING_PERCPU_CELLS(per_cpu, struct rec, 2);
#endif
MAPRING_RING(slots, struct rec, SLOTS);
MAPRING_RING(record, struct small, 64);
MAPRING_RING(fields, struct swapped, 64);
MAPRING_RING(sign, struct signs, 64);
MAPRING_RING(constants, struct reasons, 64);
MAPRING_RING(nested, struct outside, 64);
MAPRING_RING(tails, struct rec, 64, TAILS(LONGEST, 4096));
MAPRING_RING(sizes, struct sized, 64, RESIZABLE);
MAPRING_RING(nodes, struct noded, 64, PER_CPU_MAPS);
MAPRING_CELLS(cells, struct rec, COUNT);
MAPRING_LATCHES(latches, struct swapped, 2);
MAPRING_COMMANDS(orders, struct rec, SLOTS);
MAPRING_COUNTERS(counters, 9 * COUNT);
MAPRING_PERCPU_COUNTERS(own_counters, 9 * COUNT);
MAPRING_HISTOGRAMS(histograms, COUNT);
MAPRING_GAUGES(gauges, COUNT);
MAPRING_TOP_KEYS(top, SLOTS);

/* The same in both. */
MAPRING_RING(same, struct rec, 64);
MAPRING_RING(kept, struct kept, 64, KEEP_OLDEST);
MAPRING_RING(woken, struct woken, 64, WAKEABLE);
MAPRING_RING(resized, struct resized, 64, RESIZABLE);

SEC("syscall")
int publish(struct rec *args)
{
	struct kept *kept_rec = mapring_reserve(&kept);
	struct woken *woken_rec;

	if (!kept_rec)
		return 1;
	kept_rec->ns = args->ns;
	mapring_commit(&kept, kept_rec);
	woken_rec = mapring_reserve(&woken);
	if (!woken_rec)
		return 1;
	woken_rec->ns = args->ns;
	mapring_commit(&woken, woken_rec);
	return 0;
}
