// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same where programs can only nest: XDP, which runs with bottom halves off. */
#include "stream.h"

struct xdp_md {
	__u32 data;
	__u32 data_end;
};

/* The packet holds what the other programs have as their context. */
#define STREAM(name, chunk)                                             \
	SEC("xdp") int name(struct xdp_md *ctx)                         \
	{                                                               \
		struct stream *packet = (void *)(long)ctx->data, run;   \
                                                                        \
		if ((void *)(packet + 1) > (void *)(long)ctx->data_end) \
			return 1;                                       \
		run = *packet;                                          \
		RUN(&run, chunk);                                       \
		*packet = run;                                          \
		return 0;                                               \
	}

STREAM(nested_mapring, mapring_chunk)
STREAM(nested_ringbuf, ringbuf_chunk)
