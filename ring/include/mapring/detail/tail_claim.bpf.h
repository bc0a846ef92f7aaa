/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Claims the bytes of tails, for every ring that has tails. ring/core/src/protocol/ring/tails.rs has the unguarded claim in
 * Rust, and says why this is correct.
 */
#ifndef MAPRING_TAIL_CLAIM_BPF_H
#define MAPRING_TAIL_CLAIM_BPF_H

#include <mapring/detail/claim.bpf.h>

/* A word of the shard's header, which is right before that for tails: records dropped because of a required reader. */
#define MAPRING__TAIL_FULL (MAPRING__FULL - (int)MAPRING__LINE / 8)
/* Words of both headers together. The slots follow. */
#define MAPRING__TAIL_SLOTS ((int)MAPRING__LINE / 8 + MAPRING__TAIL_ACTIVE + MAPRING__TAIL_WRITERS)
/* Set in entry 0 while its program moves NEXT by plain stores, in the guard. */
#define MAPRING__TAIL_MOVING 2ULL
/* Set in an entry whose position is about to change. Nobody steps over it then. */
#define MAPRING__TAIL_ENTERS 4ULL
/* No claim. Otherwise a claim is a position, with the number of its entry in the low bits. */
#define MAPRING__TAIL_NONE ~0ULL
/* How often a program tries to move a word that others move. */
#define MAPRING__TAIL_TRIES 4

/* The tails of one shard. */
struct mapring__tails {
	__u64 *header;
	__u32 space;    /* the bytes that a claim takes */
	__u64 capacity; /* the bytes of the area */
};

/* The place of a position in the area: from there, the longest tail is still in the area. */
static __always_inline __u64 mapring__tail_place(__u64 at, __u64 capacity)
{
	asm volatile("" : "+r"(at)); /* the mask must be right before the use */
	return at & (capacity - MAPRING__TAIL_ALIGN);
}

/* Whether position `a` comes after position `b`. */
static __always_inline int mapring__after(__u64 a, __u64 b)
{
	return (__s64)(a - b) > 0;
}

/* Counts a drop in this word. */
static __always_inline void mapring__tail_drop(struct mapring__tails tails, int word)
{
	mapring__time_drop(0, MAPRING__LINE, tails.header - MAPRING__LINE / 8, 0);
	mapring__count(tails.header + word, 1);
}

/* The bytes of the area that a tail of `len` bytes takes. */
static __always_inline __u64 mapring__tail_used(__u64 len)
{
	return (len + MAPRING__TAIL_ALIGN - 1) & -MAPRING__TAIL_ALIGN;
}

/* Gives back the end of a claim at `at`, of which `used` bytes are in use, unless others have claimed since. */
static __always_inline void mapring__tail_give_back(struct mapring__tails tails, __u64 at, __u64 used)
{
	mapring__cmpxchg(&tails.header[MAPRING__TAIL_NEXT], at + tails.space, at + used);
}

/* Ends a claim of which `len` bytes are in use. From now on other programs may overwrite them. */
static __always_inline void mapring__tail_end(struct mapring__tails tails, __u64 claim, __u64 len)
{
	__u64 *active = tails.header + MAPRING__TAIL_ACTIVE, entry = claim & (MAPRING__TAIL_WRITERS - 1);

	/* First this: NEXT should not go back to a position that others have overtaken since the program left its entry. */
	mapring__tail_give_back(tails, claim & -MAPRING__TAIL_ALIGN, mapring__tail_used(len));
	/* SYNC give back: the record and its tail come before this; a program that then overwrites them comes after. */
	/* Opaque: clang knows which entries there are, and would leave out the mask, which the verifier needs. */
	asm volatile("" : "+r"(entry));
	mapring__publish(active + (entry & (MAPRING__TAIL_WRITERS - 1)), 0);
}

/* The same for entry 0 by plain stores, in the guard, with the mark as in mapring__tail_guarded. */
static __always_inline void mapring__tail_end_guarded(struct mapring__tails tails, __u64 at, __u64 len)
{
	__u64 *next = &tails.header[MAPRING__TAIL_NEXT], *active = tails.header + MAPRING__TAIL_ACTIVE;

	mapring__store(active, (at + 1) | MAPRING__TAIL_MOVING);
	if (mapring__load(next) == at + tails.space) {
		MAPRING__IN_CLAIM;
		mapring__store(next, at + mapring__tail_used(len));
	}
	mapring__store(active, 0);
}

/*
 * Claims a position and entry 0 by plain stores, in the guard, if nothing is in the way; else returns MAPRING__TAIL_NONE.
 * A program that interrupts this one before the mark may move NEXT, so NEXT is loaded after it. Such a program has ended
 * its tail by then. One that comes after the mark claims a position beside NEXT.
 */
static __always_inline __u64 mapring__tail_guarded(struct mapring__tails tails)
{
	__u64 *header = tails.header, *next = header + MAPRING__TAIL_NEXT, *active = header + MAPRING__TAIL_ACTIVE, at;

	if (mapring__load(active))
		return MAPRING__TAIL_NONE;
	mapring__store(active, (mapring__load(next) + 1) | MAPRING__TAIL_MOVING);
	at = mapring__load(next) & -MAPRING__TAIL_ALIGN;
	/* BESIDE last: an interrupting program that steps over something moves it before GRANTED. */
	if (mapring__after(mapring__load(header + MAPRING__TAIL_HIGH), at + tails.capacity) ||
	    mapring__after(at + tails.space, mapring__load(header + MAPRING__TAIL_GRANTED)) ||
	    mapring__after(mapring__load(header + MAPRING__TAIL_BESIDE), at)) {
		mapring__store(active, 0);
		return MAPRING__TAIL_NONE;
	}
	MAPRING__IN_CLAIM;
	mapring__store(next, at + tails.space);
	mapring__store(active, at + 1);
	return at;
}

/* Moves a word to `to`, unless it is there or beyond. A full barrier if it moves the word. */
static __always_inline int mapring__tail_raise(__u64 *word, __u64 to)
{
	for (__u32 i = 0; i < MAPRING__TAIL_TRIES; i++) {
		__u64 seen = mapring__load(word);

		if (!mapring__after(to, seen) || mapring__cmpxchg(word, seen, to) == seen)
			return 1;
	}
	return 0;
}

/*
 * Looks for the bytes of programs between reserve and commit, around the claim at `at`. The high half of what it returns is how
 * far behind `at` others can be granted, or 0 if a program is in the way that is about to change its position. The low half is 0,
 * or how far behind the position one round before `at` those are that were claimed a round ago or more.
 */
static __always_inline __u64 mapring__tail_way(struct mapring__tails tails, __u64 at)
{
	__u64 end = at + tails.space, limit = end + tails.space + tails.capacity / 8, clear = at - tails.capacity;

	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS; i++) {
		__u64 other = mapring__load(tails.header + MAPRING__TAIL_ACTIVE + i), last = other & -MAPRING__TAIL_ALIGN, rounds;

		if (!other || !mapring__after(limit, last + tails.capacity))
			continue;
		/* Where its bytes come for the last time before the end of this claim. */
		rounds = (end - last - 1) & -tails.capacity;
		if (rounds && (other & (MAPRING__TAIL_MOVING | MAPRING__TAIL_ENTERS)))
			return 0;
		last += rounds;
		if (rounds && mapring__after(last + tails.space, clear))
			clear = last + tails.space;
		if (mapring__after(limit, last + tails.capacity))
			limit = last + tails.capacity;
	}
	return (limit - at) << 32 | (__u32)(clear - (at - tails.capacity));
}

/* The place of a program's bytes that comes last before HIGH. */
static __always_inline __u64 mapring__tail_last(struct mapring__tails tails, __u64 at)
{
	__u64 high = mapring__load(tails.header + MAPRING__TAIL_HIGH);

	return mapring__after(high, at + tails.capacity) ? at + ((high - at - 1) & -tails.capacity) : at;
}

/*
 * Claims a position, not before `entered`, which the program has entered. A program that interrupts another one which is
 * moving NEXT leaves NEXT alone, and claims beyond what the other may claim: beside NEXT. Positions from NEXT are later than
 * those.
 */
static __always_inline int mapring__tail_position(struct mapring__tails tails, __u64 entered, __u64 *at)
{
	__u64 *next = &tails.header[MAPRING__TAIL_NEXT], *beside = &tails.header[MAPRING__TAIL_BESIDE];
	__u64 *active = tails.header + MAPRING__TAIL_ACTIVE, seen, from;

	for (__u32 i = 0; i < MAPRING__TAIL_TRIES; i++) {
		seen = mapring__load(beside);
		from = mapring__load(next);
		if (mapring__load(active) & MAPRING__TAIL_MOVING) {
			*at = from + tails.space;
			if (mapring__after(seen, *at))
				*at = seen;
			if (mapring__cmpxchg(beside, seen, *at + tails.space) == seen)
				return 1;
		} else {
			if (mapring__after(seen, from))
				mapring__cmpxchg(next, from, seen);
			*at = mapring__fetch_add(next, tails.space);
			/* NEXT goes back where others give back. */
			if (!mapring__after(mapring__load(beside), *at) && !mapring__after(entered, *at))
				return 1;
		}
	}
	return 0;
}

/*
 * Whether tails before `to` would overwrite what a required reader has not read. Advances READ.
 *
 * MARK has a position, in units of 16 bytes, and a ticket, 32 bits of each: all records with tails before the position have
 * tickets before this one. Once all readers have read those, READ goes to the position, and MARK to the earliest position
 * of a program between reserve and commit, and after the newest ticket that has ended. (This is right because programs enter
 * a position before they claim a later one, and end their tickets before they leave.) MARK stays until it has been read. So
 * a reader that is always u bytes behind leaves 2u, and up to two eighths of the area, that programs can't overwrite.
 */
static __always_inline int mapring__tail_unread(struct mapring__tails tails, void *readers, __u64 to)
{
	__u64 *header = tails.header, *active = header + MAPRING__TAIL_ACTIVE;
	__u64 read = mapring__load(header + MAPRING__TAIL_READ), mark = mapring__load(header + MAPRING__TAIL_MARK);
	__u64 marked = read + (__s64)(__s32)((mark >> 32) - (read >> 4)) * (__s64)MAPRING__TAIL_ALIGN;
	__u64 first = to, ended, since, within, behind;

	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS; i++) {
		__u64 other = mapring__load(active + i), at = other & -MAPRING__TAIL_ALIGN;

		if (!(other & (MAPRING__TAIL_MOVING | MAPRING__TAIL_ENTERS)))
			at = mapring__tail_last(tails, at);
		if (other && mapring__after(first, at))
			first = at;
	}
	/* After the programs above have left, and after the mark, which may be moved meanwhile: so it is not before that. */
	ended = mapring__load(header + MAPRING__TAIL_ENDED);
	since = (__u32)(ended - mark); /* or more */
	/* The tickets that may be unread: any, those since the mark, or none. */
	within = !mapring__after(to, read + tails.capacity)   ? ~0ULL :
		 !mapring__after(to, marked + tails.capacity) ? since + 1 :
								1;
	behind = ended - mapring__oldest(readers, ended, within);
	if (behind <= since) {
		if (mapring__after(marked, read))
			read = marked;
		if (!behind && mapring__after(first, read))
			read = first;
		mapring__store(header + MAPRING__TAIL_READ, read);
		mapring__store(header + MAPRING__TAIL_MARK, first >> 4 << 32 | (__u32)ended);
	}
	/* If all is read, a program is in the way. */
	return behind && mapring__after(to, read + tails.capacity);
}

/* Before a program leaves its entry, of a ring that keeps its oldest records: ticket `t` has ended. */
static __always_inline void mapring__tail_ended(struct mapring__tails tails, __u64 t)
{
	__u64 *ended = tails.header + MAPRING__TAIL_ENDED;

	/* It fails only if a program with an earlier ticket ends: so many can be in their tails. */
	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS; i++) {
		__u64 seen = mapring__load(ended);

		if (!mapring__after(t + 1, seen) || mapring__cmpxchg(ended, seen, t + 1) == seen)
			return;
	}
}

/*
 * Where readers will find the tail of a record that ends now. If others have stepped over its bytes, these have a later position,
 * too, and nobody steps over them until the program has left its entry.
 */
static __always_inline __u64 mapring__tail_ends_at(struct mapring__tails tails, __u64 claim)
{
	__u64 entry = claim & (MAPRING__TAIL_WRITERS - 1), at = claim & -MAPRING__TAIL_ALIGN;

	if (!mapring__after(mapring__load(tails.header + MAPRING__TAIL_HIGH), at + tails.capacity))
		return at;
	asm volatile("" : "+r"(entry));
	mapring__store(tails.header + MAPRING__TAIL_ACTIVE + (entry & (MAPRING__TAIL_WRITERS - 1)),
		       (at + 1) | MAPRING__TAIL_ENTERS);
	return mapring__tail_last(tails, at);
}

/*
 * The slow path: returns the position and the entry, or MAPRING__TAIL_NONE after it counted the drop. `way` and `unread` are
 * mapring__tail_way and mapring__tail_unread in functions of their own, because the verifier multiplies loops. `unread` may be
 * NULL.
 */
static __always_inline __u64 mapring__tail_search(struct mapring__tails tails, __u64 (*way)(__u64 at), int (*unread)(__u64 to))
{
	__u64 *header = tails.header, *active = header + MAPRING__TAIL_ACTIVE, step = tails.capacity / 8;
	__u64 from = mapring__load(header + MAPRING__TAIL_NEXT), at, to, ways, clear, kept = 0;
	int cause = MAPRING__TAIL_NO_SPACE, steps;
	__s64 entry = -1;

	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS && entry < 0; i++)
		if (!mapring__load(active + i) &&
		    mapring__cmpxchg(active + i, 0, (from + 1) | MAPRING__TAIL_ENTERS) == 0)
			entry = i;
	if (entry < 0)
		goto dropped;
	for (__u32 i = 0; i < MAPRING__TAIL_TRIES; i++) {
		if (!mapring__tail_position(tails, from, &at)) {
			mapring__store(active + entry, 0);
			goto dropped;
		}
		mapring__store(active + entry, at + 1);
		if (mapring__after(mapring__load(header + MAPRING__TAIL_HIGH), at + tails.capacity)) {
			kept = tails.space; /* otherwise the next claim would be overtaken, too, and all after it */
			goto end;
		}
		if (mapring__after(at + tails.space, mapring__load(header + MAPRING__TAIL_GRANTED))) {
			/* No program may be in the bytes that will be overwritten. One that enters later is behind this one. */
			ways = way(at);
			if (!ways)
				goto end;
			clear = at - tails.capacity + (__u32)ways;
			/* Over bytes that this claim overlaps, or up to the next step. */
			steps = mapring__after(clear, at);
			to = steps ? clear : (at + tails.space + step - 1) & -step;
			if (to - at > ways >> 32)
				to = at + (ways >> 32);
			if (unread && unread(to)) {
				cause = MAPRING__TAIL_FULL;
				goto end;
			}
			if ((steps && !mapring__tail_raise(header + MAPRING__TAIL_BESIDE, to)) ||
			    ((__u32)ways && !mapring__tail_raise(header + MAPRING__TAIL_STEPPED, steps ? to : clear)) ||
			    !mapring__tail_raise(header + MAPRING__TAIL_HIGH, to) ||
			    !mapring__tail_raise(header + MAPRING__TAIL_GRANTED, to))
				goto end;
		}
		/* After GRANTED: what moved that moved this before. */
		if (!mapring__after(mapring__load(header + MAPRING__TAIL_STEPPED), at))
			return at | entry;
		mapring__store(active + entry, (at + 1) | MAPRING__TAIL_ENTERS);
		kept = tails.space;
	}
end:
	mapring__tail_end(tails, at | entry, kept);
dropped:
	mapring__tail_drop(tails, cause);
	return MAPRING__TAIL_NONE;
}

#endif
