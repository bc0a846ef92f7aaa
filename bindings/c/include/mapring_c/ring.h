/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Steps of a reader in one shard of a ring: docs/abi.md, "Reading a ring" and "Rings with tails". */
#ifndef MAPRING_C_RING_H
#define MAPRING_C_RING_H

#define MAPRING__NONE (~0ULL)

/* A shard without a record checks later tickets in one of so many steps. */
enum { MAPRING__CHECK_EVERY = 16 };

/* What a reader passed and what writers dropped, in all shards. Tickets passed: delivered + lapped + skipped + tail_lost +
 * discarded + stepped_over. */
struct mapring_stats {
	uint64_t delivered;
	/* Lost: overwritten before they were read; not ended in time; tail overwritten. */
	uint64_t lapped, skipped, tail_lost;
	/* Not lost: discarded by programs; slots that writers stepped over; copies that were overwritten and thrown away. */
	uint64_t discarded, stepped_over, torn;
	/* Dropped by programs: no free slot; a required reader was behind; no space for the tail; tail too long; no shard. */
	uint64_t no_slot, full, no_tail, too_long, no_shard;
	/* Of a merged reader: delivered after a later stamp; stamps beyond the clock. */
	uint64_t late, ahead;
	/* Rings that were read: more than 1 if the ring was resized. */
	uint64_t rings;
};

/* A shard that is read: where it is, how far it was read, and the counts. */
struct mapring__shard {
	struct mapring_region *region;
	uint64_t header, slots, tails, area; /* words from the region's start */
	uint64_t next, patience;
	uint64_t since, upto; /* when a wait for tickets up to this one began */
	uint32_t bits;        /* log2 of the slots */
	uint32_t number;
	uint32_t idle;        /* steps without a record */
	bool waits;
	struct mapring_stats stats;
};

/* What came of a ticket that has no record to deliver. */
enum mapring__step { MAPRING__EMPTY, MAPRING__MOVED };

/* What a reader that waits would find. */
enum mapring__unread { MAPRING__NOTHING, MAPRING__HELD, MAPRING__SOME, MAPRING__MANY };

MAPRING__FAST uint64_t mapring__slots(const struct mapring__shard *s)
{
	return 1ULL << s->bits;
}

MAPRING__FAST uint64_t mapring__slot(const struct mapring__shard *s, uint64_t t)
{
	return t & (mapring__slots(s) - 1);
}

MAPRING__FAST uint64_t mapring__state(uint64_t seq)
{
	return seq & ~MAPRING__DISCARDED;
}

/* The states of the slot of `t`: free for it, being written, ended. */
MAPRING__FAST uint64_t mapring__free_for(const struct mapring__shard *s, uint64_t t)
{
	return (t >> s->bits) * 2;
}

MAPRING__FAST uint64_t mapring__writing(const struct mapring__shard *s, uint64_t t)
{
	return mapring__free_for(s, t) + 1;
}

MAPRING__FAST uint64_t mapring__ended(const struct mapring__shard *s, uint64_t t)
{
	return mapring__free_for(s, t) + 2;
}

/* The ticket that set the slot of `t` to this state, which is not 0. */
MAPRING__FAST uint64_t mapring__taken(const struct mapring__shard *s, uint64_t state, uint64_t t)
{
	return ((state - 1) >> 1 << s->bits) + mapring__slot(s, t);
}

/* Words from the region's start to the slot of `t`. */
MAPRING__FAST uint64_t mapring__slot_at(const struct mapring__shard *s, uint64_t t)
{
	return s->slots + mapring__slot(s, t) * (s->region->layout.slot / 8);
}

static inline uint64_t mapring__seq(const struct mapring__shard *s, uint64_t t)
{
	return mapring__word(s->region, 0, mapring__slot_at(s, t));
}

static inline uint64_t mapring__head(const struct mapring__shard *s)
{
	return mapring__word(s->region, 0, s->header + MAPRING__HEAD);
}

/* The last ticket according to the hint in `head`, which may be wrong. */
static inline uint64_t mapring__hint(const struct mapring__shard *s)
{
	return (mapring__head(s) & ~MAPRING__PENDING) - 1;
}

/* The last claimed ticket, searched from `t` if `head` is wrong. Returns false if there is none. */
MAPRING__COLD bool mapring__last_taken(const struct mapring__shard *s, uint64_t t, uint64_t *last)
{
	uint64_t from = mapring__hint(s), found;

	mapring__fence_acquire(); /* SYNC order: a guarded claim that stored this `head` has claimed its slot before */
	found = mapring__state(mapring__seq(s, from));
	if (found != mapring__writing(s, from) && found != mapring__ended(s, from)) {
		found = mapring__state(mapring__seq(s, t));
		if (found == 0)
			return false;
		from = mapring__taken(s, found, t);
	}
	for (int twice = 0; twice < 2; twice++) {
		uint64_t step, behind = 0;

		/* All tickets between `from` and the end are claimed. */
		for (uint64_t bit = mapring__slots(s) / 2; bit; bit /= 2)
			if (mapring__state(mapring__seq(s, from + bit)) > mapring__free_for(s, from + bit))
				from += bit;
		/* Except tickets whose slots were stepped over. */
		for (step = 1; step <= mapring__least(MAPRING__TRIES, mapring__slots(s)) && !behind; step++) {
			found = mapring__state(mapring__seq(s, from + step));
			if (found > mapring__free_for(s, from + step))
				behind = step;
		}
		if (!behind)
			break;
		from = mapring__taken(s, found, from + behind);
	}
	*last = from;
	return true;
}

/* The distance from `t` to a later ticket that has ended; NONE if none is found. */
static inline uint64_t mapring__later(const struct mapring__shard *s, uint64_t t)
{
	uint64_t near = mapring__least(MAPRING__TRIES, mapring__slots(s) - 1), u = mapring__hint(s), found;

	for (uint64_t step = 0; step <= near; step++) {
		if (step > 0)
			u = t + step;
		if (!mapring__after(u, t))
			continue;
		found = mapring__state(mapring__seq(s, u));
		if (!mapring__after(mapring__ended(s, u), found))
			return mapring__taken(s, found, u) - t;
	}
	return MAPRING__NONE;
}

/* The ticket to continue from after `t`, whose slot was in a state of a later lap. */
static inline uint64_t mapring__oldest(const struct mapring__shard *s, uint64_t t, uint64_t found)
{
	uint64_t last, to;

	if (!mapring__last_taken(s, mapring__taken(s, found, t), &last))
		last = t;
	to = last + 1 - (mapring__slots(s) - mapring__slots(s) / 8);
	return mapring__after(to, t) ? to : t + 1;
}

/* Whether a writer may still end a ticket that has not ended: it is being written, or its slot is free and a guarded claim is
 * under way. Only if the slot is still the same afterwards, `false` is certain. */
static inline bool mapring__may_end(const struct mapring__shard *s, uint64_t t, uint64_t seen)
{
	bool may = seen & 1 ? mapring__state(seen) == mapring__writing(s, t) : (mapring__head(s) & MAPRING__PENDING) != 0;

	mapring__fence_acquire(); /* SYNC order: a guarded claim that has ended has claimed its slot before */
	return may;
}

/* Whether the wait for the next ticket is over. It began with the first call for this ticket, or for an earlier one if this one
 * was already claimed then; `upto` is known to be claimed. */
static inline bool mapring__has_waited(struct mapring__shard *s, uint64_t upto)
{
	uint64_t now = mapring__now();

	if (!s->waits || mapring__after(s->next, s->upto)) {
		s->waits = true;
		s->since = now;
		s->upto = upto;
	}
	return now - s->since >= s->patience;
}

static inline enum mapring__step mapring__passed(struct mapring__shard *s, uint64_t *count, uint64_t tickets)
{
	*count += tickets;
	s->next += tickets;
	s->idle = 0;
	return MAPRING__MOVED;
}

/* A step at a ticket whose slot has the sequence `seen`, which is not that of a record. */
MAPRING__COLD enum mapring__step mapring__pass(struct mapring__shard *s, uint64_t seen)
{
	uint64_t t = s->next, ended = mapring__ended(s, t), gap, to;
	bool may, crowded;

	if (s->region->failed)
		return MAPRING__EMPTY;
	if (seen == ended)
		return MAPRING__MOVED;
	if (seen == (ended | MAPRING__DISCARDED))
		return mapring__passed(s, &s->stats.discarded, 1);
	if (mapring__after(mapring__state(seen), ended)) {
		to = mapring__oldest(s, t, mapring__state(seen));
		return s->region->failed ? MAPRING__EMPTY : mapring__passed(s, &s->stats.lapped, to - t);
	}

	/* Being written, or never claimed: does a later ticket exist? */
	if (++s->idle % MAPRING__CHECK_EVERY != 0 && s->patience != 0)
		return MAPRING__EMPTY;
	gap = mapring__later(s, t);
	if (s->region->failed || gap == MAPRING__NONE)
		return MAPRING__EMPTY;
	mapring__fence_acquire(); /* SYNC order: pairs with the store that ended the later ticket */
	may = mapring__may_end(s, t, seen);
	if (mapring__seq(s, t) != seen || s->region->failed)
		return s->region->failed ? MAPRING__EMPTY : MAPRING__MOVED;
	crowded = gap >= mapring__slots(s) - mapring__slots(s) / 4;
	if (may && !crowded && !mapring__has_waited(s, t + gap))
		return MAPRING__EMPTY;
	/* It is lost only if a writer has it. There may be more that this reader has waited for. */
	mapring__passed(s, may ? &s->stats.skipped : &s->stats.stepped_over, 1);
	s->idle = MAPRING__CHECK_EVERY - 1;
	return MAPRING__MOVED;
}

/* Copies the tail of a copied record behind it. Returns whether it was there until then. */
static inline bool mapring__copy_tail(const struct mapring__shard *s, uint64_t *record)
{
	const struct mapring_layout *l = &s->region->layout;
	const uint64_t *tails = s->region->words + s->tails, *area = s->region->words + s->area;
	uint64_t at = record[0], length = record[1];

	if (length > l->longest)
		return false;
	mapring__copy(record + mapring__words_of(l->record), area + ((at & (l->area - 1)) & ~15ULL) / 8,
		      mapring__words_of(length));
	mapring__fence_acquire(); /* SYNC overwrite: pairs with the claim of a later tail's slot */
	return mapring__load(tails + MAPRING__TAIL_HIGH) - at <= l->area;
}

/* Copies the record of the next ticket by system call. Returns false, with the sequence if it has none. */
MAPRING__COLD bool mapring__take_by_call(struct mapring__shard *s, uint64_t *record, uint64_t words, uint64_t *seen)
{
	struct mapring_region *r = s->region;
	uint64_t ended = mapring__ended(s, s->next);

	if (!mapring__look(r, mapring__slot_at(s, s->next) / r->size))
		return false;
	*seen = mapring__median(r, 0, 0);
	if (r->lookups[0][0] != ended || r->lookups[2][0] != ended) {
		s->stats.torn += *seen == ended;
		return false;
	}
	memcpy(record, r->lookups[1] + 1, words * 8);
	return true;
}

/* What the next steps would find, if they checked later tickets too. `many`, at least 1, is a watermark. */
static inline enum mapring__unread mapring__unread(struct mapring__shard *s, uint64_t last)
{
	uint64_t t = s->next, seen = mapring__seq(s, t), ended = mapring__ended(s, t), gap;

	if (s->region->failed || mapring__after(mapring__state(seen), ended))
		return MAPRING__MANY; /* a whole lap, or an error to report */
	if (mapring__state(seen) == ended) {
		bool all = last == t || !mapring__after(mapring__ended(s, last), mapring__state(mapring__seq(s, last)));

		return all ? MAPRING__MANY : MAPRING__SOME;
	}
	gap = mapring__later(s, t);
	if (gap == MAPRING__NONE)
		return MAPRING__NOTHING;
	s->idle = MAPRING__CHECK_EVERY - 1;
	if (mapring__may_end(s, t, seen) && gap < mapring__slots(s) - mapring__slots(s) / 4 && !mapring__has_waited(s, t + gap))
		return MAPRING__HELD;
	return MAPRING__MANY;
}

/* Whether no ticket from the next one on was claimed when this call began. */
static inline bool mapring__nothing_claimed(struct mapring__shard *s)
{
	uint64_t t = s->next, last;

	if (mapring__after(mapring__state(mapring__seq(s, t)), mapring__free_for(s, t)))
		return false;
	/* A guarded claim that was interrupted between `head` and the slot leaves a free slot before later tickets. */
	return !mapring__after(mapring__head(s) & ~MAPRING__PENDING, t) || !mapring__last_taken(s, t, &last) ||
	       mapring__after(t, last);
}

/* For a ring that was replaced, after a step without a record: whether the shard was read to its end. Passes a ticket that is
 * being written, or was never claimed, after it has waited for it. */
static inline bool mapring__is_finished(struct mapring__shard *s)
{
	uint64_t t = s->next, last = t, seen = mapring__seq(s, t);
	bool is_written = mapring__state(seen) == mapring__writing(s, t), none;

	if (s->region->failed || !mapring__after(mapring__ended(s, t), mapring__state(seen)))
		return false; /* it has ended in the meantime */
	none = !mapring__last_taken(s, t, &last) || mapring__after(t, last);
	if (s->region->failed)
		return false;
	if (!is_written && none)
		return true;
	mapring__fence_acquire(); /* SYNC order: as for any ticket that is passed */
	if (mapring__has_waited(s, none ? t : last) && mapring__seq(s, t) == seen && !s->region->failed)
		mapring__passed(s, is_written ? &s->stats.skipped : &s->stats.stepped_over, 1);
	return false;
}

/* Starts to read a shard of an open region. */
static inline void mapring__shard_open(struct mapring__shard *s, struct mapring_region *region, uint64_t shard, int start)
{
	const struct mapring_layout *l = &region->layout;
	uint64_t last;

	s->region = region;
	s->header = mapring__header_at(l, shard);
	s->slots = mapring__slots_at(l, shard);
	s->tails = mapring__tails_at(l, shard);
	s->area = mapring__area_at(l, shard);
	s->bits = (uint32_t)__builtin_ctzll(l->capacity);
	s->next = s->idle = 0;
	s->waits = false;
	if (start == 1 /* first */ || !mapring__last_taken(s, 0, &last))
		return;
	s->next = last + 1;
	if (start == 0 /* oldest */)
		s->next = last + 1 > mapring__slots(s) ? last + 1 - mapring__slots(s) : 0;
}

#endif
