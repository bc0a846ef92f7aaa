/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "describe.h"
#include "kernel.h"

#define MAP_ARRAY 2
#define MAP_PERCPU_ARRAY 6
#define MAP_ARRAY_OF_MAPS 12
#define HUGETLBFS 0x958458f6

/* The number of retries if a map disappears before it is opened. */
#define AGAIN 16

static const char *system_error(const char *why)
{
	return errno ? why : "failed without an error";
}

static const char *refused(const char *why)
{
	errno = 0;
	return why;
}

/* Returns a descriptor of the map under a key of a map of maps, or -1. */
static int open_inner(const struct place *place)
{
	int maps = open_map_id(place->id, false), fd = -1;
	struct bpf_map_info info;

	if (maps < 0)
		return -1;
	if (map_info(maps, &info) < 0 || info.type != MAP_ARRAY_OF_MAPS) {
		close(maps);
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < AGAIN && fd < 0; i++) {
		uint32_t id;

		if (lookup(maps, place->key, &id) < 0)
			break;
		fd = open_map_id(id, place->by_lookup);
		if (fd < 0 && errno != ENOENT)
			break;
	}
	close(maps);
	return fd;
}

static int place_open(const struct place *place)
{
	int fd;

	errno = 0;
	switch (place->by) {
	case PIN:
		fd = open_pin(place->path, place->by_lookup);
		/* The pin is not writable: read it by system call. */
		return fd < 0 && errno == EACCES ? open_pin(place->path, true) : fd;
	case MAP_ID:
		return open_map_id(place->id, place->by_lookup);
	case MAP_OF_MAPS:
		return open_inner(place);
	default:
		return open(place->path, O_RDONLY | O_CLOEXEC);
	}
}

uint32_t place_map_id(const struct place *place)
{
	struct bpf_map_info info;
	int fd = place_open(place);
	uint32_t id = fd >= 0 && map_info(fd, &info) == 0 ? info.id : 0;

	if (fd >= 0)
		close(fd);
	return id;
}

/* Maps the region, for reading. */
static bool map(struct region *r, uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, r->fd, 0);

	if (at == MAP_FAILED)
		return false;
	r->words = at;
	r->mapped = bytes;
	return true;
}

static const char *prepare_lookups(struct region *r)
{
	for (int i = 0; i < 3; i++) {
		r->looks[i] = calloc(r->size * (uint64_t)r->copies, 8);
		if (!r->looks[i])
			return system_error("no memory for lookups");
	}
	return NULL;
}

/* Word 0 first, and the others once it is set. */
static void read_preamble(struct region *r, uint64_t words[PREAMBLE_WORDS])
{
	words[0] = region_word_acquire(r, 0, 0);
	for (uint64_t at = 1; at < PREAMBLE_WORDS; at++)
		words[at] = region_word(r, 0, at);
}

static const char *open_map(struct region *r)
{
	uint64_t words[PREAMBLE_WORDS];
	struct bpf_map_info info;
	const char *why;
	struct btf btf;

	if (map_info(r->fd, &info) < 0)
		return system_error("not a map");
	if ((info.type != MAP_ARRAY && info.type != MAP_PERCPU_ARRAY) || info.key_size != 4 || info.value_size % 8 != 0)
		return refused("not an array of whole words");
	if ((uint64_t)info.value_size * info.max_entries < 8 * PREAMBLE_WORDS)
		return refused("too small for a preamble");
	r->map_id = info.id;
	r->size = info.value_size / 8;
	if (info.type == MAP_PERCPU_ARRAY)
		r->copies = possible_cpus(r->cpus, CPUS);
	if (r->copies < 1)
		return system_error("no list of the possible CPUs");
	if (!map(r, (uint64_t)info.value_size * info.max_entries)) {
		why = prepare_lookups(r);
		if (why)
			return why;
	}

	read_preamble(r, words);
	if (r->failed) {
		errno = r->failed;
		return "the preamble can't be looked up";
	}
	if (words[0] == 0) {
		if (!btf_open(&btf, info.btf_id))
			return system_error("no preamble, and no types");
		why = layout_of_btf(&r->layout, &btf, info.btf_value_type_id, info.max_entries);
		btf_close(&btf);
	} else {
		why = layout_of_preamble(&r->layout, words);
	}
	if (why)
		return refused(why);
	if (layout_is_per_cpu(&r->layout) != (info.type == MAP_PERCPU_ARRAY))
		return refused("a kind that is in maps of the other type");
	if (info.value_size != r->layout.size || info.max_entries != r->layout.elements)
		return refused("the kernel and the preamble contradict each other");
	if ((r->layout.options & TAILS) && !r->words)
		return refused("a ring with tails, which is read only through a mapping");
	return NULL;
}

static const char *open_memfd(struct region *r)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(r->fd, F_GET_SEALS);
	uint64_t words[PREAMBLE_WORDS];
	struct statfs system;
	struct stat file;
	const char *why;

	if (seals < 0 || fstatfs(r->fd, &system) < 0 || fstat(r->fd, &file) < 0)
		return system_error("not a memfd");
	if ((seals & wanted) != wanted || (unsigned long)system.f_type == HUGETLBFS)
		return refused("a memfd that can lose its pages");
	if ((uint64_t)file.st_size < 8 * PREAMBLE_WORDS || !map(r, 8 * PREAMBLE_WORDS))
		return system_error("too small for a preamble, or not to be mapped");
	r->size = 1; /* until it is known: words are contiguous in any case */
	read_preamble(r, words);
	why = layout_of_preamble(&r->layout, words);
	if (why)
		return refused(why);
	if (layout_is_per_cpu(&r->layout))
		return refused("a kind that is in per-CPU maps only");
	r->size = r->layout.size / 8;
	munmap((void *)(uintptr_t)r->words, r->mapped);
	r->words = NULL;
	if ((uint64_t)file.st_size < r->layout.size * r->layout.elements)
		return refused("a file that ends before its region");
	return map(r, r->layout.size * r->layout.elements) ? NULL : system_error("not to be mapped");
}

static const char *open_fd(struct region *r, const struct place *place)
{
	*r = (struct region){ .fd = place_open(place), .copies = 1 };
	return r->fd < 0 ? system_error("nothing that may be opened") : NULL;
}

const char *region_open(struct region *r, const struct place *place)
{
	const char *why = open_fd(r, place);

	if (!why)
		why = place->by == MEMFD ? open_memfd(r) : open_map(r);
	if (why)
		region_close(r);
	return why;
}

static const char *open_section(struct region *r, struct btf *btf, uint32_t *type)
{
	struct bpf_map_info info;

	if (map_info(r->fd, &info) < 0)
		return system_error("not a map");
	if (info.type != MAP_ARRAY || info.max_entries != 1 || info.key_size != 4)
		return refused("not a section of global variables");
	r->map_id = info.id;
	r->size = words_of(info.value_size);
	if (!map(r, info.value_size)) {
		const char *why = prepare_lookups(r);

		if (why)
			return why;
	}
	*type = info.btf_value_type_id;
	return !btf || btf_open(btf, info.btf_id) ? NULL : system_error("no types");
}

const char *region_open_section(struct region *r, const struct place *place, struct btf *btf, uint32_t *type)
{
	const char *why = open_fd(r, place);

	if (!why)
		why = open_section(r, btf, type);
	if (why)
		region_close(r);
	return why;
}

void region_close(struct region *r)
{
	int saved = errno;

	if (r->words)
		munmap((void *)(uintptr_t)r->words, r->mapped);
	for (int i = 0; i < 3; i++)
		free(r->looks[i]);
	if (r->fd >= 0)
		close(r->fd);
	*r = (struct region){ .fd = -1 };
	errno = saved;
}

static bool look(struct region *r, uint64_t element, uint64_t *into)
{
	fence_full();
	if (lookup(r->fd, (uint32_t)element, into) == 0)
		return true;
	r->failed = errno;
	return false;
}

bool region_look(struct region *r, uint64_t element)
{
	return look(r, element, r->looks[0]) && look(r, element, r->looks[1]) && look(r, element, r->looks[2]);
}

uint64_t region_median(const struct region *r, int copy, uint64_t at)
{
	uint64_t word = (uint64_t)copy * r->size + at % r->size, first = r->looks[0][word];
	int64_t a = (int64_t)(r->looks[1][word] - first), b = (int64_t)(r->looks[2][word] - first);
	int64_t low = a < b ? a : b, high = a < b ? b : a;

	return first + (uint64_t)(low > 0 ? low : high < 0 ? high : 0);
}

uint64_t region_word(struct region *r, uint64_t element, uint64_t at)
{
	if (r->words)
		return load(r->words + element * r->size + at);
	return region_look(r, element + at / r->size) ? region_median(r, 0, at) : 0;
}

uint64_t region_word_acquire(struct region *r, uint64_t element, uint64_t at)
{
	if (r->words)
		return load_acquire(r->words + element * r->size + at);
	return region_word(r, element, at);
}

uint64_t region_sum(struct region *r, uint64_t at)
{
	uint64_t sum = region_word(r, 0, at);

	for (int copy = 1; copy < r->copies; copy++)
		sum += region_median(r, copy, at);
	return sum;
}
