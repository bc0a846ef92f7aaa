// SPDX-License-Identifier: MIT OR Apache-2.0
/* A record with a string of any length: a tail of mapring's, and the ways of the BPF ring buffer. */
#include <mapring/ring.bpf.h>

#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_RB_NO_WAKEUP 1
#define LONGEST 4096
#define RECORDS 64 /* records per run */

char LICENSE[] SEC("license") = "GPL";

struct fixed {
	__u64 n, len;
};

struct whole {
	struct fixed fixed;
	__u8 tail[LONGEST];
};

MAPRING_RING(ours, struct fixed, 256, TAILS(LONGEST, 1 << 20));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ringbuf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct whole);
} scratch SEC(".maps");

/* Strings that userspace has placed here; their last byte is 0. */
__u8 text[16 * LONGEST] SEC(".data.text");

/* Input: the first record's number, the place of the string in `text`. Output: the nanoseconds of the loop. */
struct run {
	__u64 first, at, ns;
};

#define PRODUCER(name, produce)                                                  \
	SEC("syscall") int name(struct run *run)                                 \
	{                                                                        \
		__u64 first = run->first, start;                                 \
		const void *from = text + (run->at & (sizeof(text) - 1));        \
                                                                                 \
		start = bpf_ktime_get_ns();                                      \
		for (__u32 i = 0; i < RECORDS; i++)                                \
			produce(first + i, from);                                \
		run->ns = bpf_ktime_get_ns() - start;                            \
		return 0;                                                        \
	}

static __always_inline void with_tail(__u64 n, const void *from)
{
	void *tail;
	long len = 0;

	mapring_record_with_tail(ours, r, tail, len) {
		len = bpf_probe_read_kernel_str(tail, LONGEST, from);
		r->n = n;
		r->len = len;
	}
}

static __always_inline void with_reserve(__u64 n, const void *from)
{
	struct whole *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	if (!r)
		return;
	r->fixed.n = n;
	r->fixed.len = bpf_probe_read_kernel_str(r->tail, LONGEST, from);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* The record in scratch memory, and its bytes. */
static __always_inline struct whole *in_scratch(__u64 n, const void *from, __u64 *bytes)
{
	__u32 zero = 0;
	struct whole *r = bpf_map_lookup_elem(&scratch, &zero);
	__u64 len;

	if (!r)
		return 0;
	len = bpf_probe_read_kernel_str(r->tail, LONGEST, from);
	r->fixed.n = n;
	r->fixed.len = len;
	asm volatile("" : "+r"(len)); /* one register for the check and the use */
	if (len > LONGEST)
		return 0;
	*bytes = sizeof(r->fixed) + len;
	return r;
}

static __always_inline void with_output(__u64 n, const void *from)
{
	__u64 bytes;
	struct whole *r = in_scratch(n, from, &bytes);

	if (r)
		bpf_ringbuf_output(&ringbuf, r, bytes, BPF_RB_NO_WAKEUP);
}

struct bpf_dynptr {
	__u64 opaque[2];
};

static __always_inline void with_dynptr(__u64 n, const void *from)
{
	__u64 bytes;
	struct whole *r = in_scratch(n, from, &bytes);
	struct bpf_dynptr to;

	if (!r)
		return;
	if (!bpf_ringbuf_reserve_dynptr(&ringbuf, bytes, 0, &to))
		bpf_dynptr_write(&to, 0, r, bytes, 0);
	bpf_ringbuf_submit_dynptr(&to, BPF_RB_NO_WAKEUP);
}

/* Only the helper that all of them call. */
static __always_inline void with_nothing(__u64 n, const void *from)
{
	__u64 bytes;

	in_scratch(n, from, &bytes);
}

PRODUCER(tails_mapring, with_tail)
PRODUCER(tails_helper, with_nothing)
PRODUCER(tails_reserve, with_reserve)
PRODUCER(tails_output, with_output)
PRODUCER(tails_dynptr, with_dynptr)
