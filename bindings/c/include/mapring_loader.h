/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Loads BPF objects with libbpf that use mapring's headers, for readers in any language:
 *
 *	open - mapring_loader__reuse - __prepare - load - __initialize - attach - __pin
 *
 * `reuse` takes over what an earlier loader has pinned, and `prepare` gives every map a shard for each possible CPU. `initialize`
 * writes what other processes need to know, and opens resizable rings for programs. Functions return a negative errno;
 * mapring_error() then has a sentence. They make system calls.
 */
#ifndef MAPRING_LOADER_H
#define MAPRING_LOADER_H

#include <mapring.h>

#include <dirent.h>
#include <sys/file.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* As in mapring.h. */
#if defined(__GNUC__) && !defined(MAPRING_SHOW_WARNINGS)
#pragma GCC system_header
#endif

#include "mapring_c/fits.h"

/* How a region is pinned: in place of what is pinned there, and so that from now on only programs can write it. */
enum { MAPRING_PIN_REPLACE = 1, MAPRING_PIN_FREEZE = 2 };

struct mapring__object {
	struct mapring__btf btf;
	struct mapring__declared *maps;
	uint32_t count;
	uint64_t shards;
};

static inline void mapring__object_close(struct mapring__object *o)
{
	mapring__btf_close(&o->btf);
	free(o->maps);
}

/* A copy of the object's types: libbpf would load the raw bytes of its own, and ignore its later changes. */
static inline bool mapring__object_types(struct mapring__btf *types, struct bpf_object *object)
{
	struct btf *of_object = bpf_object__btf(object), *copy = btf__new_empty();
	const void *raw = NULL;
	char *bytes = NULL;
	uint32_t size = 0;

	if (copy && of_object && btf__add_btf(copy, of_object) >= 0)
		raw = btf__raw_data(copy, &size);
	if (raw)
		bytes = (char *)calloc(1, size + 1);
	if (bytes)
		memcpy(bytes, raw, size);
	btf__free(copy);
	errno = 0;
	return bytes && mapring__btf_index(types, bytes, size);
}

/* The type of a declared map's values. */
static inline uint32_t mapring__value_type(const struct mapring__btf *btf, uint32_t variable)
{
	const struct btf_type *map = mapring__resolve(btf, variable), *pointer;

	pointer = map ? mapring__resolve(btf, mapring__member(btf, map, "value")) : NULL;
	return pointer && mapring__type_kind(pointer) == BTF_KIND_PTR ? pointer->type : 0;
}

/* Reads what an object declares, in the order in which libbpf has its maps. */
static inline int mapring__object_open(struct mapring__object *o, struct bpf_object *object)
{
	static __thread unsigned cpus[MAPRING__CPUS];
	const struct btf_type *section = NULL;
	const struct btf_var_secinfo *variables;
	struct bpf_map *map = NULL;
	int possible = mapring__possible_cpus(cpus, MAPRING__CPUS);

	memset(o, 0, sizeof(*o));
	if (possible < 1)
		return mapring__failed("the list of the possible CPUs");
	o->shards = cpus[possible - 1] + 1;
	if (!mapring__object_types(&o->btf, object))
		return mapring__refuse(EINVAL, "the object has no types: compile it with -g");
	for (uint32_t id = 1; id < o->btf.count; id++)
		if (mapring__type_kind(o->btf.types[id]) == BTF_KIND_DATASEC &&
		    strcmp(mapring__string(&o->btf, o->btf.types[id]->name_off), ".maps") == 0)
			section = o->btf.types[id];
	o->count = section ? BTF_INFO_VLEN(section->info) : 0;
	o->maps = (struct mapring__declared *)calloc(o->count + 1, sizeof(*o->maps));
	if (!o->maps) {
		mapring__object_close(o);
		return mapring__refuse(ENOMEM, "no memory for the maps of an object");
	}
	variables = (const struct btf_var_secinfo *)(const void *)(section + 1);
	for (uint32_t at = 0; at < o->count; at++) {
		struct mapring__declared *declared = &o->maps[at];
		const struct btf_type *variable;
		uint32_t next = 0;

		/* The `at`-th by its offset. */
		for (uint32_t i = 0; i < o->count; i++) {
			uint32_t before = 0;

			for (uint32_t other = 0; other < o->count; other++)
				before += variables[other].offset < variables[i].offset;
			next = before == at ? i : next;
		}
		variable = mapring__type(&o->btf, variables[next].type);
		declared->name = variable ? mapring__string(&o->btf, variable->name_off) : "";
		declared->value = variable ? mapring__value_type(&o->btf, variable->type) : 0;
		do
			map = bpf_object__next_map(object, map);
		while (map && (bpf_map__is_internal(map) || bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS));
		declared->map = map;
		declared->is_ours = map && mapring__describe(&declared->layout, &o->btf, declared->value);
		if (!declared->is_ours)
			continue;
		if (mapring__is_sharded(&declared->layout))
			declared->layout.shards = o->shards;
		if (!mapring__complete(&declared->layout)) {
			mapring__refuse(E2BIG, "%s: more elements than maps can have: use fewer slots, or a smaller record", declared->name);
			mapring__object_close(o);
			return -E2BIG;
		}
	}
	return 0;
}

/* The map with this name and suffix, of a name from which `cut` bytes are left out. */
static inline struct mapring__declared *mapring__named(struct mapring__object *o, const char *name, size_t cut, const char *suffix)
{
	size_t length = strlen(name) - cut;

	for (uint32_t i = 0; i < o->count; i++)
		if (o->maps[i].map && strncmp(o->maps[i].name, name, length) == 0 && strcmp(o->maps[i].name + length, suffix) == 0)
			return &o->maps[i];
	return NULL;
}

/* The bytes of `__first` at the end of a name, else 0. */
static inline size_t mapring__first_suffix(const char *name)
{
	size_t length = strlen(name);

	return length > 7 && strcmp(name + length - 7, "__first") == 0 ? 7 : 0;
}

/* The NUMA node of a CPU. */
static inline uint32_t mapring__node_of(unsigned cpu)
{
	char path[128];

	for (uint32_t node = 0; node < 1024; node++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/node%u", cpu, node);
		if (access(path, F_OK) == 0)
			return node;
	}
	return 0;
}

/* Makes programs claim slots by compare-and-swap where the CPU's mitigations make calls of kernel functions slow. */
static inline void mapring__choose_guard(struct mapring__object *o, struct bpf_object *object)
{
	static const char *const FILES[] = { "spec_rstack_overflow", "retbleed" };
	static const char *const SLOW[] = { "Safe RET", "untrained return thunk", "Stuffing" };
	uint32_t is_slow = 0, offset = 0;
	struct bpf_map *map;

	for (int i = 0; i < 2; i++) {
		char path[128], text[256];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", FILES[i]);
		file = fopen(path, "re");
		if (file && fgets(text, sizeof(text), file))
			for (int slow = 0; slow < 3; slow++)
				is_slow |= strstr(text, SLOW[slow]) != NULL;
		if (file)
			fclose(file);
	}
	for (uint32_t id = 1; id < o->btf.count; id++) {
		const struct btf_type *section = o->btf.types[id];

		if (mapring__type_kind(section) != BTF_KIND_DATASEC ||
		    strcmp(mapring__string(&o->btf, section->name_off), ".rodata") != 0 ||
		    !mapring__variable(&o->btf, section, "mapring__guard_is_slow", &offset))
			continue;
		bpf_object__for_each_map(map, object) {
			size_t bytes = 0, length = strlen(bpf_map__name(map));
			void *constants;

			if (length < 7 || strcmp(bpf_map__name(map) + length - 7, ".rodata") != 0)
				continue;
			constants = (void *)(uintptr_t)bpf_map__initial_value(map, &bytes);
			if (constants && offset + sizeof(is_slow) <= bytes)
				memcpy((char *)constants + offset, &is_slow, sizeof(is_slow));
		}
	}
}

/* The text of the variable in SEC("license"): empty if the object has none, NULL if it is not known. libbpf has no function for it, but its
 * objects begin with `char name[16]`, which has one, and `char license[64]`. */
static inline const char *mapring__license(const struct mapring__object *o, const struct bpf_object *object)
{
	const char *name = bpf_object__name(object), *license = name + 16;
	uint32_t bytes = 0;

	for (uint32_t id = 1; id < o->btf.count; id++) {
		const struct btf_type *section = o->btf.types[id];

		if (mapring__type_kind(section) == BTF_KIND_DATASEC && BTF_INFO_VLEN(section->info) > 0 &&
		    strcmp(mapring__string(&o->btf, section->name_off), "license") == 0)
			bytes = ((const struct btf_var_secinfo *)(const void *)(section + 1))->size;
	}
	if (bytes == 0)
		return "";
	return (const void *)name == (const void *)object && bytes <= 64 && strnlen(license, bytes) == bytes - 1 ? license : NULL;
}

/* Refuses an object whose license keeps this kernel from loading its guard: the kernel's message names no remedy. Objects without the
 * guard, and kernels without its functions, take any license. */
static inline int mapring__check_license(const struct mapring__object *o, const struct bpf_object *object)
{
	/* As the kernel's license_is_gpl_compatible. */
	static const char *const COMPATIBLE[] = {
		"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
	};
	const char *const FUNCTION = "bpf_preempt_disable", *license = mapring__license(o, object);
	bool calls = false, fits = license == NULL;
	struct btf *kernel;

	for (uint32_t id = 1; id < o->btf.count; id++)
		calls |= mapring__type_kind(o->btf.types[id]) == BTF_KIND_FUNC &&
			 strcmp(mapring__string(&o->btf, o->btf.types[id]->name_off), FUNCTION) == 0;
	for (int i = 0; i < 6 && !fits; i++)
		fits = strcmp(license, COMPATIBLE[i]) == 0;
	if (!calls || fits)
		return 0;
	kernel = btf__load_vmlinux_btf();
	fits = !kernel || btf__find_by_name_kind(kernel, FUNCTION, BTF_KIND_FUNC) <= 0;
	btf__free(kernel);
	return fits ? 0 : mapring__refuse(EPERM, "the object's programs call %s, which this kernel allows only to programs with a "
					  "GPL-compatible license, and its license is \"%s\": put `#define MAPRING_NO_GUARD` before "
					  "mapring's headers, and programs claim slots by compare-and-swap instead, which costs about "
					  "3 ns more for each record; or choose a GPL-compatible license", FUNCTION, license);
}

static inline int mapring__prepare_map(struct mapring__object *o, struct mapring__declared *declared, uint64_t *bytes)
{
	const struct mapring_layout *l = &declared->layout;
	static __thread unsigned cpus[MAPRING__CPUS];
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), all = mapring__round_up(l->size * l->elements, page);
	int error;

#if !defined(__x86_64__) && !defined(__i386__)
	if (mapring__member(&o->btf, mapring__resolve(&o->btf, declared->value), "mapring_tso"))
		return mapring__refuse(ENOEXEC, "%s: compiled for x86, which keeps stores in order: compile for this machine",
				       declared->name);
#endif
	if (bpf_map__fd(declared->map) >= 0)
		return mapring__fits(&o->btf, declared, bpf_map__fd(declared->map));
	error = bpf_map__set_max_entries(declared->map, (uint32_t)l->elements);
	if (mapring__is_per_cpu(l)) {
		if (l->size > 32 << 10)
			return mapring__refuse(E2BIG, "%s: values of %llu bytes; the kernel allows 32 KiB on each CPU", declared->name,
					       (unsigned long long)l->size);
		all = l->size * l->elements * (uint64_t)mapring__possible_cpus(cpus, MAPRING__CPUS);
	}
	if (l->options & MAPRING_OPTION_PER_CPU_MAPS) {
		struct mapring__declared *maps =
			mapring__named(o, declared->name, mapring__first_suffix(declared->name), "");

		all *= (uint64_t)mapring__cpus("/sys/devices/system/cpu/online", cpus, MAPRING__CPUS);
		if (maps && !error)
			error = bpf_map__set_max_entries(maps->map, (uint32_t)o->shards);
		if (!error)
			error = bpf_map__set_numa_node(declared->map, mapring__node_of(cpus[0]));
	}
	*bytes += all;
	return error ? mapring__failed(declared->name) : 0;
}

/* Between open and load, after all other changes to the object: gives every map a shard for each possible CPU. `bytes`, if it is not
 * NULL, gets the kernel memory that the maps will take. Refuses maps that the object reuses and that hold something else, and with -EPERM
 * programs whose license does not allow the guard. */
static inline int mapring_loader__prepare(struct bpf_object *object, uint64_t *bytes)
{
	struct mapring__object o;
	uint64_t sum = 0;
	int error = mapring__object_open(&o, object);

	if (error)
		return error;
	error = mapring__check_license(&o, object);
	mapring__choose_guard(&o, object);
	for (uint32_t i = 0; i < o.count && !error; i++)
		if (o.maps[i].is_ours)
			error = mapring__prepare_map(&o, &o.maps[i], &sum);
	mapring__object_close(&o);
	if (bytes)
		*bytes = sum;
	return error;
}

#include "mapring_c/initialize.h"
#include "mapring_c/pin_names.h"
#include "mapring_c/pins.h"

#endif
