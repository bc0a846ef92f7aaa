/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The hot read path of the C header, for `cargo xtask assembly`. Records of 56 bytes: with their sequence they fill a cache line. */
#if defined(__x86_64__) && !defined(__clang__)
/* Only the compiler heeds an acquire fence there. LLVM leaves this comment in its place, and gcc nothing. */
#define __atomic_thread_fence(order) \
	do { \
		__asm__ volatile("#MEMBARRIER"); \
		__atomic_thread_fence(order); \
	} while (0)
#endif
#include <mapring.h>

struct record {
	uint64_t words[7];
};

static int add(void *context, const struct mapring_event *event)
{
	const struct record *record = (const struct record *)event->record;
	uint64_t *sum = (uint64_t *)context;

	*sum += record->words[0] + record->words[1] + record->words[2] + record->words[3] + record->words[4] + record->words[5] +
		record->words[6];
	return 0;
}

long ring_run(struct mapring_reader *reader, uint64_t *sum)
{
	return mapring_reader__for_each(reader, sizeof(struct record), add, sum);
}
