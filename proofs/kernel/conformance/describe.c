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
		if (l->sort == WITH_TAILS)
			type = slot_type(btf, type);
		return type ? btf_size(btf, btf_member(btf, type, "record")) : 0;
	}
}

const char *layout_of_btf(struct layout *l, const struct btf *btf, uint32_t type_id, uint64_t elements)
{
	static const struct {
		const char *prefix;
		enum kind kind;
		bool resizable;
		enum sort sort;
	} KINDS[] = {
		{ "mapring_ring__", RING, false, PLAIN },
		{ "mapring_tail_ring__", RING, false, WITH_TAILS },
		{ "mapring_keep_ring__", RING, false, KEEPS_OLDEST },
		{ "mapring_inner_ring__", RING, true, PLAIN },
		{ "mapring_numa_ring__", RING, false, ONE_CPU },
		{ "mapring_cell__", CELLS, false, PLAIN },
		{ "mapring_latch__", LATCHES, false, PLAIN },
		{ "mapring_counters__", COUNTERS, false, PLAIN },
		{ "mapring_percpu_cell__", PERCPU_CELLS, false, PLAIN },
		{ "mapring_percpu_counters__", PERCPU_COUNTERS, false, PLAIN },
		{ "mapring_commands__", COMMANDS, false, PLAIN },
		{ "mapring_histograms__", HISTOGRAMS, false, PLAIN },
		{ "mapring_gauges__", GAUGES, false, PLAIN },
		{ "mapring_top__", TOP_KEYS, false, PLAIN },
		{ "mapring_readers__", READERS, false, PLAIN },
	};
	const struct btf_type *type = btf_type(btf, type_id);

	*l = (struct layout){ .shards = 1 };
	for (size_t i = 0; type && i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
		if (strncmp(btf_name(btf, type), KINDS[i].prefix, strlen(KINDS[i].prefix)) == 0) {
			l->kind = KINDS[i].kind;
			l->resizable = KINDS[i].resizable;
			l->sort = KINDS[i].sort;
		}
	}
	if (l->kind == 0)
		return "no preamble, and its types are not mapring's";
	l->capacity = inner_length(btf, type, "mapring_any");
	if (l->capacity == 0)
		l->capacity = inner_length(btf, type, "mapring_tso");
	l->record = record_size(l, btf, type);
	if (l->sort == WITH_TAILS) {
		l->longest = inner_length(btf, type, "mapring_longest");
		l->area = inner_length(btf, type, "mapring_tails");
	}
	l->keeps = l->sort == KEEPS_OLDEST || inner_length(btf, type, "mapring_keeps_oldest") == 1;

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
