/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The positions of all data in a region: docs/abi.md, "Sizes" and "Preamble". Accesses no shared memory. */
#ifndef MAPRING_C_LAYOUT_H
#define MAPRING_C_LAYOUT_H

/* The version of the layout that this header reads. */
#define MAPRING_ABI_VERSION 3

enum mapring_kind {
	MAPRING_KIND_RING = 1,
	MAPRING_KIND_CELLS,
	MAPRING_KIND_COUNTERS,
	MAPRING_KIND_LATCHES,
	MAPRING_KIND_PERCPU_CELLS,
	MAPRING_KIND_PERCPU_COUNTERS,
	MAPRING_KIND_HISTOGRAMS,
	MAPRING_KIND_GAUGES,
	MAPRING_KIND_READERS,
	MAPRING_KIND_COMMANDS,
	MAPRING_KIND_TOP_KEYS
};

/* The options of a ring. */
enum {
	MAPRING_OPTION_WAKEABLE = 1,
	MAPRING_OPTION_KEEP_OLDEST = 2,
	MAPRING_OPTION_TAILS = 4,
	MAPRING_OPTION_PER_CPU_MAPS = 8,
	MAPRING_OPTION_RESIZABLE = 16,
	MAPRING__OPTIONS = 32
};

/* Words of the preamble. */
enum {
	MAPRING__LOADER = 11,
	MAPRING__NO_PLACE,
	MAPRING__LINK,
	MAPRING__GATE,
	MAPRING__BEFORE,
	MAPRING__PREAMBLE
};

struct mapring_layout {
	/* The region's own description. */
	uint64_t kind, record, capacity, shards;
	uint64_t options;
	uint64_t longest, area; /* of tails: bytes of the longest one, and of the area that they are in */
	/* Computed from it: bytes of an element and of a slot, and numbers of elements. */
	uint64_t size, slot, per_lines, first, header, elements;
};

/* Bytes. */
#define MAPRING__LINE 64
#define MAPRING__RECORD_MAX ((1ULL << 29) - 8)
#define MAPRING__BANK_MAX (((1ULL << 26) - 1) * 8)
#define MAPRING__HISTOGRAM 4096
#define MAPRING__GAUGE_SIZE 16384
#define MAPRING__BUCKET 248
#define MAPRING__AREA_MIN 128
#define MAPRING__AREA_MAX (1ULL << 28)
#define MAPRING__TAIL_SHARD_MAX (1ULL << 29)
/* Numbers. */
#define MAPRING__PLACES 64
#define MAPRING__SLOTS_MAX (1ULL << 31)
#define MAPRING__SHARDS_MAX 65536
#define MAPRING__ELEMENTS_MAX 0xffffffffULL

/* A shard with tails: bytes to its parts, and the words that its records begin with. */
enum { MAPRING__TAIL_SHARD = 128, MAPRING__TAIL_HEADER = 192, MAPRING__TAIL_SLOTS = 448, MAPRING__TAIL_WORDS = 2 };

/* The name of a kind of region. */
static inline const char *mapring__kind_name(uint64_t kind)
{
	static const char *const NAMES[] = {
		"nothing", "ring", "cells", "counters", "latches", "cells for each CPU", "counters for each CPU",
		"histograms", "gauges", "readers", "commands", "top keys",
	};

	return kind < sizeof(NAMES) / sizeof(NAMES[0]) ? NAMES[kind] : "an unknown kind";
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
		return MAPRING__HISTOGRAM;
	case MAPRING_KIND_GAUGES:
		return MAPRING__GAUGE_SIZE;
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
	bool tails = l->options & MAPRING_OPTION_TAILS;
	uint64_t one = l->kind == MAPRING_KIND_TOP_KEYS ? MAPRING__BUCKET : mapring__of_bank(l);
	unsigned long long record = l->record, capacity = l->capacity, shards = l->shards, longest = l->longest, area = l->area;
	const char *kind = mapring__kind_name(l->kind);

	if (l->kind < MAPRING_KIND_RING || l->kind > MAPRING_KIND_TOP_KEYS)
		return MAPRING__NO("a region of unknown kind %llu, this library knows 1 (ring) to 11 (top keys)", (unsigned long long)l->kind);
	if (!mapring__known_options(l->options) || (l->options && l->kind != MAPRING_KIND_RING))
		return MAPRING__NO("%s with the options 0x%llx: only rings have options, and a RESIZABLE ring has no others except WAKEABLE", kind,
				   (unsigned long long)l->options);
	if (tails && (area < MAPRING__AREA_MIN || area > MAPRING__AREA_MAX || !mapring__power_of_two(area) || longest < 1 ||
		      longest > area / 2))
		return MAPRING__NO("tails of up to %llu bytes in %llu bytes: the area is a power of two from 128 to 2^28, and at least "
				   "twice the longest tail", longest, area);
	if (capacity > MAPRING__ELEMENTS_MAX || shards > MAPRING__ELEMENTS_MAX)
		return MAPRING__NO("%llu elements: a map has at most %llu", capacity > shards ? capacity : shards, MAPRING__ELEMENTS_MAX);
	if (record < 1 || record > MAPRING__RECORD_MAX)
		return MAPRING__NO("records of %llu bytes: a record has 1 to %llu bytes", record, MAPRING__RECORD_MAX);
	if ((mapring__has_slots(l) || l->kind == MAPRING_KIND_TOP_KEYS) && !mapring__power_of_two(capacity))
		return MAPRING__NO("a ring needs a power of two of slots, and top keys of buckets (1, 2, 4, …), not %llu", capacity);
	if (one && record != one)
		return MAPRING__NO("%s of %llu bytes: one has %llu bytes", kind, record, (unsigned long long)one);
	if (l->kind == MAPRING_KIND_READERS && capacity != MAPRING__PLACES)
		return MAPRING__NO("readers with %llu places, this library knows %d", capacity, MAPRING__PLACES);
	if (shards > 1 && l->options & MAPRING_OPTION_PER_CPU_MAPS)
		return MAPRING__NO("%llu shards in the map of one CPU: it has 1", shards);
	if (shards > 1 && !mapring__is_sharded(l))
		return MAPRING__NO("only rings, counters, histograms, gauges and top keys have shards, and not in per-CPU maps: 1 shard, "
				   "not %llu", shards);
	if (shards > MAPRING__SHARDS_MAX)
		return MAPRING__NO("%llu shards: a region has at most %d", shards, MAPRING__SHARDS_MAX);
	if (capacity < 1 || shards < 1)
		return MAPRING__NO("%s with %llu entries in %llu shards: both must be at least 1", kind, capacity, shards);
	if (mapring__of_bank(l) && capacity > MAPRING__BANK_MAX / one)
		return MAPRING__NO("%llu elements: a map has at most %llu", capacity, MAPRING__ELEMENTS_MAX);
	return !tails || record > 8 * MAPRING__TAIL_WORDS ||
	       MAPRING__NO("records with tails have more than %d bytes, not %llu", 8 * MAPRING__TAIL_WORDS, record);
}

/* The first element of a shard, of a region that has banks, buckets or places of readers. */
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
	l->first = mapring__round_up(mapring__round_up(8 * MAPRING__PREAMBLE, l->size) / l->size, l->per_lines);
	if (l->kind == MAPRING_KIND_READERS)
		l->first = 4; /* with the owners of the places, their leases, and what they want */
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
		return MAPRING__NO("%llu elements: a map has at most %llu", (unsigned long long)l->elements, MAPRING__ELEMENTS_MAX);
	if (!(l->options & MAPRING_OPTION_TAILS))
		return true;
	/* Each shard is one element. As an ordinary ring it was within the limits. */
	l->size = MAPRING__TAIL_SLOTS + mapring__tail_slots(l) + l->area + mapring__round_up(l->longest, MAPRING__LINE);
	l->per_lines = 1;
	l->first = l->header = 0;
	l->elements = l->shards;
	return l->size <= MAPRING__TAIL_SHARD_MAX ||
	       MAPRING__NO("a shard of %llu bytes, with its tails: the kernel takes at most %llu", (unsigned long long)l->size,
			   MAPRING__TAIL_SHARD_MAX);
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
		return (shard * l->size + MAPRING__TAIL_SLOTS) / 8;
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
	       MAPRING__NO("a ring with unknown options 0x%llx", (unsigned long long)(word >> 8));
}

/* Word 2 of the preamble of such a region. */
static inline uint64_t mapring__kind_word(const struct mapring_layout *l)
{
	uint64_t tails = l->options & MAPRING_OPTION_TAILS ? l->longest << 32 | (uint64_t)__builtin_ctzll(l->area) << 16 : 0;

	return l->kind | l->options << 8 | tails;
}

/* Reads a preamble. Returns 0, or refuses it. */
static inline int mapring__read_preamble_words(struct mapring_layout *l, const uint64_t words[MAPRING__PREAMBLE])
{
	uint64_t gate = words[MAPRING__GATE] & 0xff;

	if (words[0] != mapring__magic())
		return mapring__refuse(EPROTO, "no preamble: the first word is 0x%016llx, expected 0x%016llx (\"mapring\")%s",
				       (unsigned long long)words[0], (unsigned long long)mapring__magic(),
				       words[0] ? "; mapring's macros did not declare this map" :
						  "; its loader writes one with mapring_loader__initialize (in Rust "
						  "mapring::loader::initialize) once the map is loaded");
	if (words[1] != MAPRING_ABI_VERSION)
		return mapring__refuse(EPROTO,
				       "layout version %llu, this library knows %d: build program, loader and reader with one "
				       "version of mapring%s",
				       (unsigned long long)words[1], MAPRING_ABI_VERSION,
				       words[1] < MAPRING_ABI_VERSION ? ", and replace what an older one has pinned" : "");
	memset(l, 0, sizeof(*l));
	l->record = words[3];
	l->capacity = words[4];
	l->shards = words[5];
	if (!mapring__read_kind(l, words[2]) || !mapring__complete(l))
		return -EPROTO;
	if (l->options & MAPRING_OPTION_RESIZABLE ? gate != 1 && gate != 3 : gate != 0)
		return mapring__refuse(EPROTO, "a gate of state %llu: a resizable ring has 1 (open) or 3 (retired), any other region 0",
				       (unsigned long long)gate);
	if (words[6] != l->size)
		return mapring__refuse(EPROTO, "elements of %llu bytes where the records make them %llu",
				       (unsigned long long)words[6], (unsigned long long)l->size);
	return 0;
}

#endif
