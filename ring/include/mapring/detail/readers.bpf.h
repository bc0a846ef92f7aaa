/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The maps that programs and the readers of a ring share, and how programs wake readers.
 */
#ifndef MAPRING_READERS_BPF_H
#define MAPRING_READERS_BPF_H

#include <mapring/detail/place.bpf.h>

#define MAPRING__MAP_TYPE_RINGBUF 27
#define MAPRING__RB_FORCE_WAKEUP 2

struct mapring__bell {
	__uint(type, MAPRING__MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

#define MAPRING__READERS_MAPS_NO(name)
#define MAPRING__READERS_MAPS_YES(name)                                                                       \
	struct mapring_readers__##name {                                                                      \
		__u64 words[MAPRING__SEATS];                                                                 \
		MAPRING__TAG(MAPRING__SEATS);                                                                \
	};                                                                                                    \
	struct mapring_map__##name##__readers {                               \
		__uint(type, MAPRING__MAP_TYPE_ARRAY);                                                        \
		__uint(map_flags, MAPRING__F_MMAPABLE);                                                       \
		__uint(max_entries, MAPRING__WAKE_AT + MAPRING__OF_SHARD);                                    \
		__type(key, __u32);                                                                           \
		__type(value, struct mapring_readers__##name);                                                \
	} name##__readers MAPRING__IN_MAPS;                                                                   \
	struct mapring_map__##name##__bells {                                 \
		__uint(type, MAPRING__MAP_TYPE_ARRAY_OF_MAPS);                                                \
		__uint(max_entries, MAPRING__SEATS);                                                         \
		__type(key, __u32);                                                                           \
		__array(values, struct mapring__bell);                                                        \
	} name##__bells MAPRING__IN_MAPS;

/* 1 if this slot is the last one of its shard, else 0. Without a branch. */
static __always_inline __u64 mapring__is_last(struct mapring__ring ring, __u64 number)
{
	return ((number & ((1ULL << ring.shift) - 1)) + 1) >> ring.shift;
}

/*
 * Whether the program that has just ended the ticket in this slot must look further: a reader sleeps, or a lap is over.
 * Readers say at which tickets programs look. Only there does a program pay for a barrier.
 * In a ring with tails, a program ends its ticket, then its claim of bytes, and then looks. A reader needs only the end of
 * the ticket, so the orderings are the same.
 */
static __always_inline int mapring__sleeps(struct mapring__ring ring, void *readers, __u64 number)
{
	__u64 *words = mapring__word(readers, 0);

	/* SYNC look: this load comes after the end of the ticket (for the compiler, because the lookup above does), but no
	 * barrier is between the two. A reader that makes programs look more often waits for an RCU grace period before
	 * it sleeps. Each CPU then has issued a barrier: if before this load, the load finds what the reader said; if
	 * later, the reader finds the end of the ticket. */
	if (!words || (~number & (__u32)mapring__load(words + MAPRING__LOOK)))
		return 0;
	/* SYNC asleep: between the end of the ticket and the loads of what readers said; pairs with their fence before
	 * they check for records. */
	mapring__full_barrier();
	return !!(mapring__load(words + MAPRING__ASLEEP) | mapring__is_last(ring, number));
}

/*
 * Whether ticket t has ended, or is far behind: t may be one that no program can claim, because its slot is stuck.
 * Called by programs that ended a ticket, so the one that ends t finds that it has.
 */
static __always_inline int mapring__reached(struct mapring__ring ring, __u64 *head, __u32 base, __u64 t)
{
	__u64 *seq = mapring__slot(ring, base, t);

	if (!seq)
		return 1;
	return (__s64)((mapring__load(seq) & ~MAPRING__DISCARDED) - (mapring__lap(ring, t) + 2)) >= 0 ||
	       (__s64)((mapring__load(head) & ~MAPRING__PENDING) - t) > MAPRING__TRIES;
}

/*
 * The same in a ring that can be replaced. A program does not know which ring its record is in, so it looks at each
 * record, unless no reader sleeps now and then. SYNC look, asleep: as above.
 */
static __always_inline int mapring__anyone_sleeps(void *readers)
{
	__u64 *words = mapring__word(readers, 0);

	if (!words || (__u32)mapring__load(words + MAPRING__LOOK) == ~0U)
		return 0;
	mapring__full_barrier();
	return !!mapring__load(words + MAPRING__ASLEEP);
}

/*
 * Whether programs stop looking for sleepers from now on, because no reader has said for long that it sleeps: all of them
 * are dead, or never idle. The caller then wakes all that sleep. A reader that is about to sleep notices it, and says again
 * how often programs must look.
 */
static __always_inline int mapring__stops_looking(__u64 *words)
{
	__u64 look = mapring__load(words + MAPRING__LOOK);

	/* SYNC idle: the swap is a full barrier before the load of the readers' bits; pairs with the fence between a reader's
	 * bit and its look at this word. It fails if a reader has said anything meanwhile. */
	return mapring__lease_ended(words + MAPRING__IDLE_SINCE, MAPRING__IDLE) &&
	       mapring__cmpxchg(words + MAPRING__LOOK, look, look | ~0U) == look;
}

/*
 * Wakes the readers that sleep until now. In a ring that can be replaced, `is_due` says whether a ticket has ended, and
 * otherwise it is 0. A reader's bit is cleared before its bell is rung, so it is rung once. If
 * the kernel can't ring it (an NMI inside the kernel's own lock), the bit is set again for the next program that looks.
 */
static __always_inline void mapring__wake(void *readers, void *bells, struct mapring__ring ring, __u64 *head, __u32 base,
					  __u32 number, int (*is_due)(__u64 ticket))
{
	__u64 *words = mapring__word(readers, 0);
	__u64 *wake_at = mapring__word(readers, MAPRING__WAKE_AT + bpf_get_smp_processor_id() * MAPRING__OF_SHARD);
	__u64 asleep, nothing = 0;
	int all;

	if (!words || !wake_at || !head)
		return;
	all = mapring__is_last(ring, number) && mapring__stops_looking(words);
	words += MAPRING__ASLEEP;
	asleep = mapring__load(words);
	for (__u32 reader = 0; reader < MAPRING__SEATS; reader++) {
		__u64 bit = 1ULL << reader, until;
		void *bell;

		if (!(asleep & bit))
			continue;
		until = mapring__load(wake_at + reader);
		if (until && !all && !(is_due ? is_due(until - 1) : mapring__reached(ring, head, base, until - 1)))
			continue;
		if (!(mapring__and(words, ~bit) & bit))
			continue; /* another program wakes it */
		bell = mapring__word(bells, reader);
		if (bell && bpf_ringbuf_output(bell, &nothing, 0, MAPRING__RB_FORCE_WAKEUP)) {
			mapring__or(words, bit);
			if (all)
				mapring__and(words - MAPRING__ASLEEP + MAPRING__LOOK, ~(__u64)~0U);
		}
	}
}

#endif
