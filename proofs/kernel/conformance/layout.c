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
	if (l->shards < 1 || l->shards > SHARDS_MAX)
		return false;
	if (has_slots(l) && (l->capacity > SLOTS_MAX || (l->capacity & (l->capacity - 1)) != 0))
		return false;
	if (l->kind != RING)
		return ((of_bank(l) && l->kind != PERCPU_COUNTERS) || l->kind == TOP_KEYS || l->shards == 1) && !l->resizable && !l->one_cpu;
	if (l->resizable && l->one_cpu)
		return false;
	return !l->one_cpu || l->shards == 1;
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

bool layout_complete(struct layout *l)
{
	uint64_t in_line;

	if (!within_limits(l))
		return false;
	l->size = size_of(l);
	in_line = l->size & -l->size; /* the largest power of two that divides it */
	l->per_lines = LINE / (in_line < LINE ? in_line : LINE);
	l->first = round_up(round_up(8 * PREAMBLE_WORDS, l->size) / l->size, l->per_lines);
	if (l->kind == READERS)
		l->first = 3; /* with the owners of the places, and their leases */
	l->header = has_slots(l) ? round_up(round_up(LINE, l->size) / l->size, l->per_lines) : 0;

	if (has_slots(l))
		l->elements = l->first + l->shards * (l->header + slot_elements(l));
	else
		l->elements = l->first + (of_bank(l) ? l->shards * (l->kind == READERS ? 3 : 1) :
					  l->kind == TOP_KEYS ? l->shards * l->capacity : l->capacity);
	return l->elements <= ELEMENTS_MAX;
}

uint64_t layout_header(const struct layout *l, uint64_t shard)
{
	return l->first + shard * (l->header + (l->resizable ? 0 : slot_elements(l)));
}

uint64_t layout_slots(const struct layout *l, uint64_t shard)
{
	if (l->resizable)
		return layout_header(l, l->shards) + shard * slot_elements(l);
	return layout_header(l, shard) + l->header;
}

const char *layout_of_preamble(struct layout *l, const uint64_t words[PREAMBLE_WORDS])
{
	uint64_t gate = words[14] & 0xff;

	if (words[0] != layout_magic())
		return "not a region: the first word is not \"mapring\"";
	if (words[1] != 2)
		return "a layout version other than 2";
	/* Word 13 of readers names other maps; so does its upper half in a ring that wakes readers. */
	if (words[2] != READERS && words[13] > 1 && (words[13] & 0xffffffff) != 3 &&
	    (words[13] & 0xffffffff) != 4)
		return "an unknown sort of region";
	if (gate == 2 || gate > 3)
		return "an unknown state of the gate";
	*l = (struct layout){
		.kind = words[2],
		.record = words[3],
		.capacity = words[4],
		.shards = words[5],
		.resizable = gate != 0,
		.one_cpu = words[2] != READERS && words[13] == 1,
	};
	if (!layout_complete(l))
		return "a preamble that contradicts itself, or is beyond a limit";
	return words[6] == l->size ? NULL : "a preamble with the wrong size of elements";
}
