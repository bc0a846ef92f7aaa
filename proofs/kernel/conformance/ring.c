/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

#define DISCARDED (1ULL << 63) /* added to a state; in `head`: a guarded claim is in progress */
#define COUNTING (1ULL << 63)  /* in word 15 of the preamble */
#define NONE (~0ULL)

enum header { HEAD, DROPPED, END, FULL = 5, DROP_TIMES };
enum tail_header { HIGH = 1, NO_TAIL = 3, TOO_LONG };
/* The words that a record with a tail begins with. */
enum { TAIL_AT, TAIL_LENGTH };
enum { PREAMBLE_DROPPED = 12, PREAMBLE_GATE = 14, PREAMBLE_BEFORE = 15 };
enum { GATE_RETIRED = 3 };
/* The maximum number of slots that writers step over. */
enum { STEPS = 6 };

/* The shard that is being read. */
struct shard {
	struct region *region;
	struct cursor *cursor;
	unsigned bits;
	uint64_t tails, area; /* words from the region's start, if it has tails */
};

static uint64_t slots(const struct shard *s)
{
	return 1ULL << s->bits;
}

static uint64_t slot(const struct shard *s, uint64_t t)
{
	return t & (slots(s) - 1);
}

static uint64_t state(uint64_t seq)
{
	return seq & ~DISCARDED;
}

/* The states of the slot of `t`: free for it, being written, ended. */
static uint64_t is_free(const struct shard *s, uint64_t t)
{
	return (t >> s->bits) * 2;
}

static uint64_t writing(const struct shard *s, uint64_t t)
{
	return is_free(s, t) + 1;
}

static uint64_t ended(const struct shard *s, uint64_t t)
{
	return is_free(s, t) + 2;
}

/* The ticket that set the slot of `t` to this state, which is not 0. */
static uint64_t taken(const struct shard *s, uint64_t state, uint64_t t)
{
	return ((state - 1) >> 1 << s->bits) + slot(s, t);
}

static uint64_t seq(const struct shard *s, uint64_t t)
{
	return region_word(s->region, 0, s->cursor->slots + slot(s, t) * (s->region->layout.slot / 8));
}

/* The last ticket according to the hint in `head`, which may be wrong. */
static uint64_t hint(const struct shard *s)
{
	return (region_word(s->region, 0, s->cursor->header + HEAD) & ~DISCARDED) - 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The last claimed ticket, searched from `t` if `head` is wrong. Returns false if there is none. */
static bool last_taken(const struct shard *s, uint64_t t, uint64_t *last)
{
	uint64_t from = hint(s), found = state(seq(s, from));

	if (found != writing(s, from) && found != ended(s, from)) {
		found = state(seq(s, t));
		if (found == 0)
			return false;
		from = taken(s, found, t);
	}
	for (int twice = 0; twice < 2; twice++) {
		uint64_t step, behind = 0;

		/* All tickets between `from` and the end are claimed. */
		for (uint64_t bit = slots(s) / 2; bit; bit /= 2)
			if (state(seq(s, from + bit)) > is_free(s, from + bit))
				from += bit;
		/* Except tickets whose slots were stepped over. */
		for (step = 1; step <= least(STEPS, slots(s)) && !behind; step++) {
			found = state(seq(s, from + step));
			if (found > is_free(s, from + step))
				behind = step;
		}
		if (!behind)
			break;
		from = taken(s, found, from + behind);
	}
	*last = from;
	return true;
}

/* The distance from `t` to a later ticket that has ended; NONE if none is found. */
static uint64_t later(const struct shard *s, uint64_t t)
{
	uint64_t near = least(STEPS, slots(s) - 1), u = hint(s), found;

	for (uint64_t step = 0; step <= near; step++) {
		if (step > 0)
			u = t + step;
		if (!after(u, t))
			continue;
		found = state(seq(s, u));
		if (!after(ended(s, u), found))
			return taken(s, found, u) - t;
	}
	return NONE;
}

/* The ticket to continue from after `t`, whose slot was in a state of a later lap. */
static uint64_t oldest(const struct shard *s, uint64_t t, uint64_t found)
{
	uint64_t last, to;

	if (!last_taken(s, taken(s, found, t), &last))
		last = t;
	to = last + 1 - (slots(s) - slots(s) / 8);
	return after(to, t) ? to : t + 1;
}

static enum step pass(struct cursor *c, uint64_t *count, uint64_t tickets, enum step step)
{
	*count += tickets;
	c->next += tickets;
	c->waits = 0;
	return step;
}

/* Copies the record of `t`, whose slot was published. Returns whether it stayed published during the copy. */
static bool copy_record(const struct shard *s, uint64_t t, uint64_t *record)
{
	struct region *r = s->region;
	uint64_t first = s->cursor->slots + slot(s, t) * (r->layout.slot / 8), published = ended(s, t);
	uint64_t words = words_of(r->layout.record);

	if (r->words) {
		word *at = r->words + first;

		fence_acquire();
		copy(record, at + 1, words);
		fence_acquire();
		return load(at) == published;
	}
	if (!region_look(r, first / r->size) || r->looks[0][0] != published || r->looks[2][0] != published)
		return false;
	for (uint64_t i = 0; i < words; i++)
		record[i] = r->looks[1][1 + i];
	return true;
}

/* Copies the tail of a copied record behind it. Returns whether it was there until then. */
static bool copy_tail(const struct shard *s, uint64_t *record)
{
	const struct layout *l = &s->region->layout;
	uint64_t at = record[TAIL_AT], length = record[TAIL_LENGTH];
	word *tails = s->region->words + s->tails, *area = s->region->words + s->area;

	if (length > l->longest)
		return false;
	copy(record + words_of(l->record), area + ((at & (l->area - 1)) & ~15ULL) / 8, words_of(length));
	fence_acquire();
	return load(tails + HIGH) - at <= l->area;
}

/* Passes the next ticket, which has not ended. It is lost only if a writer has it. */
static enum step give_up(const struct shard *s, uint64_t state)
{
	struct cursor *c = s->cursor;

	return pass(c, state == writing(s, c->next) ? &c->tally.skipped : &c->tally.stepped_over, 1, MOVED);
}

static enum step step(const struct shard *s, uint64_t patience, uint64_t *record, uint64_t *ticket)
{
	struct cursor *c = s->cursor;
	uint64_t t = c->next, seen = seq(s, t), gap, to;

	if (s->region->failed)
		return EMPTY;
	if (seen == ended(s, t)) {
		if (!copy_record(s, t, record)) {
			c->tally.torn += !s->region->failed;
			return s->region->failed ? EMPTY : MOVED;
		}
		if ((s->region->layout.options & TAILS) && !copy_tail(s, record))
			return pass(c, &c->tally.tail_lost, 1, MOVED);
		*ticket = t;
		return pass(c, &c->tally.delivered, 1, RECORD);
	}
	if (seen == (ended(s, t) | DISCARDED))
		return pass(c, &c->tally.discarded, 1, MOVED);
	if (after(state(seen), ended(s, t))) {
		to = oldest(s, t, state(seen));
		if (s->region->failed)
			return EMPTY;
		return pass(c, &c->tally.lapped, to - t, MOVED);
	}

	/* Being written, or never claimed: does a later ticket exist? */
	gap = later(s, t);
	if (s->region->failed)
		return EMPTY;
	if (gap == NONE) {
		c->waits = 0;
		return EMPTY;
	}
	fence_acquire();
	if (seq(s, t) != seen)
		return s->region->failed ? EMPTY : MOVED;
	c->waits++;
	if (state(seen) == writing(s, t) && gap < slots(s) - slots(s) / 4 && c->waits < patience)
		return EMPTY;
	return give_up(s, state(seen));
}

void tally_add(struct tally *sum, const struct tally *more)
{
	sum->delivered += more->delivered;
	sum->lapped += more->lapped;
	sum->skipped += more->skipped;
	sum->tail_lost += more->tail_lost;
	sum->discarded += more->discarded;
	sum->stepped_over += more->stepped_over;
	sum->torn += more->torn;
}

void tally_add_all(struct tally *sum, const struct reader *r)
{
	for (uint64_t i = 0; i < r->region.layout.shards; i++)
		tally_add(sum, &r->cursors[i].tally);
}

static struct shard shard_of(struct reader *r, uint64_t shard)
{
	return (struct shard){
		.region = &r->region,
		.cursor = &r->cursors[shard],
		.bits = r->bits,
		.tails = layout_tails(&r->region.layout, shard),
		.area = layout_area(&r->region.layout, shard),
	};
}

const char *reader_open(struct reader *r, struct region *region, enum start start, uint64_t patience)
{
	const struct layout *layout = &region->layout;

	errno = 0;
	*r = (struct reader){ .region = *region, .patience = patience };
	if (layout->kind == RING)
		r->cursors = calloc(layout->shards, sizeof(*r->cursors));
	if (!r->cursors) {
		reader_close(r);
		return "not a ring, or no memory for its shards";
	}
	while (1ULL << r->bits < layout->capacity)
		r->bits++;
	for (uint64_t i = 0; i < layout->shards; i++) {
		struct shard s = shard_of(r, i);
		uint64_t last;

		s.cursor->header = layout_header(layout, i);
		s.cursor->slots = layout_slots(layout, i);
		if (start == START_OLDEST && last_taken(&s, 0, &last))
			s.cursor->next = last + 1 > slots(&s) ? last + 1 - slots(&s) : 0;
	}
	return NULL;
}

void reader_close(struct reader *r)
{
	free(r->cursors);
	r->cursors = NULL;
	region_close(&r->region);
}

uint64_t reader_room(const struct reader *r)
{
	return words_of(r->region.layout.record) + words_of(r->region.layout.longest);
}

enum step reader_step(struct reader *r, uint64_t shard, uint64_t *record, uint64_t *ticket)
{
	struct shard s = shard_of(r, shard);

	r->region.failed = 0;
	return step(&s, r->patience, record, ticket);
}

bool reader_is_retired(struct reader *r)
{
	uint64_t gate;

	r->region.failed = 0;
	gate = region_word_acquire(&r->region, 0, PREAMBLE_GATE);
	return !r->region.failed && (gate & 0xff) == GATE_RETIRED;
}

bool reader_is_finished(struct reader *r, uint64_t shard)
{
	struct shard s = shard_of(r, shard);
	struct cursor *c = s.cursor;
	uint64_t t = c->next, last, found;
	bool none;

	r->region.failed = 0;
	found = state(seq(&s, t));
	if (r->region.failed || !after(ended(&s, t), found))
		return false; /* it has ended in the meantime */
	if (found != writing(&s, t)) {
		none = !last_taken(&s, t, &last) || after(t, last);
		if (none || r->region.failed)
			return !r->region.failed;
	}
	/* It is being written, or was never claimed. */
	if (++c->waits >= r->patience)
		give_up(&s, found);
	return false;
}

uint64_t reader_tickets(struct reader *r)
{
	uint64_t sum = region_word(&r->region, 0, PREAMBLE_BEFORE) & ~COUNTING;

	for (uint64_t i = 0; i < r->region.layout.shards; i++)
		sum += region_word(&r->region, 0, r->cursors[i].header + END);
	return sum;
}

uint64_t reader_dropped(struct reader *r)
{
	const struct layout *layout = &r->region.layout;
	uint64_t sum = region_word(&r->region, 0, PREAMBLE_DROPPED);

	for (uint64_t i = 0; i < layout->shards; i++) {
		uint64_t header = r->cursors[i].header, tails = layout_tails(layout, i);

		sum += region_word(&r->region, 0, header + DROPPED);
		if (layout->options & KEEPS_OLDEST)
			sum += region_word(&r->region, 0, header + FULL);
		if (layout->options & TAILS)
			sum += region_word(&r->region, 0, tails + NO_TAIL) + region_word(&r->region, 0, tails + TOO_LONG);
	}
	return sum;
}

void reader_drop_times(struct reader *r, uint64_t shard, uint64_t times[2])
{
	for (int i = 0; i < 2; i++)
		times[i] = region_word(&r->region, 0, r->cursors[shard].header + DROP_TIMES + (uint64_t)i);
}
