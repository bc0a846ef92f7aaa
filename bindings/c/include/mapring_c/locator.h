/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where regions are: pins, descriptors, maps of maps. */
#ifndef MAPRING_C_LOCATOR_H
#define MAPRING_C_LOCATOR_H

/* Retries if a map of a map of maps is replaced before it is opened. */
enum { MAPRING__AGAIN = 16 };

/* How a region is opened. */
enum {
	/* Map it for writing: latches, commands. */
	MAPRING_WRITE = 1,
	/* Never map it: read it by system call. */
	MAPRING_LOOKUP = 2
};

/* Where a region is, now and after another one replaced it. */
struct mapring__locator {
	char *path;   /* NULL: by descriptor */
	int fd;       /* -1: by path */
	bool is_maps; /* the map under `key` of a map of maps */
	uint32_t key;
	int flags;
};

/* Returns a descriptor of the map under a key of a map of maps, or -1. */
static inline int mapring__open_inner(int maps, uint32_t key, int flags)
{
	int fd = -1;
	uint32_t id;

	for (int i = 0; i < MAPRING__AGAIN && fd < 0; i++) {
		if (mapring__lookup(maps, key, &id) < 0)
			break;
		fd = mapring__open_id(id, flags & MAPRING_LOOKUP);
		if (fd < 0 && errno != ENOENT)
			break;
	}
	return fd;
}

/* The type of a BPF file system: BPF_FS_MAGIC of <linux/magic.h>. */
#define MAPRING__BPF_FS 0xcafe4a11u

/* Opens what is at a path: a pin, or a memfd. */
static inline int mapring__open_path(const char *path, int flags)
{
	struct statfs system;
	int fd;

	if (statfs(path, &system) == 0 && (uint32_t)system.f_type != MAPRING__BPF_FS)
		/* A pipe or a device of another user does not keep it waiting, and is refused afterwards. */
		return open(path, (flags & MAPRING_WRITE ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	fd = mapring__open_pin(path, flags & MAPRING_LOOKUP);
	/* The pin is not writable: read it by system call. */
	return fd < 0 && errno == EACCES && !(flags & MAPRING_WRITE) ? mapring__open_pin(path, true) : fd;
}

static inline int mapring__locator_open(const struct mapring__locator *locator)
{
	if (locator->is_maps)
		return mapring__open_inner(locator->fd, locator->key, locator->flags);
	return locator->path ? mapring__open_path(locator->path, locator->flags) : fcntl(locator->fd, F_DUPFD_CLOEXEC, 0);
}

/* The id of the current map there; 0 if none. */
static inline uint32_t mapring__locator_id(const struct mapring__locator *locator)
{
	struct bpf_map_info info;
	int fd = mapring__locator_open(locator);
	uint32_t id = fd >= 0 && mapring__map_info(fd, &info) == 0 ? info.id : 0;

	if (fd >= 0)
		close(fd);
	return id;
}

#endif
