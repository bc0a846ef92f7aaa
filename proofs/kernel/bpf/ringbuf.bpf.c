// SPDX-License-Identifier: MIT OR Apache-2.0
/* Records of the kernel's own ring buffer, of many lengths, written on two CPUs, some of them discarded. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

/* As in linux/bpf.h, which a machine may lack. */
enum { RINGBUF = 27, NO_WAKEUP = 1, WORDS = 32, WRITERS = 2 };

struct {
	__uint(type, RINGBUF);
	__uint(max_entries, 4096);
} observed SEC(".maps");

/* The records that each writer has placed. */
__u64 placed[WRITERS];
/* What it writes next: its number, the number of the record, and words that follow from it. */
__u64 scratch[WRITERS][WORDS];

struct input {
	__u64 writer, count;
};

/* Places `count` records, or as many as there is space for. Returns how many the writer has placed in all. */
SEC("syscall")
int place(struct input *in)
{
	__u64 writer = in->writer, count = in->count;

	if (writer >= WRITERS)
		return 0;
	for (__u64 i = 0; i < 64 && i < count; i++) {
		__u64 n = placed[writer], *words = scratch[writer];

		if (n % 7 == 3) {
			__u64 *discarded = bpf_ringbuf_reserve(&observed, 16, 0);

			if (!discarded)
				break;
			discarded[0] = -1;
			bpf_ringbuf_discard(discarded, NO_WAKEUP);
		} else {
			__u64 length = 16 + (n * 37 & 127);

			words[0] = writer;
			words[1] = n;
			for (int at = 2; at < WORDS; at++)
				words[at] = (n & 255) * 0x0101010101010101;
			if (bpf_ringbuf_output(&observed, words, length, NO_WAKEUP))
				break;
		}
		placed[writer] = n + 1;
	}
	in->count = placed[writer];
	return 0;
}
