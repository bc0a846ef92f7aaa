/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads shards step by step, and merges them in the order of their records' stamps.
 *
 * A program stamps a record after it has claimed its ticket. So a ticket that is claimed after the reader read the clock has a
 * later stamp. Of any nine tickets of a shard before one that was not read yet, one was stamped before that one was claimed, unless
 * more than eight programs of that CPU were between claim and stamp at the same time. So while a shard has more to read, the
 * reader holds more than that many of its records, sorted by stamp: the ninth from the end is not later than any that follows
 * (ring/core/src/protocol/ring/merge has the whole argument). */
#ifndef MAPRING_C_MERGE_H
#define MAPRING_C_MERGE_H

enum { MAPRING__OPEN = 8, MAPRING__HELD_MOST = 64 };
/* How long a claim may take to become visible after its program read the clock, in nanoseconds. */
enum { MAPRING__SETTLE = 10000 };

/* The stamp of a record. */
typedef uint64_t (*mapring_stamp_fn)(const void *record);

/* A record that was read and not delivered yet. */
struct mapring__held {
	uint64_t stamp, ticket;
	uint64_t *record;
};

/* The records that are held of a shard, sorted by stamp. */
struct mapring__run {
	struct mapring__held held[MAPRING__HELD_MOST];
	uint32_t count;
	bool done;
	/* No record that was not read yet has an earlier stamp. */
	uint64_t floor;
};

struct mapring__merge {
	mapring_stamp_fn stamp;
	clockid_t clock;
	uint64_t delay, now, limit, last;
	uint64_t late, ahead;
	bool in_use; /* no later record can be in another ring */
	struct mapring__run *runs;
	uint64_t *memory;
	uint32_t count;
};

enum mapring__took { MAPRING__NO_RECORD, MAPRING__NO_RECORD_YET, MAPRING__TOOK };

/* One step: copies the next record, or passes a ticket, or finds none yet. Takes a few dozen loads at most. */
static inline enum mapring__took mapring__take(struct mapring__shard *s, uint64_t *record)
{
	struct mapring_region *r = s->region;
	uint64_t words = mapring__words_of(r->layout.record), seen;

	if (r->words) {
		const uint64_t *slot = r->words + mapring__slot_at(s, s->next);

		seen = mapring__load(slot);
		if (seen == mapring__ended(s, s->next)) {
			mapring__fence_acquire(); /* SYNC publish: pairs with the end of the ticket */
			mapring__copy(record, slot + 1, words);
			mapring__fence_acquire(); /* SYNC claim: pairs with the claim of a later ticket */
			if (mapring__load(slot) == seen) {
				mapring__passed(s, &s->stats.delivered, 1);
				return MAPRING__TOOK;
			}
			s->stats.torn++;
			return MAPRING__NO_RECORD_YET;
		}
	} else if (mapring__take_by_call(s, record, words, &seen)) {
		mapring__passed(s, &s->stats.delivered, 1);
		return MAPRING__TOOK;
	}
	return mapring__pass(s, seen) == MAPRING__MOVED ? MAPRING__NO_RECORD_YET : MAPRING__NO_RECORD;
}

/* Copies the tail of a record that was taken. If it was overwritten, the record is lost. */
static inline bool mapring__take_tail(struct mapring__shard *s, uint64_t *record)
{
	if (!(s->region->layout.options & MAPRING_OPTION_TAILS) || mapring__copy_tail(s, record))
		return true;
	s->stats.delivered--;
	s->stats.tail_lost++;
	return false;
}

static inline void mapring__merge_free(struct mapring__merge *m)
{
	if (m) {
		free(m->runs);
		free(m->memory);
		free(m);
	}
}

/* A merge of `count` shards whose records have `words` words. */
static inline struct mapring__merge *mapring__merge_new(uint32_t count, uint64_t words)
{
	struct mapring__merge *m = (struct mapring__merge *)calloc(1, sizeof(*m));
	uint64_t *at;

	if (!m)
		return NULL;
	m->runs = (struct mapring__run *)calloc(count, sizeof(*m->runs));
	m->memory = (uint64_t *)calloc((size_t)count * MAPRING__HELD_MOST, words * 8);
	m->count = count;
	if (!m->runs || !m->memory) {
		mapring__merge_free(m);
		return NULL;
	}
	at = m->memory;
	for (uint32_t i = 0; i < count; i++)
		for (int h = 0; h < MAPRING__HELD_MOST; h++, at += words)
			m->runs[i].held[h].record = at;
	return m;
}

/* Puts the record at `held[count]` in its place. */
static inline void mapring__sort_in(struct mapring__run *run)
{
	struct mapring__held record = run->held[run->count];
	uint32_t to = run->count++;

	for (; to > 0 && run->held[to - 1].stamp > record.stamp; to--)
		run->held[to] = run->held[to - 1];
	run->held[to] = record;
}

/* Reads on in a shard. `budget` bounds the steps without a record. */
static inline void mapring__fill(struct mapring__merge *m, struct mapring__run *run, struct mapring__shard *s, uint64_t prefix,
				 uint32_t *budget)
{
	bool end = false;

	run->done = true;
	while (*budget > 0) {
		struct mapring__held *free_place = &run->held[run->count];
		enum mapring__took took;

		if (run->count == MAPRING__HELD_MOST) {
			run->done = false;
			break;
		}
		end = mapring__nothing_claimed(s) && !s->region->failed;
		if (end || s->region->failed)
			break;
		took = mapring__take(s, free_place->record);
		if (took == MAPRING__TOOK) {
			free_place->ticket = s->next - 1;
			free_place->stamp = mapring__least(m->stamp(free_place->record + prefix), MAPRING__NONE - 1);
			mapring__sort_in(run);
			continue;
		}
		--*budget;
		if (took == MAPRING__NO_RECORD) {
			end = mapring__nothing_claimed(s) && !s->region->failed;
			break;
		}
	}
	if (run->count > MAPRING__OPEN)
		run->floor = mapring__most(run->floor, run->held[run->count - MAPRING__OPEN - 1].stamp);
	if (end && m->in_use)
		run->floor = mapring__most(run->floor, m->now - MAPRING__SETTLE);
	else if (run->done)
		m->limit = mapring__least(m->limit, mapring__most(run->floor, m->now - mapring__least(m->delay, m->now)));
}

/* Begins a round: what was claimed before it can be delivered in it. */
static inline void mapring__round(struct mapring__merge *m, bool in_use)
{
	m->now = mapring__most(m->now, mapring__clock(m->clock));
	mapring__fence_full(); /* SYNC clock: the clock is read before the ends of the shards */
	m->limit = m->now - MAPRING__SETTLE;
	m->in_use = in_use;
	for (uint32_t i = 0; i < m->count; i++) {
		struct mapring__run *run = &m->runs[i];

		run->done = false;
		/* Programs that use another clock: delivered soon. */
		for (uint32_t at = run->count; at > 0 && run->held[at - 1].stamp > m->now + MAPRING__SETTLE; at--) {
			run->held[at - 1].stamp = m->now + MAPRING__SETTLE;
			m->ahead++;
		}
	}
}

/* The shard whose first record is the next one, and can be delivered; -1 if there is none. */
static inline int64_t mapring__next_shard(struct mapring__merge *m, struct mapring__shard *shards, uint64_t prefix,
					  uint32_t *budget)
{
	uint64_t first = MAPRING__NONE;
	int64_t found = -1;

	for (uint32_t i = 0; i < m->count; i++) {
		struct mapring__run *run = &m->runs[i];

		if (!run->done && run->count <= MAPRING__OPEN + 1)
			mapring__fill(m, run, &shards[i], prefix, budget);
		if (run->count > 0 && run->held[0].stamp < first) {
			first = run->held[0].stamp;
			found = i;
		}
	}
	return first < m->limit ? found : -1;
}

/* Takes the first record of a shard. It stays valid until the next call. */
static inline struct mapring__held mapring__take_first(struct mapring__merge *m, uint32_t shard)
{
	struct mapring__run *run = &m->runs[shard];
	struct mapring__held first = run->held[0];

	memmove(run->held, run->held + 1, (size_t)(run->count - 1) * sizeof(first));
	run->count--;
	/* The next record that is read may take its memory, but none is read before this one was delivered. */
	run->held[run->count].record = first.record;
	m->late += first.stamp < m->last;
	m->last = mapring__most(m->last, first.stamp);
	return first;
}

#endif
