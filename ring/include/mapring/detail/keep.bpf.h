/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The readers of a ring, as programs see them, and the limit that they set: programs do not overwrite what a
 * required reader has not read yet. ring/core/src/protocol/readers.rs is the readers'
 * side, and says why this is correct.
 */
#ifndef MAPRING_KEEP_BPF_H
#define MAPRING_KEEP_BPF_H

#include <mapring/detail/atomic.bpf.h>

/* A word of a shard's header, which may be longer than one element. `head` is its first word. */
static __always_inline __u64 *mapring__header_word(void *map, __u32 size, __u64 *head, __u32 base, __u32 word)
{
	__u64 *words = word < size / 8 ? head : mapring__word(map, base + word / (size / 8));

	return words ? words + word % (size / 8) : 0;
}

/* Whether a lease has ended since the time in `word`. If that is 0, the lease begins now. */
static __always_inline int mapring__lease_ended(__u64 *word, __u64 lease)
{
	__u64 since = mapring__load(word), now = bpf_ktime_get_ns();

	if (since)
		return now - since > lease;
	mapring__store(word, now);
	return 0;
}

/*
 * The oldest ticket that a required reader has not read, or t, the next ticket to be claimed. A reader that has not read
 * `within` tickets before t holds programs back. When its lease has ended, it is no longer required.
 */
static __always_inline __u64 mapring__oldest(void *readers, __u64 t, __u64 within)
{
	__u32 shard = bpf_get_smp_processor_id() * MAPRING__OF_SHARD;
	__u64 *words, *leases, *positions, *held, required, most = 0;

	/* SYNC keep: the claims of the tickets before t come before the load of who is required; pairs with the fence
	 * of a reader that becomes required, after which it loads slots. */
	mapring__full_barrier();
	words = mapring__word(readers, 0);
	leases = mapring__word(readers, MAPRING__LEASES);
	positions = mapring__word(readers, MAPRING__POSITIONS + shard);
	held = mapring__word(readers, MAPRING__HELD + shard);
	if (!words || !leases || !positions || !held)
		return t - within;
	required = mapring__load(words + MAPRING__REQUIRED);
	t = mapring__forget(t, required);
	for (__u32 reader = 0; reader < MAPRING__SEATS; reader++) {
		__u64 bit = 1ULL << reader, behind;

		if (!(required & bit))
			continue;
		behind = t - mapring__load(positions + reader);
		if ((__s64)behind < 0)
			continue; /* no reader is there: forged */
		if (behind < within)
			mapring__store(held + reader, 0);
		/* Reading restarts the lease; the next claim notices. */
		else if (mapring__lease_ended(held + reader, mapring__load(leases + reader))) {
			mapring__and(words + MAPRING__REQUIRED, ~bit);
			continue;
		}
		if (behind > most)
			most = behind;
	}
	/* SYNC read: the loads of positions come before the stores of claims that they allow, which depend on them. */
	return t - most;
}

/*
 * The limit: no ticket from this one on may be claimed, because its slot holds a record that a required reader has not
 * read. Stores it in `word`. `t` is the next ticket to be claimed.
 *
 * It is never more than a lap after t. So a reader that becomes required, and does not find ticket t claimed after its
 * fence, is not overrun by programs that have not seen it: they claim tickets before `t + slots`.
 */
static __always_inline __u64 mapring__limit(void *readers, __u64 *word, __u64 t, __u64 slots)
{
	__u64 limit;

	if (!word)
		return t;
	limit = mapring__oldest(readers, t, slots) + slots;
	mapring__store(word, limit);
	return limit;
}

#endif
