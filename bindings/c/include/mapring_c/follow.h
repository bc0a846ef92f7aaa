/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* From a ring that was replaced to the next one: docs/abi.md, "Resizable rings". */
#ifndef MAPRING_C_FOLLOW_H
#define MAPRING_C_FOLLOW_H

/* Whether records are written to this ring only: false once it is being replaced by another. */
static inline bool mapring__in_use(struct mapring_reader *r)
{
	uint64_t gate;

	if (!(r->regions[0].layout.options & MAPRING_OPTION_RESIZABLE))
		return true;
	gate = mapring__word_acquire(&r->regions[0], 0, MAPRING__GATE);
	return !r->regions[0].failed && (gate & 0xff) == MAPRING__GATE_OPEN && !(gate & MAPRING__GATE_LEAVING);
}

static inline bool mapring__is_retired(struct mapring_reader *r)
{
	uint64_t gate;

	if (!(r->regions[0].layout.options & MAPRING_OPTION_RESIZABLE))
		return false;
	r->regions[0].failed = 0;
	gate = mapring__word_acquire(&r->regions[0], 0, MAPRING__GATE); /* SYNC retired: all claims come before */
	return !r->regions[0].failed && (gate & 0xff) == MAPRING__GATE_RETIRED;
}

/* The number of tickets in all rings up to and including this retired one. */
static inline uint64_t mapring__tickets(struct mapring_reader *r)
{
	struct mapring_region *region = &r->regions[0];
	uint64_t sum = mapring__word(region, 0, MAPRING__BEFORE) & ~MAPRING__COUNTING;

	for (uint64_t i = 0; i < region->layout.shards; i++)
		sum += mapring__word(region, 0, mapring__header_at(&region->layout, i) + MAPRING__END);
	return sum;
}

/* After a pass without records: continues with the next ring, if this one was replaced and read to its end. Returns 1 if it did,
 * 0 if not, or why the next ring is refused. */
MAPRING__COLD int mapring__go_on(struct mapring_reader *r)
{
	struct mapring_region *old = &r->regions[0], next;
	uint64_t before, up_to;
	bool finished = true;
	uint32_t id;
	int error;

	if (!mapring__is_retired(r))
		return 0;
	for (uint32_t i = 0; i < r->count; i++)
		finished = mapring__is_finished(&r->shards[i]) && finished;
	id = finished ? mapring__locator_id(&r->locator) : 0;
	if (id == 0 || id == old->map_id)
		return 0;
	error = mapring__region_open(&next, &r->locator);
	if (error)
		return error == -ENOENT ? 0 : error;
	before = mapring__word(&next, 0, MAPRING__BEFORE);
	old->failed = 0;
	up_to = mapring__tickets(r);
	if (next.layout.kind != MAPRING_KIND_RING || next.layout.record != old->layout.record ||
	    next.layout.shards != old->layout.shards || next.layout.options != old->layout.options || before << 1 >> 1 < up_to)
		error = mapring__refuse(ESTALE, "its loader has started again: another ring, which does not continue this one");
	if (next.failed || old->failed || before & MAPRING__COUNTING) /* a resize is unfinished */
		error = 1;
	if (error) {
		mapring__region_close(&next);
		return error < 0 ? error : 0;
	}

	for (uint32_t i = 0; i < r->count; i++)
		mapring__add_stats(&r->past, &r->shards[i].stats);
	mapring__add_dropped(&r->past, old);
	r->past.lapped += before - up_to; /* rings replaced before they were read */
	r->past.rings++;
	mapring__region_close(old);
	*old = next;
	if (!r->seat)
		r->seat_error = 0; /* the next ring may have a seat for it */
	error = mapring__reader_shards(r, MAPRING_FIRST);
	return error ? error : 1;
}

#endif
