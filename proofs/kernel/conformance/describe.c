/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "describe.h"

#include <string.h>

/* The inner length of a member such as `__u8 mapring_any[0][length]`; 0 without such a member. */
static uint64_t inner_length(const struct btf *btf, const struct btf_type *type, const char *name)
{
	const struct btf_type *array = btf_resolve(btf, btf_member(btf, type, name));

	if (!array || BTF_INFO_KIND(array->info) != BTF_KIND_ARRAY)
		return 0;
	return btf_size(btf, ((const struct btf_array *)(array + 1))->type);
}

/* The struct of a ring with tails in an element of its member `slot`, an array. */
static const struct btf_type *slot_type(const struct btf *btf, const struct btf_type *type)
{
	const struct btf_type *array = btf_resolve(btf, btf_member(btf, type, "slot"));

	if (!array || BTF_INFO_KIND(array->info) != BTF_KIND_ARRAY)
		return NULL;
	return btf_resolve(btf, ((const struct btf_array *)(array + 1))->type);
}

/* The bytes of a record or value. */
static uint64_t record_size(const struct layout *l, const struct btf *btf, const struct btf_type *type)
{
	switch (l->kind) {
	case COUNTERS:
	case PERCPU_COUNTERS:
	case READERS:
		return 8;
	case HISTOGRAMS:
		return 4096;
	case GAUGES:
		return 16384;
	case TOP_KEYS:
		return 248;
	default:
		if (l->options & TAILS)
			type = slot_type(btf, type);
		return type ? btf_size(btf, btf_member(btf, type, "record")) : 0;
	}
}

const char *layout_of_btf(struct layout *l, const struct btf *btf, uint32_t type_id, uint64_t elements)
{
	static const struct {
		const char *prefix;
		enum kind kind;
	} KINDS[] = {
		{ "mapring_ring__", RING },
		{ "mapring_cell__", CELLS },
		{ "mapring_latch__", LATCHES },
		{ "mapring_counters__", COUNTERS },
		{ "mapring_percpu_cell__", PERCPU_CELLS },
		{ "mapring_percpu_counters__", PERCPU_COUNTERS },
		{ "mapring_commands__", COMMANDS },
		{ "mapring_histograms__", HISTOGRAMS },
		{ "mapring_gauges__", GAUGES },
		{ "mapring_top__", TOP_KEYS },
		{ "mapring_readers__", READERS },
	};
	const struct btf_type *type = btf_type(btf, type_id);

	*l = (struct layout){ .shards = 1 };
	for (size_t i = 0; type && i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
		if (strncmp(btf_name(btf, type), KINDS[i].prefix, strlen(KINDS[i].prefix)) == 0)
			l->kind = KINDS[i].kind;
	}
	if (l->kind == 0)
		return "no preamble, and its types are not mapring's";
	l->capacity = inner_length(btf, type, "mapring_any");
	if (l->capacity == 0)
		l->capacity = inner_length(btf, type, "mapring_tso");
	/* Types of version 2 have no such member. */
	if (l->kind == RING && !btf_member(btf, type, "mapring_options"))
		return "no preamble, and its types are of an older version";
	l->options = inner_length(btf, type, "mapring_options");
	l->record = record_size(l, btf, type);
	if (l->options & TAILS) {
		l->longest = inner_length(btf, type, "mapring_longest");
		l->area = inner_length(btf, type, "mapring_tails");
	}

	/* The number of shards is computed from the number of elements. */
	if (!layout_complete(l) || elements < l->first)
		return "types that contradict the map";
	if (layout_is_sharded(l)) {
		uint64_t shard = l->elements - l->first;

		if ((elements - l->first) % shard != 0)
			return "types that contradict the map";
		l->shards = (elements - l->first) / shard;
	}
	return layout_complete(l) ? NULL : "types that contradict the map";
}
