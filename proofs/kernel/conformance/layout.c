/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "layout.h"

#include <string.h>

#include "words.h"

#define LINE 64
#define RECORD_MAX ((1ULL << 29) - 8)
#define COUNTERS_MAX ((1ULL << 26) - 1)
#define HISTOGRAM 4096
#define GAUGE 16384
#define BUCKET 248
#define PLACES 64
#define SLOTS_MAX (1ULL << 31)
#define SHARDS_MAX 65536
#define ELEMENTS_MAX 0xffffffffULL

/* A shard with tails: bytes to its parts, and the words that its records begin with. */
enum { TAIL_SHARD = 128, TAIL_HEADER = 192, TAIL_SLOTS = 448, TAIL_WORDS = 2 };
#define TAIL_SHARD_MAX (1ULL << 29)
#define AREA_MIN 128
#define AREA_MAX (1ULL << 28)

uint64_t layout_magic(void)
{
	uint64_t magic;

	memcpy(&magic, "mapring", 8);
	return magic;
}

bool layout_is_per_cpu(const struct layout *l)
{
	return l->kind == PERCPU_CELLS || l->kind == PERCPU_COUNTERS;
}

static bool is_counters(const struct layout *l)
{
	return l->kind == COUNTERS || l->kind == PERCPU_COUNTERS;
}

/* The bytes of each of the values in a shard's bank; 0 if it has no bank. */
static uint64_t of_bank(const struct layout *l)
{
	if (l->kind == HISTOGRAMS)
		return HISTOGRAM;
	if (l->kind == GAUGES)
		return GAUGE;
	return is_counters(l) || l->kind == READERS ? 8 : 0;
}

/* Whether it has a header and slots. */
static bool has_slots(const struct layout *l)
{
	return l->kind == RING || l->kind == COMMANDS;
}

bool layout_is_sharded(const struct layout *l)
{
	if (l->kind == RING)
		return !(l->options & PER_CPU_MAPS);
	return (of_bank(l) && l->kind != PERCPU_COUNTERS) || l->kind == TOP_KEYS;
}

/* Whether a ring's tails are within their limits. */
static bool tails_fit(const struct layout *l)
{
	return l->area >= AREA_MIN && l->area <= AREA_MAX && (l->area & (l->area - 1)) == 0 &&
	       l->longest >= 1 && l->longest <= l->area / 2 && l->record > 8 * TAIL_WORDS;
}

static bool within_limits(const struct layout *l)
{
	if (l->kind < RING || l->kind > TOP_KEYS)
		return false;
	if (l->record < 1 || l->record > RECORD_MAX || (of_bank(l) && l->record != of_bank(l)))
		return false;
	if (l->kind == TOP_KEYS && (l->record != BUCKET || (l->capacity & (l->capacity - 1)) != 0))
		return false;
	if (l->capacity < 1 || l->capacity > ELEMENTS_MAX ||
	    (of_bank(l) && l->capacity > COUNTERS_MAX * 8 / of_bank(l)) ||
	    (l->kind == READERS && l->capacity != PLACES))
		return false;
	if (l->shards < 1 || l->shards > (layout_is_sharded(l) ? SHARDS_MAX : 1))
		return false;
	if (has_slots(l) && (l->capacity > SLOTS_MAX || (l->capacity & (l->capacity - 1)) != 0))
		return false;
	if (l->kind != RING && l->options)
		return false;
	if ((l->options & RESIZABLE) && l->options != RESIZABLE)
		return false;
	if ((l->options & KEEPS_OLDEST) && !(l->options & WAKEABLE))
		return false;
	return !(l->options & TAILS) || tails_fit(l);
}

static uint64_t size_of(const struct layout *l)
{
	if (of_bank(l))
		return round_up(of_bank(l) * l->capacity, LINE);
	return 8 + round_up(l->record, 8) * (l->kind == LATCHES ? 2 : 1);
}

/* The elements of a shard's slots. */
static uint64_t slot_elements(const struct layout *l)
{
	return round_up(l->capacity, l->per_lines);
}

/* The bytes of the slots of a shard with tails. */
static uint64_t tail_slots(const struct layout *l)
{
	return round_up(l->capacity * l->slot, LINE);
}

/* Each shard of a ring with tails is one element. As an ordinary ring it was within the limits. */
static bool complete_with_tails(struct layout *l)
{
	l->size = TAIL_SLOTS + tail_slots(l) + l->area + round_up(l->longest, LINE);
	l->per_lines = 1;
	l->first = l->header = 0;
	l->elements = l->shards;
	return l->size <= TAIL_SHARD_MAX;
}

bool layout_complete(struct layout *l)
{
	uint64_t in_line;

	if (!within_limits(l))
		return false;
	l->size = l->slot = size_of(l);
	in_line = l->size & -l->size; /* the largest power of two that divides it */
	l->per_lines = LINE / (in_line < LINE ? in_line : LINE);
	l->first = round_up(round_up(8 * PREAMBLE_WORDS, l->size) / l->size, l->per_lines);
	if (l->kind == READERS)
		l->first = 4; /* with the owners of the places, their leases, and what they want */
	l->header = has_slots(l) ? round_up(round_up(LINE, l->size) / l->size, l->per_lines) : 0;

	if (has_slots(l))
		l->elements = l->first + l->shards * (l->header + slot_elements(l));
	else
		l->elements = layout_is_sharded(l) ? layout_bank(l, l->shards) :
						     l->first + (of_bank(l) ? 1 : l->capacity);
	return l->elements <= ELEMENTS_MAX && (!(l->options & TAILS) || complete_with_tails(l));
}

uint64_t layout_header(const struct layout *l, uint64_t shard)
{
	if (l->options & TAILS)
		return (shard * l->size + TAIL_SHARD) / 8;
	return (l->first + shard * (l->header + (l->options & RESIZABLE ? 0 : slot_elements(l)))) * l->size / 8;
}

uint64_t layout_slots(const struct layout *l, uint64_t shard)
{
	if (l->options & TAILS)
		return (shard * l->size + TAIL_SLOTS) / 8;
	if (l->options & RESIZABLE)
		return layout_header(l, l->shards) + shard * slot_elements(l) * l->size / 8;
	return layout_header(l, shard) + l->header * l->size / 8;
}

uint64_t layout_tails(const struct layout *l, uint64_t shard)
{
	return (shard * l->size + TAIL_HEADER) / 8;
}

uint64_t layout_area(const struct layout *l, uint64_t shard)
{
	return layout_slots(l, shard) + tail_slots(l) / 8;
}

uint64_t layout_bank(const struct layout *l, uint64_t shard)
{
	return l->first + shard * (l->kind == READERS ? 3 : l->kind == TOP_KEYS ? l->capacity : 1);
}

/* All bits must have a meaning. */
bool layout_read_kind(struct layout *l, uint64_t word)
{
	uint64_t log2 = word >> 16 & 0xff;

	l->kind = word & 0xff;
	l->options = word >> 8 & 0xff;
	if (l->options >= OPTIONS)
		return false;
	if (!(l->options & TAILS))
		return word >> 16 == 0;
	l->longest = word >> 32;
	l->area = log2 < 64 ? 1ULL << log2 : 0;
	return (word >> 24 & 0xff) == 0;
}

const char *layout_of_preamble(struct layout *l, const uint64_t words[PREAMBLE_WORDS])
{
	uint64_t gate = words[14] & 0xff;

	if (words[0] != layout_magic())
		return "not a region: the first word is not \"mapring\"";
	if (words[1] != 3)
		return "a layout version other than 3";
	*l = (struct layout){ .record = words[3], .capacity = words[4], .shards = words[5] };
	if (!layout_read_kind(l, words[2]))
		return "an unknown option";
	if (l->options & RESIZABLE ? gate != 1 && gate != 3 : gate != 0)
		return "an unknown state of the gate";
	if (!layout_complete(l))
		return "a preamble that contradicts itself, or is beyond a limit";
	return words[6] == l->size ? NULL : "a preamble with the wrong size of elements";
}
