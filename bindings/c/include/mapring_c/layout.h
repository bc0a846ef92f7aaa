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

static inline bool mapring__within_limits(const struct mapring_layout *l)
{
	uint64_t bank = mapring__of_bank(l);
	bool is_top = l->kind == MAPRING_KIND_TOP_KEYS, tails = l->options & MAPRING_OPTION_TAILS;

	if (l->kind < MAPRING_KIND_RING || l->kind > MAPRING_KIND_TOP_KEYS)
		return false;
	if (l->record < 1 || l->record > MAPRING__RECORD_MAX || (bank && l->record != bank) ||
	    (is_top && l->record != MAPRING__BUCKET))
		return false;
	if (l->capacity < 1 || l->capacity > MAPRING__ELEMENTS_MAX || (bank && l->capacity > MAPRING__BANK_MAX / bank) ||
	    (l->kind == MAPRING_KIND_READERS && l->capacity != MAPRING__PLACES))
		return false;
	if ((mapring__has_slots(l) || is_top) && (l->capacity > MAPRING__SLOTS_MAX || !mapring__power_of_two(l->capacity)))
		return false;
	if (l->shards < 1 || l->shards > (mapring__is_sharded(l) ? MAPRING__SHARDS_MAX : 1))
		return false;
	if (l->options && (l->kind != MAPRING_KIND_RING || l->options >= MAPRING__OPTIONS))
		return false;
	if ((l->options & MAPRING_OPTION_RESIZABLE) && l->options != MAPRING_OPTION_RESIZABLE)
		return false;
	if ((l->options & MAPRING_OPTION_KEEP_OLDEST) && !(l->options & MAPRING_OPTION_WAKEABLE))
		return false;
	return !tails || (l->area >= MAPRING__AREA_MIN && l->area <= MAPRING__AREA_MAX && mapring__power_of_two(l->area) &&
			  l->longest >= 1 && l->longest <= l->area / 2 && l->record > 8 * MAPRING__TAIL_WORDS);
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

/* Computes what is computed. Returns false if the description exceeds a limit, or contradicts itself. */
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
		return false;
	if (!(l->options & MAPRING_OPTION_TAILS))
		return true;
	/* Each shard is one element. As an ordinary ring it was within the limits. */
	l->size = MAPRING__TAIL_SLOTS + mapring__tail_slots(l) + l->area + mapring__round_up(l->longest, MAPRING__LINE);
	l->per_lines = 1;
	l->first = l->header = 0;
	l->elements = l->shards;
	return l->size <= MAPRING__TAIL_SHARD_MAX;
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

	l->kind = word & 0xff;
	l->options = word >> 8 & 0xff;
	if (l->options >= MAPRING__OPTIONS)
		return false;
	if (!(l->options & MAPRING_OPTION_TAILS))
		return word >> 16 == 0;
	l->longest = word >> 32;
	l->area = log2 < 64 ? 1ULL << log2 : 0;
	return (word >> 24 & 0xff) == 0;
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
	bool known;

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
	known = mapring__read_kind(l, words[2]);
	if (!known)
		return mapring__refuse(EPROTO, "an unknown option: a newer version of mapring may know it");
	if (l->options & MAPRING_OPTION_RESIZABLE ? gate != 1 && gate != 3 : gate != 0)
		return mapring__refuse(EPROTO, "an unknown state of the gate");
	if (!mapring__complete(l))
		return mapring__refuse(EPROTO, "a preamble that contradicts itself, or is beyond a limit");
	if (words[6] != l->size)
		return mapring__refuse(EPROTO, "elements of %llu bytes where the records make them %llu",
				       (unsigned long long)words[6], (unsigned long long)l->size);
	return 0;
}

#endif
