/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tables.h"

#include <stdlib.h>

#define SMALLEST 0xfffffffffULL /* bits 0 to 35 of a gauge's word */

bool read_bank(struct region *r, uint64_t shard, uint64_t at, uint64_t count, uint64_t *words)
{
	uint64_t element = layout_bank(&r->layout, shard);

	if (r->words) {
		copy(words, r->words + element * r->size + at, count);
		return true;
	}
	if (!region_look(r, element))
		return false;
	for (uint64_t i = 0; i < count; i++)
		words[i] = region_median(r, 0, at + i);
	return true;
}

uint64_t histogram_first(uint64_t bucket)
{
	uint64_t shift;

	if (bucket < 16)
		return bucket;
	shift = bucket / 8 - 1;
	return (bucket - 8 * shift) << shift;
}

int read_gauge(struct region *r, uint64_t shard, uint64_t index, struct window *windows)
{
	static uint64_t first[GAUGE_WORDS], then[GAUGE_WORDS];
	int count = 0;

	/* The smallest values, and then the largest ones. */
	if (!read_bank(r, shard, index * GAUGE_WORDS, GAUGE_WORDS, first))
		return -1;
	fence_acquire();
	if (!read_bank(r, shard, index * GAUGE_WORDS, GAUGE_WORDS, then))
		return -1;
	for (uint64_t place = 0; place < GAUGE_WINDOWS; place++) {
		uint64_t least = first[2 * place + 1], most = then[2 * place], turn = least >> 36;

		if (turn == 0 || most >> 36 != turn)
			continue;
		windows[count++] = (struct window){
			.number = (turn - 1) * GAUGE_WINDOWS + place,
			.least = SMALLEST - (least & SMALLEST),
			.most = most & SMALLEST,
		};
	}
	return count;
}

enum look read_top(struct region *r, uint64_t shard, uint64_t bucket, struct top_bucket *copy, uint64_t *version)
{
	struct spot spot = { .element = layout_bank(&r->layout, shard) + bucket, .bytes = sizeof(*copy) };

	return read_cell(r, &spot, (uint64_t *)copy, version);
}

uint64_t top_place(uint64_t key, uint64_t buckets)
{
	return ((key ^ key >> 32) * 0x9e3779b97f4a7c15ULL >> 32) % buckets;
}

void top_bounds(const struct top_bucket *b, const uint64_t *key, uint64_t *least, uint64_t *most)
{
	uint64_t smallest = b->counts[0];

	for (int i = 0; i < TOP_WAYS; i++) {
		if (b->counts[i] < smallest)
			smallest = b->counts[i];
		if (key && b->keys[i] == *key && b->counts[i] != 0) {
			*least = b->counts[i] - b->errors[i];
			*most = b->counts[i] + b->other;
			return;
		}
	}
	*least = 0;
	*most = smallest + b->other;
}
