/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Delivers records to a program: for_each. */
#ifndef MAPRING_C_DELIVER_H
#define MAPRING_C_DELIVER_H

/* Tells programs how far this reader has read, if they wait for it. */
MAPRING__COLD void mapring__tell(struct mapring_reader *r, uint32_t i)
{
	uint64_t next = r->shards[i].next, shard = r->shards[i].number;

	for (uint32_t h = 0; r->merge && h < r->merge->runs[i].count; h++)
		if (mapring__after(next, r->merge->runs[i].held[h].ticket))
			next = r->merge->runs[i].held[h].ticket;
	if (r->told[i] == next || shard >= r->seat->readers.layout.shards)
		return;
	r->told[i] = next;
	if (!r->seat->holds)
		return;
	if (mapring__seat_is_mine(r->seat) &&
	    (mapring__load(mapring__seat_word(r->seat, MAPRING__REQUIRED)) & mapring__bit(r->seat))) {
		mapring__store_release(mapring__seat_of(r->seat, shard, 1), next); /* SYNC read: what was copied may be overwritten */
	} else {
		r->seat->holds = false;
		r->seat->lease_ended = true;
	}
}

/* Whether this pass looks past tickets that are not claimed: once in a millisecond, or each time if passes are rarer. */
MAPRING__COLD void mapring__read_clock(struct mapring_reader *r)
{
	uint64_t now = mapring__now();
	bool rare = now - r->clock >= MAPRING__LOOK_NS;

	r->clock = now;
	r->look = now - r->looked >= MAPRING__LOOK_NS;
	if (r->look)
		r->looked = now;
	r->until_clock = r->look || rare ? 0 : MAPRING__PASSES;
}

MAPRING__COLD int mapring__wrong_size(const struct mapring_reader *r, size_t size)
{
	return mapring__refuse(EMSGSIZE,
			       "%s has records of %zu bytes, but this program's have %zu: build both from one header, or set `larger` "
			       "for the first bytes of tagged records",
			       r->regions[0].what, r->record, size);
}

/* Begins a call. */
MAPRING__FAST int mapring__begin(struct mapring_reader *r, size_t size)
{
	if (size != r->record && !(r->opts.larger && size < r->record))
		return mapring__wrong_size(r, size);
	r->look = false;
	if (r->until_clock-- == 0)
		mapring__read_clock(r);
	return 0;
}

/* What a call without a record returns: it goes on with the next ring, if there is one. */
MAPRING__COLD long mapring__end_empty(struct mapring_reader *r)
{
	for (uint32_t i = 0; i < r->region_count; i++)
		if (r->regions[i].failed)
			return mapring__lookup_error(&r->regions[i]);
	if (r->seat && r->seat->lease_ended) {
		r->seat->lease_ended = false;
		return mapring__refuse(ETIMEDOUT,
				       "this reader of %s is no longer required: it held programs back for longer than its lease. Programs "
				       "overwrite what it has not read, until it calls mapring_reader__require again", r->regions[0].what);
	}
	if (!(r->regions[0].layout.options & MAPRING_OPTION_RESIZABLE))
		return 0;
	return mapring__go_on(r) < 0 ? -errno : 0;
}

/* Delivers a record, with its tail behind it. Returns what the program returns. */
MAPRING__FAST int mapring__deliver(struct mapring_reader *r, uint32_t i, uint64_t ticket, mapring_event_fn fn, void *context)
{
	struct mapring_event event;

	memset(&event, 0, sizeof(event));
	event.record = r->buffer + r->prefix;
	event.shard = r->shards[i].number;
	event.ticket = ticket;
	if (r->prefix) {
		event.tail = r->buffer + mapring__words_of(r->regions[0].layout.record);
		event.tail_length = r->buffer[1];
	}
	return fn(context, &event);
}

/* Delivers what can be delivered in the order of stamps. */
MAPRING__FAST long mapring__for_each_merged(struct mapring_reader *r, mapring_event_fn fn, void *context)
{
	struct mapring__merge *m = r->merge;
	uint64_t most = (r->regions[0].layout.capacity + MAPRING__SLACK) * r->count;
	uint64_t words = mapring__words_of(r->regions[0].layout.record);
	uint32_t budget = r->steps;
	long count = 0;
	int64_t i;

	mapring__round(m, mapring__in_use(r));
	while (most-- > 0 && (i = mapring__next_shard(m, r->shards, r->prefix, &budget)) >= 0) {
		struct mapring__held next = mapring__take_first(m, (uint32_t)i);
		int result = 0;

		memcpy(r->buffer, next.record, words * 8);
		if (mapring__take_tail(&r->shards[i], r->buffer)) {
			count++;
			result = mapring__deliver(r, (uint32_t)i, next.ticket, fn, context);
		}
		if (r->required && (uint64_t)count % r->portion == 0)
			mapring__tell(r, (uint32_t)i);
		if (result < 0)
			return result;
	}
	for (uint32_t at = 0; r->required && at < r->count; at++)
		mapring__tell(r, at);
	if (count > 0)
		r->nap = 0;
	return count;
}

/* Delivers one shard after the other, step by step. */
MAPRING__FAST long mapring__for_each_step(struct mapring_reader *r, mapring_event_fn fn, void *context)
{
	uint64_t lap = r->regions[0].layout.capacity + MAPRING__SLACK;
	uint32_t budget = r->steps;
	long count = 0;
	int result = 0;

	for (uint32_t left = r->count; left > 0 && budget > 0 && result >= 0; left--) {
		uint32_t i = r->turn;
		struct mapring__shard *s = &r->shards[i];

		r->turn = i + 1 < r->count ? i + 1 : 0;
		if (r->look)
			s->idle = MAPRING__CHECK_EVERY - 1;
		for (uint64_t steps = lap; steps > 0 && budget > 0 && result >= 0; steps--) {
			enum mapring__took took = mapring__take(s, r->buffer);

			if (took == MAPRING__TOOK && mapring__take_tail(s, r->buffer)) {
				budget = r->steps;
				count++;
				result = mapring__deliver(r, i, s->next - 1, fn, context);
			} else {
				budget--;
			}
			if (r->required && steps % r->portion == 0)
				mapring__tell(r, i);
			if (took == MAPRING__NO_RECORD)
				break;
		}
		if (r->required)
			mapring__tell(r, i);
	}
	return result < 0 ? result : count;
}

MAPRING__FAST uint32_t mapring__next_of(const struct mapring_reader *r, uint32_t i)
{
	return i + 1 < r->count ? i + 1 : 0;
}

/* Passes over shards whose next ticket is not claimed: one load each. Returns how many are left. */
MAPRING__FAST uint32_t mapring__pass_idle(const struct mapring_reader *r, uint32_t *i, uint32_t left)
{
	const struct mapring__idle_shard *idle = r->idle;
	uint32_t at = *i, end = (uint32_t)mapring__least(r->count, (uint64_t)at + left), begin = at;

	while (at < end && mapring__state(mapring__load(idle[at].slot)) == idle[at].free)
		at++;
	left -= at - begin;
	*i = at;
	if (at == r->count) {
		for (at = 0; at < left && mapring__state(mapring__load(idle[at].slot)) == idle[at].free; at++)
			;
		left -= at;
		*i = at < r->count ? at : 0;
	}
	return left;
}

/*
 * Calls `fn` for each record that is present, at most a lap of each shard. `size` is the size of the program's record, best as
 * sizeof(struct …): then the compiler makes one loop of the reader and `fn`. Makes no system call on a mapped ring. Returns the
 * number of records, or a negative errno: -EMSGSIZE for records of another size, -ETIMEDOUT once if the lease of a required reader
 * has ended, -ESTALE if another ring took the place of a resizable one.
 */
MAPRING__FAST long mapring_reader__for_each(struct mapring_reader *r, size_t size, mapring_event_fn fn, void *context)
{
	uint64_t small[MAPRING__SMALL / 8], *record = size <= sizeof(small) ? small : r->buffer, lap;
	const size_t words = (size + 7) / 8;
	struct mapring_event event;
	long count = 0;
	uint32_t budget = r->steps;
	int result = mapring__begin(r, size);

	if (result < 0)
		return result;
	if (r->by_steps) {
		count = r->merge ? mapring__for_each_merged(r, fn, context) : mapring__for_each_step(r, fn, context);
		return count == 0 ? mapring__end_empty(r) : count;
	}
	lap = r->regions[0].layout.capacity + MAPRING__SLACK;
	event.record = record;
	event.tail = NULL;
	event.tail_length = 0;
	for (uint32_t left = r->count, i = r->turn; budget > 0; left--, i = mapring__next_of(r, i)) {
		struct mapring__shard *s;
		uint64_t steps = lap;

		if (!r->look)
			left = mapring__pass_idle(r, &i, left);
		r->turn = i;
		if (left == 0)
			break;
		s = &r->shards[i];
		if (r->look)
			s->idle = MAPRING__CHECK_EVERY - 1;
		event.shard = s->number;
		while (steps > 0 && budget > 0) {
			/* The tickets up to the end of the lap have the same states, and their slots follow each other. */
			uint64_t t = s->next, ended = mapring__ended(s, t), n = mapring__slots(s) - mapring__slot(s, t), done, seen;
			size_t stride = s->region->layout.slot / 8;
			const uint64_t *slot = s->region->words + s->slots + mapring__slot(s, t) * stride;

			n = mapring__least(n, mapring__least(steps, r->portion));
			for (done = 0, seen = ended; done < n && result >= 0; done++, slot += stride) {
				seen = mapring__load(slot);
				if (seen != ended)
					break;
				mapring__fence_acquire(); /* SYNC publish: pairs with the end of the ticket */
				mapring__copy(record, slot + 1, words);
				mapring__fence_acquire(); /* SYNC claim: pairs with the claim of a later ticket */
				if (mapring__load(slot) != ended) {
					s->stats.torn++;
					break;
				}
				event.ticket = t + done;
				result = fn(context, &event);
			}
			if (done > 0) {
				mapring__passed(s, &s->stats.delivered, done);
				count += (long)done;
				budget = r->steps;
				steps -= done;
				if (r->required)
					mapring__tell(r, i);
				if (result < 0)
					break;
			}
			if (done < n) {
				if (mapring__pass(s, seen) == MAPRING__EMPTY)
					break;
				steps -= steps > 0;
				budget--;
			}
		}
		if (r->required)
			mapring__tell(r, i);
		mapring__note(r, i);
		if (result < 0)
			return result;
	}
	return count == 0 ? mapring__end_empty(r) : count;
}

#endif
