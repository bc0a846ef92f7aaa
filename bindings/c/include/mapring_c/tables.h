/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Histograms, gauges and top keys: the banks and buckets that each shard has. */
#ifndef MAPRING_C_TABLES_H
#define MAPRING_C_TABLES_H

/* Reads `count` words of a shard's bank, each once. */
static inline int mapring__read_bank(struct mapring_region *r, uint64_t shard, uint64_t at, uint64_t count, uint64_t *words)
{
	uint64_t element = mapring__bank(&r->layout, shard);

	if (r->words) {
		mapring__copy(words, r->words + element * r->size + at, count);
		return 0;
	}
	if (!mapring__look(r, element))
		return mapring__lookup_error(r);
	for (uint64_t i = 0; i < count; i++)
		words[i] = mapring__median(r, 0, at + i);
	return 0;
}

/* How many values fell into each bucket. */
struct mapring_histogram {
	uint64_t counts[MAPRING_BUCKETS];
};

/* The smallest value of a bucket, and its largest. */
static inline uint64_t mapring_histogram__first(uint64_t bucket)
{
	uint64_t shift = bucket < 16 ? 0 : bucket / 8 - 1;

	return (bucket - 8 * shift) << shift;
}

static inline uint64_t mapring_histogram__last(uint64_t bucket)
{
	uint64_t shift = bucket < 16 ? 0 : bucket / 8 - 1;

	return mapring_histogram__first(bucket) + ((1ULL << shift) - 1);
}

/* Adds histogram `index` of a shard to a copy, which begins with zeros. For the sum of all CPUs, call it for each shard. */
static inline int mapring_histogram__add(struct mapring_region *r, uint64_t shard, uint64_t index, struct mapring_histogram *sum)
{
	uint64_t counts[MAPRING_BUCKETS];
	int error;

	if (r->layout.kind != MAPRING_KIND_HISTOGRAMS || index >= r->layout.capacity || shard >= r->layout.shards)
		return mapring__out_of_range(r, index);
	error = mapring__read_bank(r, shard, index * MAPRING__HISTOGRAM_WORDS, MAPRING_BUCKETS, counts);
	for (int i = 0; i < MAPRING_BUCKETS && !error; i++)
		sum->counts[i] += counts[i];
	return error;
}

/* The bucket of the value below or at which `percent` percent of all values are: -1 if there is none. */
static inline int mapring_histogram__percentile(const struct mapring_histogram *h, double percent)
{
	double count = 0, rank, seen = 0;

	for (int i = 0; i < MAPRING_BUCKETS; i++)
		count += (double)h->counts[i];
	/* 16.1 percent of 1000 are 161, but the product is a little more. */
	rank = percent / 100 * count * (1 - 1e-15);
	for (int i = 0; i < MAPRING_BUCKETS; i++) {
		seen += (double)h->counts[i];
		if (h->counts[i] != 0 && (seen >= rank || seen >= count))
			return i;
	}
	return -1;
}

/* The smallest and the largest value of a window of 2^20 ns of CLOCK_MONOTONIC. */
struct mapring_window {
	uint64_t number, least, most;
};

/* Reads the windows of gauge `index` of a shard, in no order. Returns their number, at most MAPRING_WINDOWS, or a negative errno. */
static inline int mapring_gauge__read(struct mapring_region *r, uint64_t shard, uint64_t index, struct mapring_window *windows)
{
	uint64_t *first, *then;
	int count = 0, error;

	if (r->layout.kind != MAPRING_KIND_GAUGES || index >= r->layout.capacity || shard >= r->layout.shards)
		return mapring__out_of_range(r, index);
	first = (uint64_t *)calloc(2 * MAPRING__GAUGE_WORDS, sizeof(*first));
	if (!first)
		return mapring__refuse(ENOMEM, "no memory for a gauge");
	then = first + MAPRING__GAUGE_WORDS;
	/* The smallest values, and then the largest ones. */
	error = mapring__read_bank(r, shard, index * MAPRING__GAUGE_WORDS, MAPRING__GAUGE_WORDS, first);
	mapring__fence_acquire(); /* SYNC extremes: pairs with the compare-and-swap of the smallest value */
	if (!error)
		error = mapring__read_bank(r, shard, index * MAPRING__GAUGE_WORDS, MAPRING__GAUGE_WORDS, then);
	for (uint64_t place = 0; place < MAPRING_WINDOWS && !error; place++) {
		uint64_t least = first[2 * place + 1], most = then[2 * place], turn = least >> 36;

		if (turn == 0 || most >> 36 != turn)
			continue;
		windows[count].number = (turn - 1) * MAPRING_WINDOWS + place;
		windows[count].least = MAPRING__GAUGE_MAX - (least & MAPRING__GAUGE_MAX);
		windows[count].most = most & MAPRING__GAUGE_MAX;
		count++;
	}
	free(first);
	return error ? error : count;
}

/* A copy of a bucket, without its sequence. */
struct mapring__bucket {
	uint64_t other, keys[MAPRING_KEYS], counts[MAPRING_KEYS], errors[MAPRING_KEYS];
};

/* The bucket that counts a key. */
static inline uint64_t mapring__bucket_of(uint64_t key, uint64_t buckets)
{
	return ((key ^ key >> 32) * 0x9e3779b97f4a7c15ULL >> 32) % buckets;
}

/* Adds the bounds of what was added to a key, in its bucket of one shard. With NULL: to any key that is not listed. */
static inline void mapring__add_bounds(const struct mapring__bucket *b, const uint64_t *key, uint64_t *least, uint64_t *most)
{
	uint64_t smallest = b->counts[0];

	for (int i = 0; i < MAPRING_KEYS; i++) {
		smallest = mapring__least(smallest, b->counts[i]);
		if (key && b->keys[i] == *key && b->counts[i] != 0) {
			*least += b->counts[i] - b->errors[i];
			*most += b->counts[i] + b->other;
			return;
		}
	}
	*most += smallest + b->other;
}

/* A key, with the bounds of what was added to it on all CPUs. */
struct mapring_key {
	uint64_t key, least, most;
};

static inline int mapring__by_most(const void *a, const void *b)
{
	uint64_t left = ((const struct mapring_key *)a)->most, right = ((const struct mapring_key *)b)->most;

	return left < right ? 1 : left > right ? -1 : 0;
}

/* Lists the keys of copies of all buckets, of each shard in turn. Returns their number, at most `room`. */
static inline size_t mapring__list_keys(const struct mapring_layout *l, const struct mapring__bucket *all, struct mapring_key *keys,
					size_t room, uint64_t *unlisted)
{
	size_t count = 0, listed;

	*unlisted = 0;
	for (uint64_t bucket = 0; bucket < l->capacity; bucket++) {
		uint64_t least = 0, most = 0;

		listed = count; /* no key is in two buckets */
		for (uint64_t shard = 0; shard < l->shards; shard++) {
			const struct mapring__bucket *b = &all[shard * l->capacity + bucket];

			mapring__add_bounds(b, NULL, &least, &most);
			for (int way = 0; way < MAPRING_KEYS; way++) {
				struct mapring_key key = { b->keys[way], 0, 0 };
				size_t at = listed;

				while (at < count && keys[at].key != key.key)
					at++;
				if (b->counts[way] == 0 || at < count || count == room ||
				    mapring__bucket_of(key.key, l->capacity) != bucket)
					continue;
				for (uint64_t other = 0; other < l->shards; other++)
					mapring__add_bounds(&all[other * l->capacity + bucket], &key.key, &key.least, &key.most);
				keys[count++] = key;
			}
		}
		*unlisted = mapring__most(*unlisted, most);
	}
	qsort(keys, count, sizeof(*keys), mapring__by_most);
	return count;
}

/* Lists the keys of all shards, the one with the largest bound first. `keys` has room for shards × buckets × MAPRING_KEYS.
 * `*unlisted` is the most that was added to any other key. Returns their number, or a negative errno. */
static inline long mapring_top__read(struct mapring_region *r, struct mapring_key *keys, uint64_t *unlisted)
{
	uint64_t buckets = r->layout.shards * r->layout.capacity, version;
	struct mapring__bucket *all;
	long count = 0;

	if (r->layout.kind != MAPRING_KIND_TOP_KEYS)
		return mapring__refuse(EINVAL, "%s holds %s, expected top keys", r->what, mapring__kind_name(r->layout.kind));
	all = (struct mapring__bucket *)calloc(buckets, sizeof(*all));
	if (!all)
		return mapring__refuse(ENOMEM, "no memory for the buckets");
	for (uint64_t i = 0; i < buckets && count == 0; i++) {
		count = -EBUSY;
		for (int tries = 0; tries < MAPRING__RETRIES && count == -EBUSY; tries++)
			count = mapring__try_value(r, r->layout.first + i, 0, &all[i], &version);
	}
	if (count == -EBUSY)
		mapring__refuse(EBUSY, "a bucket is being written, maybe by a writer that died");
	if (count == 0)
		count = (long)mapring__list_keys(&r->layout, all, keys, buckets * MAPRING_KEYS, unlisted);
	free(all);
	return count;
}

#endif
