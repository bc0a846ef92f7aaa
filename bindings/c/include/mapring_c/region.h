/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An open region: mapped, or read by system call (docs/abi.md, "Opening" and "By system call"). */
#ifndef MAPRING_C_REGION_H
#define MAPRING_C_REGION_H

enum { MAPRING__CPUS = 4096 };
struct mapring_region {
	struct mapring_layout layout;
	int fd;
	uint32_t map_id;       /* 0: a memfd */
	uint32_t number;       /* of the CPU that writes it, in a ring with a map for each CPU */
	const uint64_t *words; /* NULL: by system call */
	uint64_t *writable;    /* the same words, or NULL */
	size_t mapped;         /* bytes */
	uint64_t size;         /* of an element as lookups return it, in words */
	uint64_t at;           /* of a global variable: its first word */
	/* The CPUs whose copies each lookup returns, in this order. For an ordinary map: one. */
	unsigned *cpus;
	int copies;
	uint64_t *lookups[3]; /* at one element, with all its copies */
	/* The errno of the last failed lookup, else 0. A failed lookup returns 0. */
	int failed;
	int refusal;    /* the errno with which the kernel refused to map it */
	char what[256]; /* the path of its pin, or another name for messages */
};

/* Why the last call of this thread failed, in a sentence. */
static inline const char *mapring_error(void)
{
	return mapring__text;
}

static inline bool mapring__lookup_into(struct mapring_region *r, uint64_t element, uint64_t *into)
{
	mapring__fence_full(); /* SYNC publish, claim: between two lookups, which the kernel makes by plain loads */
	if (mapring__lookup(r->fd, (uint32_t)element, into) == 0)
		return true;
	r->failed = errno;
	return false;
}

/* Looks up an element three times, for a region that is not mapped. Returns false if a lookup failed. */
MAPRING__COLD bool mapring__look(struct mapring_region *r, uint64_t element)
{
	return mapring__lookup_into(r, element, r->lookups[0]) && mapring__lookup_into(r, element, r->lookups[1]) &&
	       mapring__lookup_into(r, element, r->lookups[2]);
}

/* The median of the three lookups of a word of a copy. */
static inline uint64_t mapring__median(const struct mapring_region *r, int copy, uint64_t at)
{
	uint64_t word = (uint64_t)copy * r->size + at % r->size, first = r->lookups[0][word];
	int64_t a = (int64_t)(r->lookups[1][word] - first), b = (int64_t)(r->lookups[2][word] - first);
	int64_t low = a < b ? a : b, high = a < b ? b : a;

	return first + (uint64_t)(low > 0 ? low : high < 0 ? high : 0);
}

MAPRING__COLD uint64_t mapring__look_at_word(struct mapring_region *r, uint64_t element, uint64_t at)
{
	return mapring__look(r, element + at / r->size) ? mapring__median(r, 0, at) : 0;
}

/* The current value of word `at`, counted from an element, in the first copy. */
MAPRING__FAST uint64_t mapring__word(struct mapring_region *r, uint64_t element, uint64_t at)
{
	if (r->words)
		return mapring__load(r->words + element * r->size + at);
	return mapring__look_at_word(r, element, at);
}

/* The same with an acquire. */
static inline uint64_t mapring__word_acquire(struct mapring_region *r, uint64_t element, uint64_t at)
{
	if (r->words)
		return mapring__load_acquire(r->words + element * r->size + at);
	return mapring__look_at_word(r, element, at);
}

/* Sums word `at` from the region's start over all copies: of word 12 of the preamble. */
static inline uint64_t mapring__word_sum(struct mapring_region *r, uint64_t at)
{
	uint64_t sum = mapring__word(r, 0, at);

	for (int copy = 1; copy < r->copies && !r->failed; copy++)
		sum += mapring__median(r, copy, at);
	return sum;
}

/* The error of lookups since the last call, if there was one. */
static inline int mapring__lookup_error(struct mapring_region *r)
{
	int error = r->failed;

	r->failed = 0;
	return error ? mapring__refuse(error, "bpf(BPF_MAP_LOOKUP_ELEM): %s", strerror(error)) : 0;
}

static inline bool mapring__map_memory(struct mapring_region *r, uint64_t bytes, int flags)
{
	bool write = flags & MAPRING_WRITE;
	void *at;

	if (flags & MAPRING_LOOKUP) {
		errno = EINVAL;
		return false;
	}
	at = mmap(NULL, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, r->fd, 0);
	if (at == MAP_FAILED)
		return false;
	r->words = (const uint64_t *)at;
	r->writable = write ? (uint64_t *)at : NULL;
	r->mapped = bytes;
	return true;
}

static inline void mapring__unmap(struct mapring_region *r)
{
	if (r->words)
		munmap((void *)(uintptr_t)r->words, r->mapped);
	r->words = r->writable = NULL;
}

/* Maps a map, or prepares lookups. */
static inline int mapring__map_or_look(struct mapring_region *r, const struct bpf_map_info *info, int flags)
{
	if (mapring__map_memory(r, (uint64_t)info->value_size * info->max_entries, flags))
		return 0;
	r->refusal = errno;
	if (flags & MAPRING_WRITE)
		return mapring__failed("the kernel does not map it for writing: it is frozen, or is not BPF_F_MMAPABLE");
	for (int i = 0; i < 3; i++) {
		r->lookups[i] = (uint64_t *)calloc(r->size * (uint64_t)r->copies, 8);
		if (!r->lookups[i])
			return mapring__failed("no memory for lookups");
	}
	return 0;
}

/* Word 0 first, and the others once it is set. */
static inline void mapring__read_preamble(struct mapring_region *r, uint64_t words[MAPRING__PREAMBLE_WORDS])
{
	words[0] = mapring__word_acquire(r, 0, 0); /* SYNC preamble: the others come after word 0 */
	for (uint64_t at = 1; at < MAPRING__PREAMBLE_WORDS; at++)
		words[at] = mapring__word(r, 0, at);
}

/* Refuses a preamble that contradicts the map's types, if this process may read them. */
static inline int mapring__check_types(const struct mapring_layout *found, const struct bpf_map_info *info)
{
	struct mapring_layout told;
	struct mapring__btf btf;
	bool same;

	if (info->btf_id == 0 || !mapring__btf_open(&btf, info->btf_id))
		return 0;
	same = !mapring__describe(&told, &btf, info->btf_value_type_id) ||
	       (told.kind == found->kind && told.options == found->options && told.record == found->record &&
		told.longest == found->longest && told.area == found->area &&
		(told.capacity == found->capacity || (told.options & MAPRING_OPTION_RESIZABLE)));
	mapring__btf_close(&btf);
	return same ? 0 : mapring__refuse(EPROTO, "its preamble and its BTF contradict each other: the preamble was overwritten, or "
						  "written for another map; have its loader create the map again");
}

/* Refuses a layout that contradicts the kernel. */
static inline int mapring__check_map(const struct mapring_region *r, const struct bpf_map_info *info)
{
	const struct mapring_layout *l = &r->layout;
	bool per_cpu = info->type == BPF_MAP_TYPE_PERCPU_ARRAY, is_size = info->value_size != l->size;

	if (mapring__is_per_cpu(l) != per_cpu)
		return mapring__refuse(EPROTO, "%s is a map of type %s, expected %s; its preamble or description says so", r->what,
				       mapring__map_type(info->type), per_cpu ? "array" : "percpu_array");
	if (is_size || info->max_entries != l->elements)
		return mapring__refuse(EPROTO, "%s: its preamble or description makes the %s %llu, the kernel says %u", r->what,
				       is_size ? "value size" : "number of entries",
				       (unsigned long long)(is_size ? l->size : l->elements),
				       is_size ? info->value_size : info->max_entries);
	if (!(l->options & MAPRING_OPTION_TAILS) || r->words)
		return 0;
	return mapring__refuse(EOPNOTSUPP, "%s has tails, so it can be read only through a mapping: %s (%s)%s", r->what,
			       info->map_flags & BPF_F_MMAPABLE ? "a read-only file descriptor, which Linux refuses to map" :
								  "the map was made without BPF_F_MMAPABLE",
			       r->refusal == EINVAL ? "EINVAL" : strerror(r->refusal),
			       info->map_flags & BPF_F_MMAPABLE ?
				       ": freeze the map and pin it with mode 0666, and any process can map it" :
				       ": set map_flags to it");
}

static inline int mapring__open_map(struct mapring_region *r, int flags)
{
	uint64_t words[MAPRING__PREAMBLE_WORDS];
	struct bpf_map_info info;
	struct mapring__btf btf;
	bool per_cpu;
	int error;

	errno = 0;
	if (mapring__map_info(r->fd, &info) < 0)
		return mapring__refuse_for(mapring__failed("not a map"), r->what);
	per_cpu = info.type == BPF_MAP_TYPE_PERCPU_ARRAY;
	if ((info.type != BPF_MAP_TYPE_ARRAY && !per_cpu) || info.key_size != 4)
		return mapring__refuse(EINVAL, "%s is a map of type %s, expected array or percpu_array", r->what,
				       mapring__map_type(info.type));
	if (info.value_size % 8 != 0)
		return mapring__refuse(EINVAL,
				       "%s has values of %u bytes, but a region's elements have a multiple of 8: mapring's macros did "
				       "not declare this map",
				       r->what, info.value_size);
	if ((uint64_t)info.value_size * info.max_entries < 8 * MAPRING__PREAMBLE_WORDS)
		return mapring__refuse(EINVAL, "%s has %llu bytes, expected at least %d; such a map holds no region", r->what,
				       (unsigned long long)info.value_size * info.max_entries, 8 * MAPRING__PREAMBLE_WORDS);
	r->map_id = info.id;
	r->size = info.value_size / 8;
	if (per_cpu) {
		r->cpus = (unsigned *)calloc(MAPRING__CPUS, sizeof(*r->cpus));
		r->copies = r->cpus ? mapring__copies_of(r->fd, info.value_size, r->cpus, MAPRING__CPUS) : -1;
	}
	if (r->copies < 1)
		return mapring__refuse_for(mapring__failed("the number of its copies"), r->what);
	error = mapring__map_or_look(r, &info, flags);
	if (error)
		return mapring__refuse_for(error, r->what);

	mapring__read_preamble(r, words);
	error = mapring__lookup_error(r);
	if (error)
		return mapring__refuse_for(error, r->what);
	if (words[0] != 0 || info.btf_id == 0) {
		error = mapring__read_preamble_words(&r->layout, words);
		if (!error)
			error = mapring__check_types(&r->layout, &info);
	} else if (mapring__btf_open(&btf, info.btf_id)) {
		error = mapring__layout_of_btf(&r->layout, &btf, info.btf_value_type_id, info.max_entries);
		mapring__btf_close(&btf);
	} else {
		error = mapring__read_preamble_words(&r->layout, words); /* refuses it */
	}
	return error ? mapring__refuse_for(error, r->what) : mapring__check_map(r, &info);
}

enum { MAPRING__GET_SEALS = 1034 }; /* F_GET_SEALS */

static inline int mapring__open_memfd(struct mapring_region *r, int flags)
{
	/* F_SEAL_SHRINK and F_SEAL_GROW; HUGETLBFS_MAGIC */
	const int wanted = 2 | 4;
	const unsigned long huge_pages = 0x958458f6;
	int seals = fcntl(r->fd, MAPRING__GET_SEALS), error;
	uint64_t words[MAPRING__PREAMBLE_WORDS];
	unsigned long long bytes;
	struct statfs system;
	struct stat file;

	if (fstatfs(r->fd, &system) < 0 || fstat(r->fd, &file) < 0)
		return mapring__failed("fstat of the memfd");
	if ((seals & wanted) != wanted)
		return mapring__refuse(EPERM, "%s is not sealed against resizing (F_SEAL_SHRINK and F_SEAL_GROW), so any process that has it "
				       "open could kill its readers with SIGBUS: have its creator seal it", r->what);
	if ((unsigned long)system.f_type == huge_pages)
		return mapring__refuse(EPERM, "%s has huge pages (MFD_HUGETLB), which any process that has it open can punch out and so kill "
				       "its readers: have its creator use ordinary pages", r->what);
	bytes = 8 * MAPRING__PREAMBLE_WORDS;
	if ((uint64_t)file.st_size < bytes)
		return mapring__refuse(EPROTO, "%s has %llu bytes, expected at least %llu", r->what, (unsigned long long)file.st_size, bytes);
	if (!mapring__map_memory(r, bytes, 0))
		return mapring__failed("mmap of the memfd");
	r->size = 1; /* until it is known: words are contiguous in any case */
	mapring__read_preamble(r, words);
	mapring__unmap(r);
	error = mapring__read_preamble_words(&r->layout, words);
	if (error)
		return mapring__refuse_for(error, r->what);
	if (mapring__is_per_cpu(&r->layout))
		return mapring__refuse(EPROTO, "%s is a memfd, which holds no %s", r->what, mapring__kind_name(r->layout.kind));
	r->size = r->layout.size / 8;
	bytes = r->layout.size * r->layout.elements;
	if ((uint64_t)file.st_size < bytes)
		return mapring__refuse(EPROTO, "%s has %llu bytes, expected at least %llu", r->what, (unsigned long long)file.st_size, bytes);
	if ((uint64_t)file.st_blocks * 512 + (64 << 20) < bytes)
		return mapring__refuse(EPROTO, "%s is sparse: of the %llu bytes of its region more than 64 MiB are not allocated, and reading "
				       "them would charge this process for the memory: have its creator allocate them (fallocate)", r->what,
				       bytes);
	if (!mapring__map_memory(r, bytes, flags & ~MAPRING_LOOKUP))
		return mapring__failed("mmap of the memfd");
	return 0;
}

static inline void mapring__region_close(struct mapring_region *r)
{
	int saved = errno;

	mapring__unmap(r);
	for (int i = 0; i < 3; i++)
		free(r->lookups[i]);
	free(r->cpus);
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
	errno = saved;
}

/* Opens a region of any kind, and owns the descriptor from now on. `path`: of its pin, or NULL. */
static inline int mapring__region_of(struct mapring_region *r, int fd, int flags, const char *path)
{
	struct bpf_map_info info;
	int error;

	memset(r, 0, sizeof(*r));
	r->fd = fd;
	r->copies = 1;
	if (path)
		snprintf(r->what, sizeof(r->what), "%.255s", path);
	else
		snprintf(r->what, sizeof(r->what), fd < 0 ? "the map" : "fd %d", fd);
	if (fd < 0)
		return mapring__not_opened(r->what, path);
	if (mapring__map_info(fd, &info) == 0)
		error = mapring__open_map(r, flags);
	else if (fcntl(fd, MAPRING__GET_SEALS) >= 0)
		error = mapring__open_memfd(r, flags);
	else
		error = mapring__refuse(EINVAL, "%s is not a BPF map or a memfd", r->what);
	if (error)
		mapring__region_close(r);
	return error;
}

static inline int mapring__region_of_fd(struct mapring_region *r, int fd, int flags)
{
	return mapring__region_of(r, fd, flags, NULL);
}

static inline int mapring__region_open(struct mapring_region *r, const struct mapring__locator *locator)
{
	return mapring__region_of(r, mapring__locator_open(locator), locator->flags, locator->path);
}

#endif
