/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A reader of a ring, which may be in several maps: one for each CPU, or one after the other. */
#ifndef MAPRING_C_READER_H
#define MAPRING_C_READER_H

/* Where a reader starts: with the oldest record that is present; with the first record of the ring, so that what was overwritten
 * counts as lost; with the next record. */
enum mapring_start { MAPRING_OLDEST, MAPRING_FIRST, MAPRING_NOW };

/* Options of a reader. Zeros are the defaults. */
struct mapring_reader_opts {
	enum mapring_start start;
	int flags;            /* MAPRING_LOOKUP */
	uint64_t patience_ns; /* how long a record that is being written holds back later ones of its shard; 10 ms */
	bool larger;          /* the ring's records may be larger than the program's: it gets their first bytes */
	/* Deliver all shards in the order of these stamps, which programs read from this clock (CLOCK_MONOTONIC). A record that is
	 * being written holds back others for `delay_ns`; 10 ms. */
	mapring_stamp_fn stamp;
	clockid_t clock;
	uint64_t delay_ns;
	uint64_t watermark; /* wait for so many records in one shard, or for a second; 1 in a RESIZABLE ring */
};

struct mapring_event {
	const void *record;
	const void *tail; /* of a ring with TAILS, else NULL */
	size_t tail_length;
	uint64_t ticket;
	uint32_t shard; /* the CPU that wrote it, in a BPF map */
};

/* Gets each record, which is valid until it returns. A negative number ends the call, which returns it. */
typedef int (*mapring_event_fn)(void *context, const struct mapring_event *event);

/* The slot of a shard's next ticket, with its state while that ticket is not claimed. */
struct mapring__idle_shard {
	const uint64_t *slot;
	uint64_t free;
};

struct mapring_reader {
	struct mapring__shard *shards;
	struct mapring__idle_shard *idle;
	uint32_t count, turn;
	struct mapring_region *regions; /* one for all shards, or one for each */
	uint32_t region_count;
	struct mapring__locator locator;
	int beside[2]; /* the readers and bells that are pinned beside the ring, or -1 */
	struct mapring_reader_opts opts;
	uint64_t *buffer;    /* a record, and the longest tail behind it */
	size_t record;       /* bytes of the program's record */
	uint32_t prefix;     /* words before it */
	uint32_t steps;      /* the most steps of a call without a record */
	uint64_t portion;    /* the most records before programs that wait for this reader are told */
	bool by_steps;       /* merged, with tails, or by system call */
	bool look;           /* this pass looks past tickets that are not claimed, in each shard */
	uint32_t until_clock;
	uint64_t clock, looked;
	struct mapring_stats past; /* of the rings before this one, and of missed ones */
	struct mapring__merge *merge;
	struct mapring__seat *seat;
	int seat_error; /* why it has none */
	bool required;
	uint64_t *told; /* of a required reader: the next ticket of each shard, as programs know it */
	uint64_t nap;
};

enum { MAPRING__STEPS = 1 << 14, MAPRING__STEPS_BY_CALL = 1 << 11, MAPRING__SMALL = 256, MAPRING__SLACK = 16 };
/* Passes between two readings of the clock, and the time between two passes that look past tickets. */
enum { MAPRING__PASSES = 64, MAPRING__LOOK_NS = 1000000 };

static inline void mapring__add_stats(struct mapring_stats *sum, const struct mapring_stats *more)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)more;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
}

/* Adds what writers dropped in a region. */
static inline void mapring__add_dropped(struct mapring_stats *sum, struct mapring_region *r)
{
	const struct mapring_layout *l = &r->layout;

	sum->no_shard += mapring__word(r, 0, MAPRING__DROPPED);
	for (uint64_t i = 0; i < l->shards; i++) {
		uint64_t header = mapring__header_at(l, i), tails = mapring__tails_at(l, i);

		sum->no_slot += mapring__word(r, 0, header + MAPRING__NO_SLOT);
		if (l->options & MAPRING_OPTION_KEEP_OLDEST)
			sum->full += mapring__word(r, 0, header + MAPRING__FULL);
		if (l->options & MAPRING_OPTION_TAILS) {
			sum->no_tail += mapring__word(r, 0, tails + MAPRING__TAIL_NO_SPACE);
			sum->too_long += mapring__word(r, 0, tails + MAPRING__TAIL_TOO_LONG);
		}
	}
}

/* All counts since the reader was opened, and what writers dropped since the ring was made. System calls only if the ring is not
 * mapped. Returns 0, or a negative errno if one of them failed. */
static inline int mapring_reader__stats(struct mapring_reader *r, struct mapring_stats *stats)
{
	int error = 0;

	*stats = r->past;
	for (uint32_t i = 0; i < r->count; i++)
		mapring__add_stats(stats, &r->shards[i].stats);
	for (uint32_t i = 0; i < r->region_count; i++) {
		r->regions[i].failed = 0;
		mapring__add_dropped(stats, &r->regions[i]);
		if (r->regions[i].failed)
			error = mapring__lookup_error(&r->regions[i]);
	}
	stats->rings++;
	if (r->merge) {
		stats->late = r->merge->late;
		stats->ahead = r->merge->ahead;
		for (uint32_t i = 0; i < r->count; i++)
			stats->delivered -= r->merge->runs[i].count; /* not yet */
	}
	return error;
}

/* Whether all of it is mapped: then reading makes no system call. */
static inline bool mapring_reader__is_mapped(const struct mapring_reader *r)
{
	for (uint32_t i = 0; i < r->region_count; i++)
		if (!r->regions[i].words)
			return false;
	return true;
}

/* The bytes of the ring's records. */
static inline size_t mapring_reader__record(const struct mapring_reader *r)
{
	return r->record;
}

static inline void mapring__reader_forget(struct mapring_reader *r)
{
	mapring__companions_close(r->beside);
	for (uint32_t i = 0; i < r->region_count; i++)
		mapring__region_close(&r->regions[i]);
	free(r->regions);
	r->regions = NULL;
	r->region_count = 0;
}

static inline void mapring_reader__free(struct mapring_reader *r)
{
	if (!r)
		return;
	if (r->seat)
		mapring__seat_close(r->seat);
	free(r->seat);
	free(r->told);
	mapring__merge_free(r->merge);
	mapring__reader_forget(r);
	free(r->shards);
	free(r->idle);
	free(r->buffer);
	free(r->locator.path);
	if (r->locator.fd >= 0)
		close(r->locator.fd);
	free(r);
}

/* After a shard was read. */
MAPRING__FAST void mapring__note(struct mapring_reader *r, uint32_t i)
{
	const struct mapring__shard *s = &r->shards[i];

	if (s->region->words) {
		r->idle[i].slot = s->region->words + mapring__slot_at(s, s->next);
		r->idle[i].free = mapring__free_for(s, s->next);
	}
}

/* Starts with the shards of the regions. */
static inline int mapring__reader_shards(struct mapring_reader *r, int start)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < r->region_count; i++)
		for (uint64_t shard = 0; shard < r->regions[i].layout.shards; shard++, at++) {
			mapring__shard_open(&r->shards[at], &r->regions[i], shard, start);
			r->shards[at].patience = r->opts.patience_ns;
			memset(&r->shards[at].stats, 0, sizeof(r->shards[at].stats));
			mapring__note(r, at);
			if (r->regions[i].failed)
				return mapring__lookup_error(&r->regions[i]);
		}
	return 0;
}

/* Allocates what a reader of the opened regions needs. */
static inline int mapring__reader_ready(struct mapring_reader *r)
{
	const struct mapring_layout *l = &r->regions[0].layout;
	uint64_t words = mapring__words_of(l->record);
	bool tails = l->options & MAPRING_OPTION_TAILS;

	r->count = r->region_count == 1 ? (uint32_t)l->shards : r->region_count;
	r->prefix = tails ? MAPRING__TAIL_PREFIX / 8 : 0;
	r->record = l->record - 8 * r->prefix;
	r->portion = l->capacity;
	r->shards = (struct mapring__shard *)calloc(r->count, sizeof(*r->shards));
	r->idle = (struct mapring__idle_shard *)calloc(r->count, sizeof(*r->idle));
	/* Stores that cross lines take longer. */
	r->buffer = (uint64_t *)aligned_alloc(MAPRING__LINE, mapring__round_up(8 * (words + mapring__words_of(l->longest) + 1), MAPRING__LINE));
	if (r->opts.stamp)
		r->merge = mapring__merge_new(r->count, words);
	if (!r->shards || !r->idle || !r->buffer || (r->opts.stamp && !r->merge))
		return mapring__refuse(ENOMEM, "no memory for a reader");
	r->by_steps = r->merge || tails || !mapring_reader__is_mapped(r);
	r->steps = mapring_reader__is_mapped(r) ? MAPRING__STEPS : MAPRING__STEPS_BY_CALL;
	/* In a ring that can be replaced, the ticket would be one of this ring only: any record ends a wait. */
	r->opts.watermark = l->options & MAPRING_OPTION_RESIZABLE ? 1 : mapring__least(r->opts.watermark, l->capacity / 2);
	if (r->opts.patience_ns == 0)
		r->opts.patience_ns = 10000000;
	if (r->merge) {
		r->merge->stamp = r->opts.stamp;
		r->merge->clock = r->opts.clock == 0 ? CLOCK_MONOTONIC : r->opts.clock;
		r->merge->delay = r->opts.delay_ns ? r->opts.delay_ns : 10000000;
	}
	for (uint32_t i = 0; i < r->count; i++)
		r->shards[i].number = r->region_count == 1 ? r->regions[0].number + i : r->regions[i].number;
	return mapring__reader_shards(r, r->opts.start);
}

/* Opens the ring of the reader. `*whole`: with what is pinned beside it, unless it was replaced meanwhile. */
static inline int mapring__open_one(struct mapring_reader *r, bool *whole)
{
	const char *pin = r->locator.is_maps ? NULL : r->locator.path;
	int error;

	r->regions = (struct mapring_region *)calloc(1, sizeof(*r->regions));
	if (!r->regions)
		return mapring__refuse(ENOMEM, "no memory for a reader");
	error = mapring__region_open(r->regions, &r->locator);
	r->region_count = error ? 0 : 1;
	if (!error && r->regions->layout.kind != MAPRING_KIND_RING)
		error = mapring__refuse(EINVAL, "%s holds %s, expected ring", r->regions->what,
					mapring__kind_name(r->regions->layout.kind));
	if (!error && pin)
		*whole = mapring__companions(r->regions, pin, r->beside) &&
			 (r->beside[1] >= 0 || !(r->regions->layout.options & MAPRING_OPTION_WAKEABLE) ||
			  mapring__locator_id(&r->locator) == r->regions->map_id);
	return error;
}

/* Adds the ring of a CPU. */
static inline int mapring__add_cpu(struct mapring_reader *r, const struct mapring__locator *locator)
{
	struct mapring_region *region = &r->regions[r->region_count], *first = r->regions;
	int error = mapring__region_open(region, locator);

	if (error)
		return error;
	r->region_count++;
	if (region->layout.kind != MAPRING_KIND_RING || !(region->layout.options & MAPRING_OPTION_PER_CPU_MAPS) ||
	    region->layout.record != first->layout.record || region->layout.capacity != first->layout.capacity ||
	    region->layout.options != first->layout.options)
		return mapring__refuse(EPROTO, "not a PER_CPU_MAPS ring, or one of different rings");
	for (uint32_t i = 0; i + 1 < r->region_count; i++)
		if (r->regions[i].map_id == region->map_id)
			return mapring__refuse(EPROTO, "two CPUs with one ring");
	return 0;
}

/* Opens the rings of all possible CPUs: from a map of maps, or from the pins cpu0, cpu1, … in a directory. */
static inline int mapring__open_per_cpu(struct mapring_reader *r, bool *whole)
{
	struct stat before, after;
	bool is_dir = !r->locator.is_maps && stat(r->locator.path, &before) == 0;
	unsigned *cpus = (unsigned *)calloc(2 * MAPRING__CPUS, sizeof(*cpus)), *numbers = cpus + MAPRING__CPUS;
	int possible = cpus ? mapring__possible_cpus(cpus, MAPRING__CPUS) : -1, error = 0;
	char path[4096];

	if (possible > 0)
		r->regions = (struct mapring_region *)calloc((size_t)possible, sizeof(*r->regions));
	if (!r->regions)
		error = mapring__failed("the list of the possible CPUs");
	for (int i = 0; i < possible && !error; i++) {
		struct mapring__locator locator = r->locator;

		locator.key = cpus[i];
		if (!locator.is_maps) {
			snprintf(path, sizeof(path), "%s/cpu%u", r->locator.path, cpus[i]);
			locator.path = path;
		}
		numbers[r->region_count] = cpus[i];
		error = mapring__add_cpu(r, &locator);
		if (error == -ENOENT) /* this CPU has no ring yet */
			error = i + 1 == possible && r->region_count == 0 ? error : 0;
		else if (!error && r->region_count == 1 && is_dir)
			mapring__companions(r->regions, path, r->beside);
	}
	/* Another directory may have taken its place, and what was in this one is removed. */
	if (is_dir)
		*whole = stat(r->locator.path, &after) == 0 && before.st_ino == after.st_ino;
	for (uint32_t i = 0; i < r->region_count && !error; i++)
		r->regions[i].number = numbers[i];
	free(cpus);
	return error;
}

/* A reader of the ring there, which owns the locator from now on. NULL if it can't be opened: `errno` and mapring_error() say why. */
static inline struct mapring_reader *mapring__reader_at(struct mapring__locator locator, bool per_cpu,
							const struct mapring_reader_opts *opts)
{
	struct mapring_reader *r = (struct mapring_reader *)calloc(1, sizeof(*r));
	bool whole = false;
	int error = 0;

	if (!r) {
		mapring__refuse(ENOMEM, "no memory for a reader");
		free(locator.path);
		return NULL;
	}
	r->locator = locator;
	if (opts)
		r->opts = *opts;
	r->locator.flags = r->opts.flags & MAPRING_LOOKUP;
	r->beside[0] = r->beside[1] = -1;
	for (int again = MAPRING__AGAIN; again > 0 && !whole; again--) {
		mapring__reader_forget(r);
		whole = true;
		error = per_cpu ? mapring__open_per_cpu(r, &whole) : mapring__open_one(r, &whole);
	}
	if (!error)
		error = mapring__reader_ready(r);
	if (!error)
		return r;
	mapring_reader__free(r);
	errno = -error;
	return NULL;
}

/* Whether the map behind a descriptor is a map of maps, and whether each CPU has one of them. */
static inline bool mapring__is_maps(int fd, int flags, bool *per_cpu)
{
	struct bpf_map_info info;
	struct mapring_region first;

	if (fd < 0 || mapring__map_info(fd, &info) != 0 || info.type != BPF_MAP_TYPE_ARRAY_OF_MAPS)
		return false;
	if (mapring__region_of_fd(&first, mapring__open_inner(fd, 0, flags), flags & MAPRING_LOOKUP) == 0) {
		*per_cpu = first.layout.options & MAPRING_OPTION_PER_CPU_MAPS;
		mapring__region_close(&first);
	}
	return true;
}

/* Opens the ring of this descriptor, which the caller keeps: a map, a map of maps (which needs CAP_SYS_ADMIN), or a memfd. */
static inline struct mapring_reader *mapring_reader__open_fd(int fd, const struct mapring_reader_opts *opts)
{
	struct mapring__locator locator;
	bool per_cpu = false;

	memset(&locator, 0, sizeof(locator));
	locator.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	locator.is_maps = mapring__is_maps(fd, opts ? opts->flags : 0, &per_cpu);
	return mapring__reader_at(locator, per_cpu, opts);
}

/* Opens the ring that is pinned at this path, a directory for a PER_CPU_MAPS ring, or a memfd in /proc. */
static inline struct mapring_reader *mapring_reader__open(const char *path, const struct mapring_reader_opts *opts)
{
	int flags = opts ? opts->flags : 0, fd;
	struct mapring__locator locator;
	struct stat found;
	bool per_cpu = false;

	memset(&locator, 0, sizeof(locator));
	locator.fd = -1;
	if (stat(path, &found) == 0 && S_ISDIR(found.st_mode)) {
		per_cpu = true;
	} else {
		fd = mapring__open_path(path, flags);
		locator.is_maps = mapring__is_maps(fd, flags, &per_cpu);
		if (locator.is_maps)
			locator.fd = fd;
		else if (fd >= 0)
			close(fd);
	}
	locator.path = strdup(path);
	return mapring__reader_at(locator, per_cpu, opts);
}

#endif
