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

/* The descriptor of what is pinned at a path in this directory: -ENOENT if nothing is. */
static inline int mapring__pinned(int dir, const char *path)
{
	int fd = mapring__expect_ours(dir, path, false);
	char at[512];

	if (fd < 0)
		return fd;
	snprintf(at, sizeof(at), "/proc/self/fd/%d/%s", dir, mapring__pin_name(path));
	fd = mapring__open_path(at, 0);
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

/* The companions of a wakeable ring that are pinned beside it, in this directory. They must be linked with it. */
static inline int mapring__pinned_companions(int dir, const char *pin, int ring, int companions[2])
{
	struct mapring_region r;
	char path[4096];
	int error = 0;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%.4000s%s", pin, mapring__suffixes[i]);
		error = mapring__expect_ours(dir, path, false);
		if (error && error != -ENOENT)
			return error;
	}
	error = mapring__region_of_fd(&r, fcntl(ring, F_DUPFD_CLOEXEC, 0), 0);
	if (error)
		return error;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%.255s", dir, mapring__pin_name(pin));
	mapring__companions(&r, path, companions);
	mapring__region_close(&r);
	return companions[1] >= 0 ? 0 :
				    mapring__refuse(EMEDIUMTYPE, "%s: its __readers and __bells are not pinned beside it, or belong to "
						    "another ring", pin);
}

/* Puts the rings that are pinned in the open directory `pin`, `cpu0` and so on, into a new map of maps. Returns the first one's
 * descriptor, -ENOENT if there is none, and its path. */
static inline int mapring__reuse_each_cpu(struct mapring__object *o, const char *name, struct mapring__declared *of_each, int dir,
					  const char *pin, char first_pin[4096])
{
	struct mapring__declared *maps = mapring__named(o, name, 0, "");
	unsigned *cpus = (unsigned *)calloc(MAPRING__CPUS, sizeof(*cpus));
	int possible = cpus ? mapring__possible_cpus(cpus, MAPRING__CPUS) : -1, first = -ENOENT, made = -1, error = 0;

	if (possible < 1 || !maps)
		error = mapring__failed("the list of the possible CPUs");
	for (int i = 0; i < possible && !error; i++) {
		char path[4096];
		int fd;

		snprintf(path, sizeof(path), "%s/cpu%u", pin, cpus[i]);
		fd = mapring__pinned(dir, path);
		if (fd == -ENOENT)
			continue;
		error = fd < 0 ? fd : mapring__fits(&o->btf, of_each, fd);
		if (!error && made < 0) {
			struct bpf_map_create_opts opts;

			memset(&opts, 0, sizeof(opts));
			opts.sz = sizeof(opts);
			opts.inner_map_fd = (uint32_t)fd;
			made = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, name, 4, 4, (uint32_t)o->shards, &opts);
			if (made < 0)
				error = mapring__failed("bpf(BPF_MAP_CREATE) of a map of maps");
		}
		if (!error && mapring__update(made, cpus[i], &fd) != 0)
			error = mapring__failed("bpf(BPF_MAP_UPDATE_ELEM) of a CPU's map");
		if (!error && first < 0) {
			first = fd;
			memcpy(first_pin, path, sizeof(path));
		} else if (fd >= 0) {
			close(fd);
		}
	}
	if (!error && first >= 0)
		error = mapring__use(maps, made);
	if (made >= 0)
		close(made);
	free(cpus);
	if (error && first >= 0)
		close(first);
	return error ? error : first;
}

/* The same for what is pinned in a directory that no other user can change. */
static inline int mapring__reuse_in(struct mapring__object *o, const char *name, struct mapring__declared *region, int dir, const char *pin)
{
	bool wakes = region->layout.options & MAPRING_OPTION_WAKEABLE;
	bool each_cpu = region->layout.options & MAPRING_OPTION_PER_CPU_MAPS;
	int companions[2] = { -1, -1 }, fd, error;
	char first_pin[4096];

	fd = each_cpu ? mapring__reuse_each_cpu(o, name, region, dir, pin, first_pin) : mapring__pinned(dir, pin);
	if (fd < 0)
		return fd;
	error = each_cpu ? 0 : mapring__fits(&o->btf, region, fd);
	if (!error && wakes)
		error = mapring__pinned_companions(dir, each_cpu ? first_pin : pin, fd, companions);
	if (!error)
		error = mapring__use(region, fd);
	if (!error && wakes)
		error = mapring__use(mapring__named(o, name, 0, "__readers"), companions[0]);
	if (!error && wakes)
		error = mapring__use(mapring__named(o, name, 0, "__bells"), companions[1]);
	close(fd);
	mapring__companions_close(companions);
	return error ? error : 1;
}

static inline int mapring__reuse(struct mapring__object *o, const char *name, const char *pin)
{
	struct mapring__declared *region = mapring__region_named(o, name);
	int dir = region ? mapring__pin_dir(pin) : -ENOENT, error;
	struct stat found;
	char path[4096];
	bool each_cpu;

	if (!region)
		return -ENOENT;
	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	each_cpu = region->layout.options & MAPRING_OPTION_PER_CPU_MAPS;
	error = mapring__expect_ours(dir, pin, false);
	if (!error && fstatat(dir, mapring__pin_name(pin), &found, AT_SYMLINK_NOFOLLOW) != 0)
		error = errno == ENOENT ? -ENOENT : mapring__failed(pin);
	if (!error && S_ISLNK(found.st_mode))
		error = mapring__refuse(ELOOP, "%s: a symbolic link, which is not followed", pin);
	else if (!error && S_ISDIR(found.st_mode) != each_cpu)
		error = mapring__refuse(EMEDIUMTYPE, "%s: it is %s, and this object declares %s", pin,
					each_cpu ? "one map" : "a directory of maps", each_cpu ? "a directory of maps" : "one map");
	if (!error && each_cpu) {
		close(dir);
		snprintf(path, sizeof(path), "%.4000s/cpu0", pin);
		error = dir = mapring__pin_dir(path);
	}
	if (error >= 0)
		error = mapring__reuse_in(o, name, region, dir, pin);
	if (dir >= 0)
		close(dir);
	return error == -ENOENT ? 0 : error;
}

/* Between open and prepare, in a loader that starts again: makes the object use what is pinned for the region that it declares as
 * `name`; of a PER_CPU_MAPS ring, `pin` is a directory. Returns 1 if it does, and 0 if nothing is pinned. -EMEDIUMTYPE: what is
 * pinned has another kind, options, slots, shards, records or fields (compared with CAP_SYS_ADMIN only). Then the object makes new
 * maps; pin them with MAPRING_PIN_REPLACE. -EACCES: another user may have pinned it. What is pinned may be frozen. */
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

/* Pins the readers and the bells of a ring, if it has them. Returns whether it has, or a negative errno. */
static inline int mapring__pin_companions(struct mapring__object *o, const char *name, const struct mapring__stage *s, const char *as,
					  mode_t mode)
{
	int error = 0, count = 0;

	for (int i = 0; i < 2 && !error; i++) {
		struct mapring__declared *map = mapring__named(o, name, 0, mapring__suffixes[i]);

		error = map ? mapring__stage_pin(s, bpf_map__fd(map->map), as, mapring__suffixes[i], mode) : 0;
		count += map != NULL;
	}
	return error ? error : count;
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

/* Pins the ring of each CPU in a directory, and the companions beside the first. */
static inline int mapring__pin_each_cpu(struct mapring__object *o, const char *name, const struct mapring__stage *s, mode_t mode, int how)
{
	unsigned *cpus = (unsigned *)calloc(MAPRING__CPUS, sizeof(*cpus));
	int possible = cpus ? mapring__possible_cpus(cpus, MAPRING__CPUS) : -1, error = 0;
	struct mapring__declared *maps = mapring__named(o, name, 0, "");
	bool has_first = false;

	if (possible < 1 || !maps)
		error = mapring__failed("the list of the possible CPUs");
	for (int i = 0; i < possible && error >= 0; i++) {
		int fd = mapring__open_inner(bpf_map__fd(maps->map), cpus[i], 0);
		char as[32];

		if (fd < 0) {
			error = errno == ENOENT ? 0 : mapring__failed(maps->name);
			continue; /* this CPU has no ring yet */
		}
		snprintf(as, sizeof(as), "new/cpu%u", cpus[i]);
		if (!has_first)
			error = mapring__pin_companions(o, name, s, as, mode);
		has_first = true;
		if (error >= 0 && (how & MAPRING_PIN_FREEZE))
			error = mapring__freeze(fd);
		if (error >= 0)
			error = mapring__stage_pin(s, fd, as, "", mode);
		close(fd);
	}
	free(cpus);
	return error < 0 ? error : 0;
}

/* Makes a directory of pins. */
static inline int mapring__pin_directory(struct mapring__object *o, const char *name, const struct mapring__stage *s, mode_t mode, int how)
{
	char path[128];
	int error = mkdir(mapring__staged(s, path, "new", ""), 0700) == 0 ? mapring__pin_each_cpu(o, name, s, mode, how) :
									    mapring__failed(mapring__pin_name(s->pin));

	/* Users that may read the pins may also look them up in the directory. None exchanges names in it. */
	if (!error && chmod(path, 0700 | (mode & 0444) | (mode & 0444) >> 2) != 0)
		error = mapring__failed(mapring__pin_name(s->pin));
	return error ? error : mapring__stage_publish(s, how);
}

/* Pins one ring, or another region. Until its companions have their names, readers find them in the stage. */
static inline int mapring__pin_one(struct mapring__object *o, const char *name, struct mapring__declared *region,
				   const struct mapring__stage *s, mode_t mode, int how)
{
	int error = how & MAPRING_PIN_FREEZE ? mapring__freeze(bpf_map__fd(region->map)) : 0;

	/* The ring comes first: without it, another process that finds the others takes them for those of the ring that is public. */
	if (!error)
		error = mapring__stage_pin(s, bpf_map__fd(region->map), "new", "", mode);
	if (!error)
		error = mapring__pin_companions(o, name, s, "new", mode);
	if (error > 0)
		error = fchmod(s->fd, 0711) == 0 ? 0 : mapring__failed(mapring__pin_name(s->dir));
	return error ? error : mapring__stage_publish(s, how);
}

/* Removes the readers and bells of a ring that one without them has replaced. */
static inline void mapring__remove_companions(int dir, const char *pin)
{
	struct mapring_region r;
	char path[512];

	snprintf(path, sizeof(path), "%s%s", pin, mapring__suffixes[0]);
	if (mapring__region_of_fd(&r, mapring__pinned(dir, path), 0) != 0)
		return;
	for (int i = 0; i < 2 && r.layout.kind == MAPRING_KIND_READERS; i++) {
		snprintf(path, sizeof(path), "%s%s", pin, mapring__suffixes[i]);
		unlink(path);
	}
	mapring__region_close(&r);
}

/* Pins a region for readers in other processes, after initialize: a ring with its readers and bells. With mode 0666 and
 * MAPRING_PIN_FREEZE any process can map it, and only programs can write it. With MAPRING_PIN_REPLACE a reader that opens the pin at any
 * moment finds the earlier ring or this one, whole, also if this process dies meanwhile. Of a PER_CPU_MAPS ring, `pin` becomes a directory
 * with the ring of each CPU, `cpu0` and so on. The directory of `pin` must exist, in a BPF file system; -EACCES: another user could exchange
 * names in it or above it; -EBUSY: another process has been changing this pin for a second. */
static inline int mapring_loader__pin(struct bpf_object *object, const char *name, const char *pin, mode_t mode, int how)
{
	struct mapring__declared *region;
	struct mapring__object o;
	struct mapring__stage s;
	int error = mapring__object_open(&o, object), dir = -1;
	char at[400], path[4096];

	if (error)
		return error;
	region = mapring__region_named(&o, name);
	if (!region)
		error = -ENOENT;
	else if ((how & MAPRING_PIN_FREEZE) && (region->layout.options & MAPRING_OPTION_RESIZABLE))
		error = mapring__refuse(EOPNOTSUPP, "%s: a resizable ring is not frozen: resizing writes it", name);
	else if ((dir = mapring__pin_dir(pin)) < 0)
		error = dir;
	else if (snprintf(at, sizeof(at), "/proc/self/fd/%d/%s", dir, mapring__pin_name(pin)) >= (int)sizeof(at))
		error = mapring__refuse(ENAMETOOLONG, "%s: a name of a pin has 255 bytes at most", pin);
	else
		error = mapring__stage_open(&s, dir, pin, at);
	if (!error) {
		bool each_cpu = region->layout.options & MAPRING_OPTION_PER_CPU_MAPS;
		bool wakes = region->layout.options & MAPRING_OPTION_WAKEABLE;

		/* A freeze can't be undone. */
		for (int i = 0; i < (wakes && !each_cpu ? 3 : 1) && !error; i++) {
			snprintf(path, sizeof(path), "%.4000s%s", pin, i > 0 ? mapring__suffixes[i - 1] : "");
			error = mapring__expect_ours(dir, path, true);
			if (!error && !(how & MAPRING_PIN_REPLACE))
				error = mapring__refuse(EEXIST, "%s is pinned already: replace it with MAPRING_PIN_REPLACE", path);
			error = error == -ENOENT ? 0 : error;
		}
		if (!error)
			error = each_cpu ? mapring__pin_directory(&o, name, &s, mode, how) : mapring__pin_one(&o, name, region, &s, mode, how);
		if (!error && (each_cpu || !wakes))
			mapring__remove_companions(dir, at);
		error = mapring__stage_close(&s, error);
	}
	if (dir >= 0)
		close(dir);
	mapring__object_close(&o);
	return error;
}

#endif
