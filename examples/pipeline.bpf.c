// SPDX-License-Identifier: MIT OR Apache-2.0
/* Packets pass through three programs. Userspace replaces the middle one while packets pass. */
#include <mapring/dispatch.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

enum stage { WEIGH, EMIT, STAGES };

/* The content of a packet, and the record made of it. */
struct parcel {
	__u64 number, weight, weighed_by;
};

MAPRING_DISPATCH(stages, STAGES);
MAPRING_RING(parcels, struct parcel, 65536); /* slots per CPU */

/* The number of packets received. Each packet gets a unique number. */
__u64 sent = 0;

struct xdp_md {
	__u32 data, data_end;
};

static __always_inline struct parcel *parcel_of(struct xdp_md *ctx)
{
	struct parcel *parcel = (void *)(long)ctx->data;

	return (void *)(parcel + 1) <= (void *)(long)ctx->data_end ? parcel : 0;
}

SEC("xdp")
int receive(struct xdp_md *ctx)
{
	struct parcel *parcel = parcel_of(ctx);

	if (!parcel)
		return 0;
	parcel->number = __sync_fetch_and_add(&sent, 1);
	mapring_dispatch(ctx, &stages, WEIGH);
	return 1; /* the weigh slot is empty: counted in stages_misses */
}

static __always_inline int weigh(struct xdp_md *ctx, __u64 by)
{
	struct parcel *parcel = parcel_of(ctx);

	if (!parcel)
		return 0;
	parcel->weight = parcel->number * by;
	parcel->weighed_by = by;
	mapring_dispatch(ctx, &stages, EMIT);
	return 2;
}

SEC("xdp")
int weigh_one(struct xdp_md *ctx)
{
	return weigh(ctx, 1);
}

SEC("xdp")
int weigh_two(struct xdp_md *ctx)
{
	return weigh(ctx, 2);
}

SEC("xdp")
int emit(struct xdp_md *ctx)
{
	struct parcel *parcel = parcel_of(ctx);

	return parcel && mapring_output(&parcels, parcel) == 0 ? 3 : 4;
}
