/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "values.h"

#include <errno.h>
#include <string.h>

/* The first word of a spot in the result of a lookup. */
static uint64_t in_look(const struct region *r, const struct spot *spot)
{
	return (uint64_t)spot->copy * r->size + spot->at;
}

static void take(uint64_t *value, const uint64_t *from, uint64_t words)
{
	memcpy(value, from, words * 8);
}

enum look read_cell(struct region *r, const struct spot *spot, uint64_t *value, uint64_t *version)
{
	uint64_t words = words_of(spot->bytes), at = in_look(r, spot), seq;

	if (r->words) {
		word *cell = r->words + spot->element * r->size + spot->at;

		seq = load(cell);
		if (seq & 1)
			return BUSY;
		fence_acquire();
		copy(value, cell + 1, words);
		fence_acquire();
		if (load(cell) != seq)
			return BUSY;
	} else {
		if (!region_look(r, spot->element))
			return FAILED;
		seq = r->looks[0][at];
		if (seq & 1 || r->looks[2][at] != seq)
			return BUSY;
		take(value, r->looks[1] + at + 1, words);
	}
	*version = seq / 2;
	return WHOLE;
}

enum look read_latch(struct region *r, const struct spot *spot, uint64_t *value, uint64_t *version)
{
	uint64_t words = words_of(spot->bytes), at = in_look(r, spot), seq;

	if (r->words) {
		word *latch = r->words + spot->element * r->size + spot->at;

		seq = load(latch);
		fence_acquire();
		copy(value, latch + 1 + (seq & 1) * words, words);
		fence_acquire();
		if (load(latch) != seq)
			return BUSY;
	} else {
		if (!region_look(r, spot->element))
			return FAILED;
		seq = r->looks[0][at];
		if (r->looks[2][at] != seq)
			return BUSY;
		take(value, r->looks[1] + at + 1 + (seq & 1) * words, words);
	}
	*version = seq;
	return WHOLE;
}

enum look read_counter(struct region *r, uint64_t bank, int copy, uint64_t index, uint64_t *value)
{
	*value = region_word(r, bank, index);
	if (r->failed)
		return FAILED;
	/* The lookups returned all copies. */
	if (copy > 0)
		*value = region_median(r, copy, index);
	return WHOLE;
}

const char *find_global(const struct btf *btf, uint32_t section_id, const char *name, struct spot *spot, bool *is_cell)
{
	const struct btf_type *section = btf_type(btf, section_id), *type;
	uint32_t offset, variable;
	const char *struct_name;

	errno = 0;
	variable = section ? btf_variable(btf, section, name, &offset) : 0;
	type = btf_resolve(btf, variable);
	if (!type)
		return "no such variable";
	struct_name = btf_name(btf, type);
	*is_cell = strncmp(struct_name, "mapring_global_cell__", 21) == 0;
	if (!*is_cell && strncmp(struct_name, "mapring_global_latch__", 22) != 0)
		return "a variable that is neither a cell nor a latch";
	*spot = (struct spot){ .at = offset / 8, .bytes = btf_size(btf, btf_member(btf, type, "record")) };
	return offset % 8 == 0 && spot->bytes != 0 ? NULL : "a variable of a strange type";
}

bool global_fits(const struct region *r, const struct spot *spot, bool is_cell)
{
	uint64_t words = words_of(spot->bytes);

	/* The count of dropped updates follows a cell. */
	return words < r->size && spot->at < r->size && (is_cell ? words + 2 : 2 * words + 1) <= r->size - spot->at;
}
