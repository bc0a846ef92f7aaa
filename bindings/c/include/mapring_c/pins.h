/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pins: takes over what an earlier loader has pinned, or replaces it. */
#ifndef MAPRING_C_PINS_H
#define MAPRING_C_PINS_H

/* The map that programs write records to, for the name of a region: the first one of a map of maps. */
static inline struct mapring__declared *mapring__region_named(struct mapring__object *o, const char *name)
{
	struct mapring__declared *first = mapring__named(o, name, 0, "__first");
	struct mapring__declared *found = first ? first : mapring__named(o, name, 0, "");

	if (!found || !found->is_ours) {
		mapring__refuse(ENOENT, "the object declares no region %s", name);
		return NULL;
	}
	return found;
}

/* The descriptor of what is pinned at a path with a suffix: -ENOENT if nothing is. */
static inline int mapring__pinned(const char *pin, const char *suffix)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s%s", pin, suffix);
	fd = mapring__open_path(path, 0);
	if (fd >= 0)
		return fd;
	return errno == ENOENT ? -ENOENT : mapring__failed(path);
}

/* Makes an object's map use an open one, which libbpf must find by its name afterwards. */
static inline int mapring__use(struct mapring__declared *declared, int fd)
{
	struct bpf_map_info info;

	if (mapring__map_info(fd, &info) != 0)
		return mapring__failed(declared->name);
	if (strncmp(info.name, declared->name, sizeof(info.name) - 1) != 0)
		return mapring__refuse(EMEDIUMTYPE, "%s: the map that is pinned has the name %.16s", declared->name, info.name);
	return bpf_map__reuse_fd(declared->map, fd) != 0 ? mapring__failed(declared->name) : 0;
}

/* The companions of a wakeable ring that are pinned beside it, which must be linked with it. */
static inline int mapring__pinned_companions(const char *pin, int ring, int companions[2])
{
	struct bpf_map_info infos[3];
	struct mapring_region r;
	uint64_t link = 0;
	int error;

	companions[0] = mapring__pinned(pin, "__readers");
	companions[1] = mapring__pinned(pin, "__bells");
	if (companions[0] < 0 || companions[1] < 0)
		return mapring__refuse(EMEDIUMTYPE, "%s: its __readers or __bells are not pinned beside it", pin);
	if (mapring__map_info(ring, &infos[0]) != 0 || mapring__map_info(companions[0], &infos[1]) != 0 ||
	    mapring__map_info(companions[1], &infos[2]) != 0)
		return mapring__failed(pin);
	error = mapring__region_of_fd(&r, fcntl(companions[0], F_DUPFD_CLOEXEC, 0), 0);
	if (error)
		return error;
	link = mapring__word(&r, 0, MAPRING__LINK);
	if (r.layout.kind != MAPRING_KIND_READERS ||
	    (link != 0 && link != (infos[0].id | (uint64_t)infos[2].id << 32)))
		error = mapring__refuse(EMEDIUMTYPE, "%s: its __readers and __bells belong to another ring", pin);
	mapring__region_close(&r);
	return error;
}

static inline int mapring__reuse(struct mapring__object *o, const char *name, const char *pin)
{
	struct mapring__declared *region = mapring__region_named(o, name);
	int companions[2] = { -1, -1 }, fd, error;
	bool wakes;

	if (!region)
		return -ENOENT;
	if (region->layout.options & MAPRING_OPTION_PER_CPU_MAPS)
		return mapring__refuse(EOPNOTSUPP, "%s: the C loader does not reuse PER_CPU_MAPS rings", name);
	wakes = region->layout.options & MAPRING_OPTION_WAKEABLE;
	fd = mapring__pinned(pin, "");
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	error = mapring__fits(&o->btf, region, fd);
	if (!error && wakes)
		error = mapring__pinned_companions(pin, fd, companions);
	if (!error)
		error = mapring__use(region, fd);
	if (!error && wakes)
		error = mapring__use(mapring__named(o, name, 0, "__readers"), companions[0]);
	if (!error && wakes)
		error = mapring__use(mapring__named(o, name, 0, "__bells"), companions[1]);
	close(fd);
	for (int i = 0; i < 2; i++)
		if (companions[i] >= 0)
			close(companions[i]);
	return error ? error : 1;
}

/* Between open and prepare, in a loader that starts again: makes the object use what is pinned for the region that it declares as
 * `name`. Returns 1 if it does, and 0 if nothing is pinned. -EMEDIUMTYPE: what is pinned has another kind, options, slots, shards,
 * records or fields (compared with CAP_SYS_ADMIN only). Then the object makes new maps; pin them with MAPRING_PIN_REPLACE. */
static inline int mapring_loader__reuse(struct bpf_object *object, const char *name, const char *pin)
{
	struct mapring__object o;
	int error = mapring__object_open(&o, object);

	if (error)
		return error;
	error = mapring__reuse(&o, name, pin);
	mapring__object_close(&o);
	return error;
}

static inline int mapring__obj_pin(int fd, const char *path)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = mapring__address(path);
	attr.bpf_fd = (uint32_t)fd;
	return mapring__bpf(BPF_OBJ_PIN, &attr);
}

/* Pins a map. With REPLACE it takes the place of another pin at once: a reader finds one or the other. */
static inline int mapring__pin(int fd, const char *pin, const char *suffix, mode_t mode, int how)
{
	char path[4096], staged[4096 + 8];

	snprintf(path, sizeof(path), "%s%s", pin, suffix);
	snprintf(staged, sizeof(staged), "%s__next", path);
	unlink(staged); /* of a loader that died */
	if (mapring__obj_pin(fd, staged) != 0)
		return mapring__failed(staged);
	if (!(how & MAPRING_PIN_REPLACE) && access(path, F_OK) == 0) {
		unlink(staged);
		return mapring__refuse(EEXIST, "%s is pinned already: replace it with MAPRING_PIN_REPLACE", path);
	}
	if (chmod(staged, mode) == 0 && rename(staged, path) == 0)
		return 0;
	mapring__failed(path);
	unlink(staged);
	return -errno;
}

static inline int mapring__freeze(int fd)
{
	char path[64], line[128];
	int frozen = 0;
	FILE *info;

	if (bpf_map_freeze(fd) == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	while (info && fgets(line, sizeof(line), info))
		sscanf(line, "frozen: %d", &frozen);
	if (info)
		fclose(info);
	errno = EBUSY;
	return frozen ? 0 : mapring__failed("bpf(BPF_MAP_FREEZE): a process has mapped it for writing");
}

/* Pins a region for readers in other processes, after initialize: a ring with its readers and bells. With mode 0666 and
 * MAPRING_PIN_FREEZE any process can map it, and only programs can write it. */
static inline int mapring_loader__pin(struct bpf_object *object, const char *name, const char *pin, mode_t mode, int how)
{
	static const char *const SUFFIXES[] = { "__readers", "__bells" };
	struct mapring__declared *region;
	struct mapring__object o;
	int error = mapring__object_open(&o, object);

	if (error)
		return error;
	region = mapring__region_named(&o, name);
	if (!region)
		error = -ENOENT;
	else if (region->layout.options & MAPRING_OPTION_PER_CPU_MAPS)
		error = mapring__refuse(EOPNOTSUPP, "%s: the C loader does not pin PER_CPU_MAPS rings", name);
	/* The ring comes last: whoever finds it finds the others. */
	for (int i = 0; i < 2 && !error && (region->layout.options & MAPRING_OPTION_WAKEABLE); i++)
		error = mapring__pin(bpf_map__fd(mapring__named(&o, name, 0, SUFFIXES[i])->map), pin, SUFFIXES[i], mode, how);
	if (!error && (how & MAPRING_PIN_FREEZE) && (region->layout.options & MAPRING_OPTION_RESIZABLE))
		error = mapring__refuse(EOPNOTSUPP, "%s: a resizable ring is not frozen: resizing writes it", name);
	if (!error && (how & MAPRING_PIN_FREEZE))
		error = mapring__freeze(bpf_map__fd(region->map));
	if (!error)
		error = mapring__pin(bpf_map__fd(region->map), pin, "", mode, how);
	mapring__object_close(&o);
	return error;
}

#endif
