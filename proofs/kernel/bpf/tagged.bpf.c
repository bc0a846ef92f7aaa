// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tagged records in every kind of ring: three variants. Tests run the programs by hand. */
#include <mapring/ring.bpf.h>
#include <mapring/tagged.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct entered {
	__u64 n;
	__u32 cpu, check;
};

struct clock_tick {
	__u64 n;
	__u64 check[3];
};

/* From a newer program than the reader. */
struct newer {
	__u64 words[16];
};

enum { ENTERED = 1, TICK = 2, NEWER = 0x80000001 };

struct event {
	__u64 tag;
	union {
		MAPRING_VARIANT(ENTERED, struct entered, entered);
		MAPRING_VARIANT(TICK, struct clock_tick, clock_tick);
		MAPRING_VARIANT(NEWER, struct newer, newer);
	};
};

MAPRING_RING(plain, struct event, 16384);
MAPRING_RING(wakeable, struct event, 256, WAKEABLE);
MAPRING_RING(keeping, struct event, 256, KEEP_OLDEST);
MAPRING_RING(resizable, struct event, 256, RESIZABLE);
MAPRING_RING(numa, struct event, 256, PER_CPU_MAPS);
MAPRING_RING(tailed, struct event, 256, TAILS(64, 1 << 16));

/* Not tagged, and tagged with more than the tag before the union. */
MAPRING_RING(untagged, struct newer, 8);
struct stamped {
	__u64 tag;
	__u64 ns;
	union {
		MAPRING_VARIANT(ENTERED, struct entered, entered);
	};
};
MAPRING_RING(stamped, struct stamped, 8);

static __always_inline void fill_entered(struct event *e, __u64 n)
{
	e->entered.n = n;
	e->entered.cpu = bpf_get_smp_processor_id();
	e->entered.check = n * 3;
}

static __always_inline void fill_tick(struct event *e, __u64 n)
{
	e->clock_tick.n = n;
	for (int i = 0; i < 3; i++)
		e->clock_tick.check[i] = n + i;
}

static __always_inline void fill_newer(struct event *e, __u64 n)
{
	for (int i = 0; i < 16; i++)
		e->newer.words[i] = n ^ i;
}

/* One record of `ring`, of the variant 0, 1 or 2. Returns whether it was published. */
#define PUT(ring, variant, n)                                                      \
	({                                                                         \
		struct event *e;                                                   \
                                                                                   \
		if (variant == 0) {                                                \
			e = mapring_reserve_variant(&ring, entered);               \
			if (e)                                                     \
				fill_entered(e, n);                                \
		} else if (variant == 1) {                                         \
			/* The same, after another reserve. */                     \
			e = mapring_set_variant(mapring_reserve_zeroed(&ring), clock_tick); \
			if (e)                                                     \
				fill_tick(e, n);                                   \
		} else {                                                           \
			e = mapring_reserve_variant(&ring, newer);                 \
			if (e)                                                     \
				fill_newer(e, n);                                  \
		}                                                                  \
		if (e)                                                             \
			mapring_commit(&ring, e);                                  \
		!!e;                                                               \
	})

/* The same with a tail of n % 64 bytes. */
static __always_inline int put_tailed(const int variant, __u64 n)
{
	static const __u8 tail_of[128] = { [0 ... 127] = 0x5a };
	struct event *e;
	void *tail;

	if (variant == 0) {
		e = mapring_reserve_variant_with_tail(&tailed, entered, &tail);
		if (e)
			fill_entered(e, n);
	} else if (variant == 1) {
		e = mapring_reserve_variant_with_tail(&tailed, clock_tick, &tail);
		if (e)
			fill_tick(e, n);
	} else {
		e = mapring_reserve_variant_with_tail(&tailed, newer, &tail);
		if (e)
			fill_newer(e, n);
	}
	if (!e)
		return 0;
	bpf_probe_read_kernel(tail, n % 64, tail_of);
	mapring_commit_tail(&tailed, e, n % 64);
	return 1;
}

/* The variants 0, 1 and 2 in each ring, with the numbers ctx[0], ctx[0] + 1 and ctx[0] + 2. */
#define EACH(ring)                                         \
	SEC("syscall")                                     \
	int each_##ring(__u64 *ctx)                        \
	{                                                  \
		__u64 n = ctx[0];                          \
                                                           \
		ctx[1] = PUT(ring, 0, n);                  \
		ctx[1] += PUT(ring, 1, n + 1);             \
		ctx[1] += PUT(ring, 2, n + 2);             \
		return 0;                                  \
	}

EACH(plain)
EACH(wakeable)
EACH(keeping)
EACH(resizable)
EACH(numa)

SEC("syscall")
int each_tailed(__u64 *ctx)
{
	ctx[1] = put_tailed(0, ctx[0]) + put_tailed(1, ctx[0] + 1) + put_tailed(2, ctx[0] + 2);
	return 0;
}
