/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The positions of all data in a region: docs/abi.md, "Sizes" and "Preamble". Accesses no shared memory. */
#ifndef MAPRING_C_LAYOUT_H
#define MAPRING_C_LAYOUT_H

#include "numbers.h"

struct mapring_layout {
	/* The region's own description. */
	uint64_t kind, record, capacity, shards;
	uint64_t options;
	uint64_t longest, area; /* of tails: bytes of the longest one, and of the area that they are in */
	/* Computed from it: bytes of an element and of a slot, and numbers of elements. */
	uint64_t size, slot, per_lines, first, header, elements;
};

/* The name of a kind of region. */
static inline const char *mapring__kind_name(uint64_t kind)
{
	static const char *const NAMES[] = { MAPRING__KIND_NAMES };

	return kind < sizeof(NAMES) / sizeof(NAMES[0]) ? NAMES[kind] : "an unknown kind";
}

/* The names of a ring's options, as in the declaration. */
struct mapring__option_names {
	char text[64];
};

static inline struct mapring__option_names mapring__option_names(uint64_t options)
{
	static const char *const NAMES[] = { MAPRING__OPTION_NAMES };
	struct mapring__option_names names;
	const char *comma = "";

	names.text[0] = 0;
	if (options & MAPRING_OPTION_KEEP_OLDEST)
		options &= ~(uint64_t)MAPRING_OPTION_WAKEABLE;
	for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
		if (!(options >> i & 1))
			continue;
		strcat(strcat(names.text, comma), NAMES[i]);
		comma = ", ";
	}
	return names;
}

/* Word 0 of a preamble. */
static inline uint64_t mapring__magic(void)
{
	uint64_t magic;

	memcpy(&magic, "mapring", 8);
	return magic;
}

/* Whether each possible CPU has its own copy of the region. */
static inline bool mapring__is_per_cpu(const struct mapring_layout *l)
{
	return l->kind == MAPRING_KIND_PERCPU_CELLS || l->kind == MAPRING_KIND_PERCPU_COUNTERS;
}

/* The bytes of each of the values in a shard's bank; 0 if it has no bank. */
static inline uint64_t mapring__of_bank(const struct mapring_layout *l)
{
	switch (l->kind) {
	case MAPRING_KIND_COUNTERS:
	case MAPRING_KIND_PERCPU_COUNTERS:
	case MAPRING_KIND_READERS:
		return 8;
	case MAPRING_KIND_HISTOGRAMS:
		return MAPRING__HISTOGRAM_BYTES;
	case MAPRING_KIND_GAUGES:
		return MAPRING__GAUGE_BYTES;
	default:
		return 0;
	}
}

/* Whether it has a header and slots. */
static inline bool mapring__has_slots(const struct mapring_layout *l)
{
	return l->kind == MAPRING_KIND_RING || l->kind == MAPRING_KIND_COMMANDS;
}

/* Whether it can have several shards. */
static inline bool mapring__is_sharded(const struct mapring_layout *l)
{
	if (l->kind == MAPRING_KIND_RING)
		return !(l->options & MAPRING_OPTION_PER_CPU_MAPS);
	return (mapring__of_bank(l) && l->kind != MAPRING_KIND_PERCPU_COUNTERS) || l->kind == MAPRING_KIND_TOP_KEYS;
}

static inline bool mapring__power_of_two(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Returns false, and keeps the reason. */
#define MAPRING__NO(...) (mapring__refuse(EPROTO, __VA_ARGS__) == 0)

static inline bool mapring__known_options(uint64_t options)
{
	return options < MAPRING__OPTIONS && (!(options & MAPRING_OPTION_RESIZABLE) || !(options & ~(MAPRING_OPTION_RESIZABLE | MAPRING_OPTION_WAKEABLE))) &&
	       (!(options & MAPRING_OPTION_KEEP_OLDEST) || options & MAPRING_OPTION_WAKEABLE);
}

/* Refuses what no region can be, in the words of the library in Rust. */
static inline bool mapring__within_limits(const struct mapring_layout *l)
{
	bool tails = l->options & MAPRING_OPTION_TAILS, is_bank = mapring__of_bank(l) && l->kind != MAPRING_KIND_READERS;
	unsigned long long record = l->record, capacity = l->capacity, shards = l->shards, longest = l->longest, area = l->area;
	const char *kind = mapring__kind_name(l->kind);

	if (l->kind < MAPRING_KIND_RING || l->kind > MAPRING_KIND_TOP_KEYS)
		return MAPRING__NO(MAPRING__NOT_KIND, (unsigned long long)l->kind);
	if (!mapring__known_options(l->options) || (l->options && l->kind != MAPRING_KIND_RING))
		return MAPRING__NO(MAPRING__NOT_OPTIONS_OF, kind, mapring__option_names(l->options).text);
	if (tails && (area < MAPRING__AREA_MIN || area > MAPRING__AREA_MAX || !mapring__power_of_two(area) || longest < 1 ||
		      longest > area / 2))
		return MAPRING__NO(MAPRING__NOT_TAILS, longest, area);
	if (capacity > MAPRING__ELEMENTS_MAX || shards > MAPRING__ELEMENTS_MAX)
		return MAPRING__NO(MAPRING__NOT_ENTRIES, capacity > shards ? capacity : shards);
	if (record < 1 || record > MAPRING__RECORD_MAX)
		return MAPRING__NO(MAPRING__NOT_RECORD, record);
	if ((mapring__has_slots(l) || l->kind == MAPRING_KIND_TOP_KEYS) && !mapring__power_of_two(capacity))
		return MAPRING__NO(MAPRING__NOT_SLOTS, capacity);
	if (mapring__of_bank(l) == 8 && record != 8)
		return MAPRING__NO(MAPRING__NOT_COUNTER, record);
	if (l->kind == MAPRING_KIND_READERS && capacity != MAPRING__SEATS)
		return MAPRING__NO(MAPRING__NOT_READERS, capacity);
	if (l->kind == MAPRING_KIND_TOP_KEYS && record != MAPRING__BUCKET_BYTES)
		return MAPRING__NO(MAPRING__NOT_BUCKET, record);
	if (l->kind == MAPRING_KIND_GAUGES && record != MAPRING__GAUGE_BYTES)
		return MAPRING__NO(MAPRING__NOT_GAUGE, record);
	if (l->kind == MAPRING_KIND_HISTOGRAMS && record != MAPRING__HISTOGRAM_BYTES)
		return MAPRING__NO(MAPRING__NOT_HISTOGRAM, record);
	if (shards > 1 && l->options & MAPRING_OPTION_PER_CPU_MAPS)
		return MAPRING__NO(MAPRING__NOT_OF_CPU, shards);
	if (shards > 1 && !mapring__is_sharded(l))
		return MAPRING__NO(MAPRING__NOT_SHARDED, shards);
	if (shards > MAPRING__SHARDS_MAX)
		return MAPRING__NO(MAPRING__NOT_SHARDS, shards);
	if (capacity < 1 || shards < 1)
		return MAPRING__NO(MAPRING__NOT_EMPTY, kind, capacity, shards);
	if (is_bank && capacity > MAPRING__RECORD_MAX / record)
		return MAPRING__NO(MAPRING__NOT_ENTRIES, capacity);
	return !tails || record > MAPRING__TAIL_PREFIX || MAPRING__NO(MAPRING__NOT_TAILED, record);
}

/* The first element of a shard, of a region that has banks, buckets or seats of readers. */
static inline uint64_t mapring__bank(const struct mapring_layout *l, uint64_t shard)
{
	uint64_t each = l->kind == MAPRING_KIND_READERS ? 3 : l->kind == MAPRING_KIND_TOP_KEYS ? l->capacity : 1;

	return l->first + shard * each;
}

/* The elements of a shard's slots. */
static inline uint64_t mapring__slot_elements(const struct mapring_layout *l)
{
	return mapring__round_up(l->capacity, l->per_lines);
}

/* The bytes of the slots of a shard with tails. */
static inline uint64_t mapring__tail_slots(const struct mapring_layout *l)
{
	return mapring__round_up(l->capacity * l->slot, MAPRING__LINE);
}

/* Computes what is computed. Returns false if the description exceeds a limit, or contradicts itself, and keeps the reason. */
static inline bool mapring__complete(struct mapring_layout *l)
{
	uint64_t in_line;

	if (!mapring__within_limits(l))
		return false;
	if (mapring__of_bank(l))
		l->size = mapring__round_up(l->record * l->capacity, MAPRING__LINE);
	else
		l->size = 8 + mapring__round_up(l->record, 8) * (l->kind == MAPRING_KIND_LATCHES ? 2 : 1);
	l->slot = l->size;
	in_line = l->size & -l->size; /* the largest power of two that divides it */
	l->per_lines = MAPRING__LINE / mapring__least(in_line, MAPRING__LINE);
	l->first = mapring__round_up(mapring__round_up(8 * MAPRING__PREAMBLE_WORDS, l->size) / l->size, l->per_lines);
	if (l->kind == MAPRING_KIND_READERS)
		l->first = 4; /* with the owners of the seats, their leases, and what they want */
	l->header = 0;
	if (mapring__has_slots(l)) {
		l->header = mapring__round_up(mapring__round_up(MAPRING__LINE, l->size) / l->size, l->per_lines);
		l->elements = l->first + l->shards * (l->header + mapring__slot_elements(l));
	} else if (mapring__is_sharded(l)) {
		l->elements = mapring__bank(l, l->shards);
	} else {
		l->elements = l->first + (mapring__of_bank(l) ? 1 : l->capacity);
	}
	if (l->elements > MAPRING__ELEMENTS_MAX)
		return MAPRING__NO(MAPRING__NOT_ENTRIES, (unsigned long long)l->elements);
	if (!(l->options & MAPRING_OPTION_TAILS))
		return true;
	/* Each shard is one element. As an ordinary ring it was within the limits. */
	l->size = MAPRING__TAIL_FIRST_SLOT + mapring__tail_slots(l) + l->area + mapring__round_up(l->longest, MAPRING__LINE);
	l->per_lines = 1;
	l->first = l->header = 0;
	l->elements = l->shards;
	return l->size <= MAPRING__ELEMENT_MAX || MAPRING__NO(MAPRING__NOT_SHARD, (unsigned long long)l->size);
}

/* Words from the start of a region with slots to a shard's header, its slots, its header for tails, and its area for tails. */
static inline uint64_t mapring__header_at(const struct mapring_layout *l, uint64_t shard)
{
	uint64_t slots = l->options & MAPRING_OPTION_RESIZABLE ? 0 : mapring__slot_elements(l);

	if (l->options & MAPRING_OPTION_TAILS)
		return (shard * l->size + MAPRING__TAIL_SHARD) / 8;
	return (l->first + shard * (l->header + slots)) * l->size / 8;
}

static inline uint64_t mapring__slots_at(const struct mapring_layout *l, uint64_t shard)
{
	if (l->options & MAPRING_OPTION_TAILS)
		return (shard * l->size + MAPRING__TAIL_FIRST_SLOT) / 8;
	if (l->options & MAPRING_OPTION_RESIZABLE)
		return mapring__header_at(l, l->shards) + shard * mapring__slot_elements(l) * l->size / 8;
	return mapring__header_at(l, shard) + l->header * l->size / 8;
}

static inline uint64_t mapring__tails_at(const struct mapring_layout *l, uint64_t shard)
{
	return (shard * l->size + MAPRING__TAIL_HEADER) / 8;
}

static inline uint64_t mapring__area_at(const struct mapring_layout *l, uint64_t shard)
{
	return mapring__slots_at(l, shard) + mapring__tail_slots(l) / 8;
}

/* Reads word 2 of a preamble, whose bits all must have a meaning. Returns false if one has none. */
static inline bool mapring__read_kind(struct mapring_layout *l, uint64_t word)
{
	uint64_t log2 = word >> 16 & 0xff;
	bool tails = word >> 8 & MAPRING_OPTION_TAILS;

	l->kind = word & 0xff;
	l->options = word >> 8 & 0xff;
	if (tails) {
		l->longest = word >> 32;
		l->area = log2 < 64 ? 1ULL << log2 : 0;
	}
	return (mapring__known_options(l->options) && (tails ? word >> 24 & 0xff : word >> 16) == 0) ||
	       MAPRING__NO(MAPRING__NOT_OPTIONS, (unsigned long long)(word >> 8));
}

/* Word 2 of the preamble of such a region. */
static inline uint64_t mapring__kind_word(const struct mapring_layout *l)
{
	uint64_t tails = l->options & MAPRING_OPTION_TAILS ? l->longest << 32 | (uint64_t)__builtin_ctzll(l->area) << 16 : 0;

	return l->kind | l->options << 8 | tails;
}

/* Reads a preamble. Returns 0, or refuses it. */
static inline int mapring__read_preamble_words(struct mapring_layout *l, const uint64_t words[MAPRING__PREAMBLE_WORDS])
{
	uint64_t gate = words[MAPRING__GATE] & 0xff;

	if (words[0] == 0)
		return mapring__refuse(EPROTO, MAPRING__NOT_MAGIC "; its loader writes one with mapring_loader__initialize (in Rust "
							 "mapring_loader::initialize) once the map is loaded",
				       0ULL, (unsigned long long)mapring__magic());
	if (words[0] != mapring__magic())
		return mapring__refuse(EPROTO, MAPRING__NOT_MAGIC "; mapring's macros did not declare this map",
				       (unsigned long long)words[0], (unsigned long long)mapring__magic());
	if (words[1] < MAPRING_ABI_VERSION)
		return mapring__refuse(EPROTO, MAPRING__NOT_VERSION MAPRING__NOT_VERSION_OLDER, (unsigned long long)words[1]);
	if (words[1] != MAPRING_ABI_VERSION)
		return mapring__refuse(EPROTO, MAPRING__NOT_VERSION, (unsigned long long)words[1]);
	memset(l, 0, sizeof(*l));
	l->record = words[MAPRING__RECORD];
	l->capacity = words[MAPRING__CAPACITY];
	l->shards = words[MAPRING__SHARDS];
	if (!mapring__read_kind(l, words[MAPRING__KIND]) || !mapring__complete(l))
		return -EPROTO;
	if (l->options & MAPRING_OPTION_RESIZABLE ? gate != MAPRING__GATE_OPEN && gate != MAPRING__GATE_RETIRED : gate != 0)
		return mapring__refuse(EPROTO, MAPRING__NOT_GATE, (unsigned long long)gate);
	if (words[MAPRING__SIZE] != l->size)
		return mapring__refuse(EPROTO, MAPRING__NOT_ELEMENT, (unsigned long long)words[MAPRING__SIZE],
				       (unsigned long long)l->size);
	return 0;
}

#endif
