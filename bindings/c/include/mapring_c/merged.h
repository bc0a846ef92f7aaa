/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Merges the records of several rings in the order of their stamps.
 *
 * Each ring has a reader that merges its shards. The one with the earliest stamp has its turn, unless another one may still get an
 * earlier one. Then that one begins a round, once in a call. */
#ifndef MAPRING_C_MERGED_H
#define MAPRING_C_MERGED_H

/* A ring with its next record. */
struct mapring__turn {
	struct mapring_reader *reader;
	mapring_event_fn fn;
	void *context;
	int64_t at;     /* the record's shard, or -1: there is none for now */
	uint64_t bound; /* its stamp; or if there is none, no earlier one can come */
	long count;     /* records of this call */
	uint32_t steps; /* that remain without a record */
	bool begun;     /* the round of this call */
};

/* Several rings that are read in the order of stamps. */
struct mapring_merged {
	struct mapring__turn *turns;
	struct pollfd *bells;
	struct mapring_reader **readers;
	uint32_t count;
	uint64_t last; /* the latest stamp that was delivered */
	int error;     /* of a call that has delivered records */
};

/* A merge of no rings yet. NULL without memory. */
static inline struct mapring_merged *mapring_merged__new(void)
{
	return (struct mapring_merged *)calloc(1, sizeof(struct mapring_merged));
}

/* Does not free the readers. */
static inline void mapring_merged__free(struct mapring_merged *m)
{
	if (!m)
		return;
	free(m->turns);
	free(m->bells);
	free(m->readers);
	free(m);
}

/*
 * Adds a ring, whose reader has the option `stamp`, and the same clock as the others. `fn` gets its records, of `size` bytes. The
 * reader must live as long as the merge, which alone reads it; its counts are those of its ring. Returns 0 or a negative errno.
 */
static inline int mapring_merged__add(struct mapring_merged *m, struct mapring_reader *r, size_t size, mapring_event_fn fn, void *context)
{
	size_t count = (size_t)m->count + 1;
	struct mapring__turn *turns;
	struct mapring_reader **readers;
	struct pollfd *bells;

	if (size != r->record && !(r->opts.larger && size < r->record))
		return mapring__wrong_size(r, size);
	if (!r->merge)
		return mapring__refuse(EINVAL, "%s: its reader does not merge its shards: set the option `stamp`", r->regions[0].what);
	if (m->count > 0 && r->merge->clock != m->turns[0].reader->merge->clock)
		return mapring__refuse(EINVAL, "%s: its stamps are of another clock than those of %s", r->regions[0].what,
				       m->turns[0].reader->regions[0].what);
	turns = (struct mapring__turn *)realloc(m->turns, count * sizeof(*turns));
	m->turns = turns ? turns : m->turns;
	bells = (struct pollfd *)realloc(m->bells, count * sizeof(*bells));
	m->bells = bells ? bells : m->bells;
	readers = (struct mapring_reader **)realloc(m->readers, count * sizeof(*readers));
	m->readers = readers ? readers : m->readers;
	if (!turns || !bells || !readers)
		return mapring__refuse(ENOMEM, "no memory for a merge");
	memset(&turns[m->count], 0, sizeof(*turns));
	turns[m->count].reader = r;
	turns[m->count].fn = fn;
	turns[m->count].context = context;
	readers[m->count++] = r;
	return 0;
}

/* Finds the next record of a ring in this round. */
static inline void mapring__look_for_next(struct mapring__turn *t)
{
	struct mapring_reader *r = t->reader;

	t->at = mapring__next_shard(r->merge, r->shards, r->prefix, &t->steps);
	t->bound = t->at < 0 ? r->merge->limit : r->merge->runs[t->at].held[0].stamp;
}

/* The ring with the earliest stamp, or the one that may still get an earlier one. The first of several. */
static inline struct mapring__turn *mapring__first_turn(struct mapring_merged *m)
{
	struct mapring__turn *found = NULL;

	for (uint32_t i = 0; i < m->count; i++) {
		struct mapring__turn *t = &m->turns[i];

		if (!found || t->bound < found->bound || (t->bound == found->bound && t->at < 0 && found->at >= 0))
			found = t;
	}
	return found;
}

/* Delivers the next record of a ring. Returns what the program returns. */
static inline int mapring__take_turn(struct mapring_merged *m, struct mapring__turn *t)
{
	struct mapring_reader *r = t->reader;
	uint32_t i = (uint32_t)t->at;
	struct mapring__held next;
	int result = 0;

	r->merge->last = m->last;
	next = mapring__take_first(r->merge, i);
	m->last = r->merge->last;
	memcpy(r->buffer, next.record, mapring__words_of(r->regions[0].layout.record) * 8);
	if (mapring__take_tail(&r->shards[i], r->buffer)) {
		t->count++;
		result = mapring__deliver(r, i, next.ticket, t->fn, t->context);
	}
	if (r->required && (uint64_t)t->count % r->portion == 0)
		mapring__tell(r, i);
	return result;
}

/* Ends a call. Continues with the next ring where one is read to its end. */
static inline long mapring__end_turns(struct mapring_merged *m, int result)
{
	long count = 0;

	for (uint32_t i = 0; i < m->count; i++) {
		struct mapring__turn *t = &m->turns[i];
		struct mapring_reader *r = t->reader;

		for (uint32_t at = 0; r->required && at < r->count; at++)
			mapring__tell(r, at);
		if (t->count > 0)
			r->nap = 0;
		else if (t->begun && !mapring__holds_any(r) && !m->error)
			m->error = (int)mapring__end_empty(r);
		count += t->count;
	}
	if (result < 0)
		return result;
	if (count == 0 && m->error) {
		count = m->error;
		m->error = 0;
	}
	return count;
}

/*
 * Calls each ring's function for its records, in the order of their stamps: all that can be delivered now, at most a lap of each
 * ring. Makes no system call if all rings are mapped. Returns the number of records, or a negative errno: that of a function, or
 * as mapring_reader__for_each.
 */
static inline long mapring_merged__for_each(struct mapring_merged *m)
{
	uint64_t most = 0;
	int result = 0;

	for (uint32_t i = 0; i < m->count; i++) {
		struct mapring__turn *t = &m->turns[i];
		struct mapring_reader *r = t->reader;

		most += (r->regions[0].layout.capacity + MAPRING__HELD_MOST) * r->count;
		t->count = 0;
		t->steps = r->steps;
		t->begun = false;
		mapring__look_for_next(t);
	}
	while (result >= 0 && most > 0) {
		struct mapring__turn *t = mapring__first_turn(m);

		if (!t || (t->at < 0 && t->begun))
			break;
		if (t->at >= 0) {
			result = mapring__take_turn(m, t);
			most--;
		} else {
			t->begun = true;
			mapring__round(t->reader->merge, mapring__in_use(t->reader));
		}
		mapring__look_for_next(t);
	}
	return mapring__end_turns(m, result);
}

/*
 * Waits until any of the rings has records, as mapring_reader__wait. It sleeps until a program wakes it if each ring is wakeable and
 * this process may have a seat there; else it naps, for a millisecond at most.
 */
static inline int mapring_merged__wait(struct mapring_merged *m, int timeout_ms)
{
	return mapring__wait_for_any(m->readers, m->bells, m->count, timeout_ms);
}

#endif
