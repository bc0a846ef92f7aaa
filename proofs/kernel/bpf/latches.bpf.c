// SPDX-License-Identifier: MIT OR Apache-2.0
/* Latches in many sizes: programs read them through the header, and write them as docs/abi.md specifies. */
#include <mapring/latch.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* `done`: 0 if it could not be read, 1 if it is not value n, 2 if it is. */
#define LATCHES(size)                                                          \
	struct rec_##size {                                                    \
		__u32 words[size / 4];                                         \
	};                                                                     \
	MAPRING_LATCHES(latches_##size, struct rec_##size, 3);                 \
	SEC("syscall")                                                         \
	int read_##size(struct args *args)                                     \
	{                                                                      \
		struct rec_##size now;                                         \
		__u32 wrong = 0;                                               \
                                                                               \
		args->done = 0;                                                \
		if (mapring_latch_read(&latches_##size, args->index, &now))    \
			return 0;                                              \
		for (__u32 i = 0; i < size / 4; i++)                           \
			wrong |= now.words[i] ^ WORD(args->n, i);              \
		args->done = wrong ? 1 : 2;                                    \
		return 0;                                                      \
	}                                                                      \
	/* Only one writer runs at a time, so nothing is claimed. */           \
	SEC("syscall")                                                         \
	int write_##size(struct args *args)                                    \
	{                                                                      \
		__u32 first = MAPRING__FIRST(sizeof(struct mapring_latch__latches_##size)); \
		__u64 *seq = mapring__word(&latches_##size, first + args->index); \
		__u64 next, odd;                                               \
		struct rec_##size *copy;                                       \
                                                                               \
		args->done = !!seq;                                            \
		if (!seq)                                                      \
			return 0;                                              \
		next = mapring__load(seq) + 1;                                 \
		odd = next & 1;                                                \
		asm volatile("" : "+r"(odd)); /* as in the header */           \
		mapring__barrier();                                            \
		copy = (void *)(seq + 1 + odd * (MAPRING__ROUND_UP(sizeof(*copy), 8UL) / 8)); \
		FILL_WORDS(copy, args->n, size / 4);                           \
		mapring__publish(seq, next);                                   \
		return 0;                                                      \
	}

LATCHES(4)
LATCHES(8)
LATCHES(12)
LATCHES(56)
LATCHES(64)
LATCHES(100)
LATCHES(256)

MAPRING_LATCH(one, struct rec_56);

SEC("syscall")
int read_one(struct args *args)
{
	struct rec_56 now;

	args->done = !mapring_latch_read(&one, 0, &now) && now.words[13] == WORD(args->n, 13);
	return 0;
}
