/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cells, latches, counters, commands and global variables. */
#ifndef MAPRING_C_VALUES_H
#define MAPRING_C_VALUES_H

/* Reads of a value that is being written, before -EBUSY. */
enum { MAPRING__RETRIES = 1 << 14 };

/* Whether an open region holds values of this kind and size; 0 for a kind whose size is fixed. */
static inline int mapring__expect(const struct mapring_region *r, enum mapring_kind kind, size_t size)
{
	uint64_t found = r->layout.kind;

	if (found == MAPRING_KIND_PERCPU_CELLS)
		found = MAPRING_KIND_CELLS;
	if (found == MAPRING_KIND_PERCPU_COUNTERS)
		found = MAPRING_KIND_COUNTERS;
	if (found != (uint64_t)kind)
		return mapring__refuse(EINVAL, "%s holds %s, expected %s", r->what, mapring__kind_name(r->layout.kind),
				       mapring__kind_name(kind));
	if (size != 0 && size != r->layout.record)
		return mapring__refuse(EMSGSIZE, "%s has values of %llu bytes, but this program's have %zu: build both from one header",
				       r->what, (unsigned long long)r->layout.record, size);
	return 0;
}

/* Gives back the commands that this process owns, and closes a region. */
static inline void mapring_region__free(struct mapring_region *r)
{
	if (r && r->writable && r->layout.kind == MAPRING_KIND_COMMANDS) /* SYNC own: the next owner continues after the last command */
		mapring__swap_if(r->writable + mapring__header_at(&r->layout, 0) + MAPRING__OWNER, mapring__this_process(), 0);
	if (r)
		mapring__region_close(r);
	free(r);
}

/* A region of this kind, also per CPU, with values of this size (0 for counters, histograms, gauges and top keys). `flags`:
 * MAPRING_WRITE, MAPRING_LOOKUP. The region keeps the descriptor. NULL with `errno` and mapring_error() on failure. */
static inline struct mapring_region *mapring__region_new(int fd, const char *path, enum mapring_kind kind, size_t size,
							  int flags)
{
	struct mapring_region *r = (struct mapring_region *)calloc(1, sizeof(*r));
	int error = r ? mapring__region_of(r, fd, flags, path) : mapring__refuse(ENOMEM, "no memory for a region");

	if (!error)
		error = mapring__expect(r, kind, size);
	if (!error)
		return r;
	if (r)
		mapring__region_close(r);
	free(r);
	errno = -error;
	return NULL;
}

static inline struct mapring_region *mapring_region__open(const char *path, enum mapring_kind kind, size_t size, int flags)
{
	return mapring__region_new(mapring__open_path(path, flags), path, kind, size, flags);
}

/* The same for a descriptor that the caller keeps. */
static inline struct mapring_region *mapring_region__open_fd(int fd, enum mapring_kind kind, size_t size, int flags)
{
	return mapring__region_new(fcntl(fd, F_DUPFD_CLOEXEC, 0), NULL, kind, size, flags);
}

/* How many shards have a value each: CPUs, for regions that programs write. */
static inline uint64_t mapring_region__shards(const struct mapring_region *r)
{
	return mapring__is_per_cpu(&r->layout) ? (uint64_t)r->copies : r->layout.shards;
}

/* Reads once. Returns 0, -EBUSY if a writer interfered, or the error of a lookup. `copy` is that of a CPU, in a per-CPU map. */
static inline int mapring__try_value(struct mapring_region *r, uint64_t element, int copy, void *value, uint64_t *version)
{
	uint64_t words = mapring__words_of(r->layout.record), at = (uint64_t)copy * r->size + r->at, seq;
	bool is_latch = r->layout.kind == MAPRING_KIND_LATCHES;

	if (r->words) {
		const uint64_t *word = r->words + element * r->size + r->at;

		seq = mapring__load(word);
		if (!is_latch && (seq & 1))
			return -EBUSY;
		mapring__fence_acquire(); /* SYNC publish: pairs with the end of the write */
		mapring__copy_bytes(value, word + 1 + (is_latch && (seq & 1) ? words : 0), r->layout.record);
		mapring__fence_acquire(); /* SYNC claim: pairs with the begin of a later write */
		if (mapring__load(word) != seq)
			return -EBUSY;
	} else {
		if (!mapring__look(r, element))
			return mapring__lookup_error(r);
		seq = r->lookups[0][at];
		if ((!is_latch && (seq & 1)) || r->lookups[2][at] != seq)
			return -EBUSY;
		memcpy(value, r->lookups[1] + at + 1 + (is_latch && (seq & 1) ? words : 0), r->layout.record);
	}
	*version = is_latch ? seq : seq / 2;
	return 0;
}

MAPRING__COLD int mapring__out_of_range(const struct mapring_region *r, uint64_t index)
{
	return mapring__refuse(ERANGE, "no value %llu: there are %llu in each of %llu shards", (unsigned long long)index,
			       (unsigned long long)r->layout.capacity, (unsigned long long)mapring_region__shards(r));
}

static inline int mapring__read_value(struct mapring_region *r, uint64_t shard, uint64_t index, void *value, uint64_t *version)
{
	uint64_t ignored;
	int error = -EBUSY;

	if (index >= r->layout.capacity || shard >= (uint64_t)r->copies)
		return mapring__out_of_range(r, index);
	for (int i = 0; i < MAPRING__RETRIES && error == -EBUSY; i++)
		error = mapring__try_value(r, r->layout.first + index, (int)shard, value, version ? version : &ignored);
	return error == -EBUSY ? mapring__refuse(EBUSY, "the value is being written, maybe by a writer that died") : error;
}

/* Reads a cell whole, and its number of writes if `version` is not NULL. `cpu` counts the possible CPUs in a per-CPU map; else 0.
 * Returns 0 or a negative errno: -EBUSY after many tries. */
static inline int mapring_cell__read(struct mapring_region *r, uint64_t cpu, uint64_t index, void *value, uint64_t *version)
{
	return mapring__read_value(r, cpu, index, value, version);
}

/* The same for a latch. A latch whose writer died is never busy. */
static inline int mapring_latch__read(struct mapring_region *r, uint64_t index, void *value, uint64_t *version)
{
	return mapring__read_value(r, 0, index, value, version);
}

/* Stores a value word by word, into shared memory. */
static inline void mapring__put(uint64_t *to, const void *value, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t word = 0;

		memcpy(&word, (const char *)value + at, mapring__least(8, bytes - at));
		mapring__store(to + at / 8, word);
	}
}

/* Writes a latch, which must have one writer at a time. The region must be open with MAPRING_WRITE. */
static inline int mapring_latch__set(struct mapring_region *r, uint64_t index, const void *value)
{
	uint64_t *latch, seq;

	if (index >= r->layout.capacity)
		return mapring__out_of_range(r, index);
	if (!r->writable || r->layout.kind != MAPRING_KIND_LATCHES)
		return mapring__refuse(EBADF, "open the latches with MAPRING_WRITE");
	latch = r->writable + (r->layout.first + index) * r->size + r->at;
	seq = mapring__load(latch) + 1;
	mapring__fence_release(); /* SYNC claim: pairs with the reader's second fence */
	mapring__put(latch + 1 + (seq & 1 ? mapring__words_of(r->layout.record) : 0), value, r->layout.record);
	mapring__store_release(latch, seq); /* SYNC publish: pairs with the reader's first fence */
	return 0;
}

/* The counter `index` of one bank, or of a CPU in a per-CPU map. */
static inline int mapring_counter__get(struct mapring_region *r, uint64_t shard, uint64_t index, uint64_t *value)
{
	bool per_cpu = mapring__is_per_cpu(&r->layout);
	uint64_t bank = per_cpu ? r->layout.first : mapring__bank(&r->layout, shard);

	*value = 0;
	if (index >= r->layout.capacity || shard >= mapring_region__shards(r))
		return mapring__out_of_range(r, index);
	r->failed = 0;
	*value = mapring__word(r, bank, index);
	if (per_cpu && !r->failed)
		*value = mapring__median(r, (int)shard, index); /* the lookups returned all copies */
	return mapring__lookup_error(r);
}

/* The sum over all banks, each at its moment. */
static inline int mapring_counter__sum(struct mapring_region *r, uint64_t index, uint64_t *sum)
{
	uint64_t value;
	int error = 0;

	*sum = 0;
	for (uint64_t shard = 0; shard < mapring_region__shards(r) && !error; shard++) {
		error = mapring_counter__get(r, shard, index, &value);
		*sum += error ? 0 : value;
	}
	return error;
}

/* The number of writes that went nowhere: a CPU without a shard, an index out of range, a busy cell. */
static inline int mapring_region__dropped(struct mapring_region *r, uint64_t *dropped)
{
	r->failed = 0;
	/* A global cell counts them behind its value. */
	*dropped = mapring__word_sum(r, r->layout.size ? (uint64_t)MAPRING__DROPPED : r->at + 1 + mapring__words_of(r->layout.record));
	return mapring__lookup_error(r);
}

/* Pushes a command, as the only thread of the only process that does so; the region must be open with MAPRING_WRITE. Returns 0 with
 * its number, or a negative errno: -EAGAIN if no slot is free, -EPERM if another process that lives owns the commands. */
static inline int mapring_commands__push(struct mapring_region *r, const void *command, uint64_t *number)
{
	uint64_t *header, *slot, pushed, me, owner;

	if (!r->writable || r->layout.kind != MAPRING_KIND_COMMANDS)
		return mapring__refuse(EBADF, "open the commands with MAPRING_WRITE");
	header = r->writable + mapring__header_at(&r->layout, 0);
	me = mapring__this_process();
	owner = mapring__load(header + MAPRING__OWNER);
	if (me == 0)
		return mapring__failed("/proc/self/stat");
	/* SYNC own: pairs with the swap by which the owner before gave them back. */
	if (owner != me && (mapring__process_lives(owner) || !mapring__swap_if(header + MAPRING__OWNER, owner, me)))
		return mapring__refuse(EPERM, "process %llu pushes these commands, and lives",
				       (unsigned long long)(owner & ((1 << 22) - 1)));
	pushed = mapring__load(header + MAPRING__PUSHED);
	/* SYNC applied: the slot is written again after its command was copied. */
	if (pushed - mapring__load_acquire(header + MAPRING__APPLIED) >= r->layout.capacity)
		return mapring__refuse(EAGAIN, "no slot is free: programs have not carried out the earlier commands");
	*number = pushed + 1;
	slot = r->writable + mapring__slots_at(&r->layout, 0) + (pushed & (r->layout.capacity - 1)) * r->size;
	mapring__put(slot + 1, command, r->layout.record);
	mapring__store(slot, *number);
	mapring__store_release(header + MAPRING__PUSHED, *number); /* SYNC publish: the command comes before its number */
	return 0;
}

/* The number of commands that programs carried out or skipped. Each program that begins afterwards sees what they changed. */
static inline int mapring_commands__acknowledged(struct mapring_region *r, uint64_t *number)
{
	r->failed = 0;
	/* SYNC applied: pairs with the store after a command was carried out. */
	*number = mapring__word_acquire(r, 0, mapring__header_at(&r->layout, 0) + MAPRING__APPLIED);
	return mapring__lookup_error(r);
}

/* Opens the element of a section of global variables, and finds what `kind` its variable is. */
static inline int mapring__open_section(struct mapring_region *r, int fd, int flags, struct bpf_map_info *info)
{
	memset(r, 0, sizeof(*r));
	r->fd = fd;
	r->copies = 1;
	if (fd < 0 || mapring__map_info(fd, info) < 0)
		return mapring__failed("not a map that may be opened");
	if (info->type != BPF_MAP_TYPE_ARRAY || info->max_entries != 1 || info->key_size != 4)
		return mapring__refuse(EINVAL, "not a section of global variables");
	r->map_id = info->id;
	r->size = mapring__words_of(info->value_size);
	return mapring__map_or_look(r, info, flags);
}

/* A variable of MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH at this offset. */
static inline int mapring__place_global(struct mapring_region *r, uint64_t kind, uint64_t offset, uint64_t bytes)
{
	uint64_t words = mapring__words_of(bytes), at = offset / 8;

	r->layout.kind = kind;
	r->layout.record = bytes;
	r->layout.capacity = r->layout.shards = 1;
	r->at = at;
	if (offset % 8 != 0 || bytes == 0)
		return mapring__refuse(EPROTO, "a variable of a strange type");
	/* The count of dropped updates follows a cell. */
	if (words >= r->size || at >= r->size || (kind == MAPRING_KIND_CELLS ? words + 2 : 2 * words + 1) > r->size - at)
		return mapring__refuse(EPROTO, "a variable beyond the section");
	return 0;
}

static inline int mapring__find_global(struct mapring_region *r, const struct bpf_map_info *info, const char *name)
{
	const struct btf_type *section, *type;
	uint32_t offset = 0, variable;
	const char *struct_name;
	struct mapring__btf btf;
	bool is_cell;
	int error;

	if (!mapring__btf_open(&btf, info->btf_id))
		return mapring__failed("no types: reading them needs CAP_SYS_ADMIN");
	section = mapring__type(&btf, info->btf_value_type_id);
	variable = section ? mapring__variable(&btf, section, name, &offset) : 0;
	type = mapring__resolve(&btf, variable);
	struct_name = type ? mapring__string(&btf, type->name_off) : "";
	is_cell = strncmp(struct_name, "mapring_global_cell__", 21) == 0;
	if (!type)
		error = mapring__refuse(ENOENT, "no such variable: %s", name);
	else if (!is_cell && strncmp(struct_name, "mapring_global_latch__", 22) != 0)
		error = mapring__refuse(EINVAL, "a variable that is neither a cell nor a latch: %s", name);
	else
		error = mapring__place_global(r, is_cell ? MAPRING_KIND_CELLS : MAPRING_KIND_LATCHES, offset,
					      mapring__type_size(&btf, mapring__member(&btf, type, "record")));
	mapring__btf_close(&btf);
	return error;
}

/* A global cell or latch by its name, in the map of its section, `.bss`. Read it as cell or latch 0. Needs CAP_SYS_ADMIN. */
static inline struct mapring_region *mapring_global__open_fd(int section, const char *name, enum mapring_kind kind, size_t size,
							     int flags)
{
	struct mapring_region *r = (struct mapring_region *)calloc(1, sizeof(*r));
	struct bpf_map_info info;
	int error;

	if (!r) {
		mapring__refuse(ENOMEM, "no memory for a variable");
		return NULL;
	}
	error = mapring__open_section(r, fcntl(section, F_DUPFD_CLOEXEC, 0), flags, &info);
	if (!error)
		error = mapring__find_global(r, &info, name);
	if (!error)
		error = mapring__expect(r, kind, size);
	if (!error)
		return r;
	mapring__region_close(r);
	free(r);
	errno = -error;
	return NULL;
}

#endif
