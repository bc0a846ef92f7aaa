/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* After load: writes preambles, links wakeable rings, opens resizable rings, and creates the maps of CPUs. */
#ifndef MAPRING_C_INITIALIZE_H
#define MAPRING_C_INITIALIZE_H

/* The name of a region's record type. */
static inline const char *mapring__record_name(const struct mapring__btf *btf, const struct mapring__declared *declared)
{
	uint32_t id = mapring__record_type(btf, mapring__resolve(btf, declared->value), declared->layout.options);
	const struct btf_type *type = mapring__type(btf, id);

	if (declared->layout.options & MAPRING_OPTION_TAILS) {
		/* The struct of the position, the length, and the program's record. */
		type = mapring__resolve(btf, id);
		type = type ? mapring__type(btf, mapring__member(btf, type, "record")) : NULL;
	}
	return type ? mapring__string(btf, type->name_off) : "";
}

static inline void mapring__preamble(uint64_t words[MAPRING__PREAMBLE_WORDS], const struct mapring_layout *l, const char *record)
{
	memset(words, 0, 8 * MAPRING__PREAMBLE_WORDS);
	words[0] = mapring__magic();
	words[1] = MAPRING_ABI_VERSION;
	words[MAPRING__KIND] = mapring__kind_word(l);
	words[MAPRING__RECORD] = l->record;
	words[MAPRING__CAPACITY] = l->capacity;
	words[MAPRING__SHARDS] = l->shards;
	words[MAPRING__SIZE] = l->size;
	words[MAPRING__GENERATION] = mapring__clock(CLOCK_BOOTTIME);
	memcpy(&words[MAPRING__NAME], record, strnlen(record, 23));
	words[MAPRING__LOADER] = mapring__this_process();
	if (l->options & MAPRING_OPTION_RESIZABLE)
		words[MAPRING__GATE] = 1 | (uint64_t)__builtin_ctzll(l->capacity) << 8;
}

/* Writes a preamble through lookups' counterpart, to each copy of a map that can't be mapped; the element with word 0 last. */
static inline int mapring__update_preamble(int fd, const struct mapring_layout *l, const uint64_t words[MAPRING__PREAMBLE_WORDS])
{
	uint64_t element = l->size / 8, *image;
	int copies = 1, error = 0;

	if (mapring__is_per_cpu(l)) {
		unsigned *cpus = (unsigned *)calloc(MAPRING__CPUS, sizeof(*cpus));

		copies = cpus ? mapring__copies_of(fd, l->size, cpus, MAPRING__CPUS) : -1;
		free(cpus);
	}
	image = copies < 1 ? NULL : (uint64_t *)calloc(element * (uint64_t)copies, 8);
	if (!image)
		return mapring__failed("memory for a preamble");
	for (uint64_t at = mapring__words_of(8 * MAPRING__PREAMBLE_WORDS + l->size - 8) / element; at-- > 0 && !error;) {
		for (uint64_t word = 0; word < element * (uint64_t)copies; word++) {
			uint64_t of_region = at * element + word % element;

			image[word] = of_region < MAPRING__PREAMBLE_WORDS ? words[of_region] : 0;
		}
		error = mapring__update(fd, (uint32_t)at, image) ? mapring__failed("bpf(BPF_MAP_UPDATE_ELEM) of the preamble") : 0;
	}
	free(image);
	return error;
}

static inline bool mapring__has_preamble(int fd)
{
	struct mapring_region r;
	uint64_t word = 0;

	if (mapring__region_of_fd(&r, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0) == 0) {
		word = mapring__word(&r, 0, 0);
		mapring__region_close(&r);
	}
	return word != 0;
}

/* Writes the preamble of a map of this layout, and opens the gates of a resizable ring. If it has one, this process becomes its
 * loader. */
static inline int mapring__write_preamble(int fd, const struct mapring_layout *l, const char *record)
{
	uint64_t words[MAPRING__PREAMBLE_WORDS], bytes = l->size * l->elements, *to;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	mapring__preamble(words, l, record);
	if (at == MAP_FAILED) {
		/* Written once: a map of each CPU's values counts on in its preamble, and a frozen map has one already. */
		return mapring__has_preamble(fd) ? 0 : mapring__update_preamble(fd, l, words);
	}
	to = (uint64_t *)at;
	if (mapring__load(to) != 0) {
		mapring__store(to + MAPRING__LOADER, words[MAPRING__LOADER]);
	} else {
		for (uint64_t word = 1; word < MAPRING__PREAMBLE_WORDS; word++)
			if (word != MAPRING__DROPPED)
				mapring__store(to + word, words[word]);
		mapring__fence_release(); /* SYNC preamble: word 0 comes last */
		mapring__store(to, words[0]);
		for (uint64_t shard = 0; (l->options & MAPRING_OPTION_RESIZABLE) && shard < l->shards; shard++)
			mapring__store_release(to + mapring__header_at(l, shard) + MAPRING__PROGRAM_GATE,
					       words[MAPRING__GATE] | mapring__slots_at(l, shard) / (l->size / 8) << 32);
	}
	munmap(at, bytes);
	return 0;
}

/* The same for a map of the object, unless another one of this shape has its preamble already and can't be written. */
static inline int mapring__initialize_map(struct mapring__object *o, struct mapring__declared *declared, int fd)
{
	struct mapring_layout l = declared->layout;
	struct bpf_map_info info;
	int error = mapring__fits(&o->btf, declared, fd);

	if (error || mapring__map_info(fd, &info) != 0)
		return error ? error : mapring__failed(declared->name);
	if (l.options & MAPRING_OPTION_RESIZABLE && info.max_entries != l.elements)
		return 0; /* a reused ring that was resized has its preamble */
	return mapring__write_preamble(fd, &l, mapring__record_name(&o->btf, declared));
}

/* Creates the maps of the CPUs that are online and have none, each on the node of its CPU. */
static inline int mapring__make_cpu_maps(struct mapring__object *o, struct bpf_object *object, struct mapring__declared *first, int maps)
{
	unsigned *cpus = (unsigned *)calloc(MAPRING__CPUS, sizeof(*cpus));
	int online = cpus ? mapring__cpus("/sys/devices/system/cpu/online", cpus, MAPRING__CPUS) : -1, error = 0;
	struct bpf_map_info info;

	if (online < 1 || mapring__map_info(bpf_map__fd(first->map), &info) != 0)
		error = mapring__failed(first->name);
	for (int i = 0; i < online && !error; i++) {
		uint32_t id;
		union bpf_attr attr;
		int fd;

		if (mapring__lookup(maps, cpus[i], &id) == 0)
			continue;
		memset(&attr, 0, sizeof(attr));
		attr.map_type = info.type;
		attr.key_size = info.key_size;
		attr.value_size = info.value_size;
		attr.max_entries = info.max_entries;
		attr.map_flags = info.map_flags | BPF_F_NUMA_NODE;
		attr.numa_node = mapring__node_of(cpus[i]);
		memcpy(attr.map_name, info.name, sizeof(attr.map_name));
		attr.btf_fd = (uint32_t)bpf_object__btf_fd(object);
		attr.btf_key_type_id = info.btf_key_type_id;
		attr.btf_value_type_id = info.btf_value_type_id;
		fd = mapring__bpf(BPF_MAP_CREATE, &attr);
		if (fd < 0) {
			error = mapring__failed("bpf(BPF_MAP_CREATE) of a CPU's map");
			break;
		}
		error = mapring__write_preamble(fd, &first->layout, mapring__record_name(&o->btf, first));
		if (!error && mapring__update(maps, cpus[i], &fd) != 0)
			error = mapring__failed("bpf(BPF_MAP_UPDATE_ELEM) of a CPU's map");
		close(fd);
	}
	free(cpus);
	return error;
}

/* Stores a link in word 13, unless it is there. Another link is that of a map that the object reuses without the other two: readers in
 * other processes would sleep on bells that no program rings. */
static inline int mapring__store_link(const char *name, int fd, uint64_t link, bool is_readers)
{
	struct mapring_region r;
	int error = mapring__region_of_fd(&r, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0);
	uint64_t found;

	if (error)
		return error;
	found = mapring__word(&r, 0, MAPRING__LINK);
	if (found != 0 && found != link) {
		error = mapring__refuse(EMEDIUMTYPE, "%s: the object does not reuse it with its __readers and __bells, all of one loader: "
					"mapring_loader__reuse does", name);
	} else if (found == 0) {
		mapring__unmap(&r);
		errno = 0;
		if (mapring__map_memory(&r, r.layout.size * r.layout.elements, MAPRING_WRITE)) {
			/* It is not 0 once it was linked: then it may have readers that want programs to look. */
			if (is_readers)
				mapring__swap_if(r.writable + MAPRING__LOOK, 0, MAPRING__NEVER);
			mapring__store_release(r.writable + MAPRING__LINK, link);
		} else {
			error = mapring__failed("mmap of a wakeable ring");
		}
	}
	mapring__region_close(&r);
	return error;
}

/* Links a wakeable ring with its readers and its bells. */
static inline int mapring__link_ring(struct mapring__object *o, struct mapring__declared *ring)
{
	size_t cut = mapring__first_suffix(ring->name);
	struct mapring__declared *readers = mapring__named(o, ring->name, cut, "__readers");
	struct mapring__declared *bells = mapring__named(o, ring->name, cut, "__bells");
	struct bpf_map_info ring_info, readers_info, bells_info;
	int error;

	if (!readers || !bells)
		return mapring__refuse(EINVAL, "%s: its maps __readers and __bells are missing", ring->name);
	if (mapring__map_info(bpf_map__fd(ring->map), &ring_info) != 0 ||
	    mapring__map_info(bpf_map__fd(readers->map), &readers_info) != 0 ||
	    mapring__map_info(bpf_map__fd(bells->map), &bells_info) != 0)
		return mapring__failed(ring->name);
	error = mapring__store_link(ring->name, bpf_map__fd(readers->map), ring_info.id | (uint64_t)bells_info.id << 32, true);
	return error ? error : mapring__store_link(ring->name, bpf_map__fd(ring->map), readers_info.id, false);
}

/* After load, before programs are attached: writes what other processes need to know, opens resizable rings for programs, and
 * creates the maps of a PER_CPU_MAPS ring. Needs CAP_BPF. Refuses maps that hold something else than the object declares. */
static inline int mapring_loader__initialize(struct bpf_object *object)
{
	struct mapring__object o;
	int error = mapring__object_open(&o, object);

	for (uint32_t i = 0; !error && i < o.count; i++) {
		struct mapring__declared *declared = &o.maps[i];
		struct bpf_map_info info;
		int fd = declared->is_ours ? bpf_map__fd(declared->map) : -1;

		if (fd < 0 || mapring__map_info(fd, &info) != 0)
			continue; /* not created */
		error = mapring__initialize_map(&o, declared, fd);
		if (!error && (declared->layout.options & MAPRING_OPTION_PER_CPU_MAPS)) {
			struct mapring__declared *maps = mapring__named(&o, declared->name, mapring__first_suffix(declared->name), "");

			error = maps ? mapring__make_cpu_maps(&o, object, declared, bpf_map__fd(maps->map)) : 0;
		}
	}
	for (uint32_t i = 0; !error && i < o.count; i++)
		if (o.maps[i].is_ours && (o.maps[i].layout.options & MAPRING_OPTION_WAKEABLE) && bpf_map__fd(o.maps[i].map) >= 0)
			error = mapring__link_ring(&o, &o.maps[i]);
	mapring__object_close(&o);
	return error;
}

#endif
