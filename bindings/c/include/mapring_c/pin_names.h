/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Names of pins: in which directories they are safe from other users, and how a new pin replaces an older one. */
#ifndef MAPRING_C_PIN_NAMES_H
#define MAPRING_C_PIN_NAMES_H

static inline int mapring__obj_pin(int fd, const char *path)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = mapring__address(path);
	attr.bpf_fd = (uint32_t)fd;
	return mapring__bpf(BPF_OBJ_PIN, &attr);
}

static inline bool mapring__is_ours(const struct stat *found)
{
	return found->st_uid == 0 || found->st_uid == geteuid();
}

/* Opens the directory of a pin. The names in its path are opened one after the other, and symbolic links are not followed. Each directory
 * must belong to root or to this user, and others may write it only if it is sticky. Then no other user can exchange a name that is made
 * in it. Its descriptor is for paths in /proc/self/fd. */
static inline int mapring__pin_dir(const char *whole)
{
	const unsigned int proc = 0x9fa0, sysfs = 0x62656572; /* the kernel makes all names in them */
	int dir = open(*whole == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC), next;
	const char *pin = whole;
	char name[256]; /* the kernel's limit */
	struct statfs system;
	struct stat found;

	while (dir >= 0 && fstat(dir, &found) == 0 && fstatfs(dir, &system) == 0) {
		size_t length = strcspn(pin += strspn(pin, "/"), "/");
		unsigned int type = (unsigned int)system.f_type;

		if (type != proc && type != sysfs &&
		    (!mapring__is_ours(&found) || ((found.st_mode & 022) != 0 && (found.st_mode & S_ISVTX) == 0))) {
			close(dir);
			return mapring__refuse(EACCES, "another user could exchange names in the directory above \"%s\" of %s: "
					       "it must belong to root or to this user, and if others may write it, it must be sticky",
					       pin, whole);
		}
		if (!pin[length]) {
			if (length && type == MAPRING__BPF_FS)
				return dir;
			close(dir);
			return mapring__refuse(EINVAL, "%s: not a name in a BPF file system (mount -t bpf)", whole);
		}
		snprintf(name, sizeof(name), "%.*s", (int)length, pin);
		next = length < sizeof(name) ? openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (length >= sizeof(name))
			errno = ENAMETOOLONG;
		close(dir);
		dir = next;
		pin += length;
	}
	if (errno == ENOTDIR)
		return mapring__refuse(ENOTDIR, "%s: a name before the last is not a directory; symbolic links are not followed", whole);
	return mapring__failed(whole);
}

/* The name of a pin, of a path below /proc/self/fd. */
static inline const char *mapring__pin_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Whether a path, in this directory, has what only root or this user can have put there: 0 if so, -ENOENT if nothing is there. Anybody can
 * take a free name in a directory that others may write. What is to be replaced there can be of others, but no directory, as they could
 * fill it at any time. */
static inline int mapring__expect_ours(int dir, const char *path, bool replace)
{
	struct stat above, found;

	if (fstat(dir, &above) != 0 || fstatat(dir, mapring__pin_name(path), &found, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? -ENOENT : mapring__failed(path);
	if (!S_ISDIR(found.st_mode) && (replace || (above.st_mode & 022) == 0))
		return 0;
	if (mapring__is_ours(&found) && !S_ISDIR(found.st_mode) && found.st_nlink != 1)
		return mapring__refuse(EACCES, "%s has another name, too, and another user may have made this one: remove it", path);
	if (mapring__is_ours(&found))
		return 0;
	return mapring__refuse(EACCES, "%s belongs to user %u, who may have put it there: remove it", path, (unsigned)found.st_uid);
}

/* Removes a directory of pins, if it is one in a BPF file system. */
static inline int mapring__remove_pins(const char *path)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs system;
	struct dirent *entry;
	DIR *pins;

	if (dir < 0)
		return errno == ENOENT ? 0 : mapring__failed(mapring__pin_name(path));
	if (fstatfs(dir, &system) != 0 || (uint32_t)system.f_type != MAPRING__BPF_FS || !(pins = fdopendir(dir))) {
		close(dir);
		return mapring__refuse(EINVAL, "%s: not a directory of pins", mapring__pin_name(path));
	}
	while ((entry = readdir(pins)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(pins), entry->d_name, 0);
	closedir(pins);
	return rmdir(path) == 0 ? 0 : mapring__failed(mapring__pin_name(path));
}

/* The directory NAME__next beside a pin, in which a new pin is made, and in which it leaves what it replaces. It is also a lock: one process
 * at a time changes a pin. Rust's loader does the same: ring/src/bpf/stage.rs has the names in it. */
struct mapring__stage {
	const char *pin; /* below /proc/self/fd */
	const char *whole; /* its path */
	int above;
	char dir[512];
	int fd;
};

/* A name in it. */
static inline const char *mapring__staged(const struct mapring__stage *s, char path[128], const char *name, const char *suffix)
{
	snprintf(path, 128, "/proc/self/fd/%d/%s%s", s->fd, name, suffix);
	return path;
}

static inline bool mapring__rename(const char *from, const char *to, unsigned flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags) == 0;
}

enum { MAPRING__NOREPLACE = 1, MAPRING__EXCHANGE = 2 }; /* RENAME_… */
static const char *const mapring__suffixes[] = { "__readers", "__bells" };

/* Finishes what this process, or one that died, has begun: if the ring is public, its readers and bells become so. Else all is taken
 * back. */
static inline int mapring__stage_finish(const struct mapring__stage *s)
{
	char path[128], to[512];
	struct stat found;
	bool is_public;
	int error = 0;

	if (lstat(mapring__staged(s, path, "new", ""), &found) == 0)
		is_public = S_ISDIR(found.st_mode); /* which was exchanged for the pin, or has no companions beside it */
	else
		is_public = lstat(s->pin, &found) == 0;
	for (int i = 0; i < 2; i++) {
		snprintf(to, sizeof(to), "%s%s", s->pin, mapring__suffixes[i]);
		mapring__staged(s, path, "new", mapring__suffixes[i]);
		if (!is_public)
			unlink(path);
		else if (!mapring__rename(path, to, 0) && errno != ENOENT)
			error = mapring__failed(mapring__pin_name(to));
	}
	if (unlink(mapring__staged(s, path, "new", "")) != 0 && errno == EISDIR && !error)
		error = mapring__remove_pins(path);
	/* What `mapring clean` took away, and died. */
	if (!mapring__rename(mapring__staged(s, path, "old", ""), s->pin, MAPRING__NOREPLACE) && errno == EEXIST)
		unlink(path);
	return error;
}

static inline int mapring__stage_close(struct mapring__stage *s, int error)
{
	int finished = mapring__stage_finish(s);

	rmdir(s->dir);
	close(s->fd);
	return error ? error : finished;
}

/* Waits a second for another process that changes this pin. */
static inline int mapring__stage_open(struct mapring__stage *s, int above, const char *whole, const char *pin)
{
	const struct timespec nap = { 0, 5000000 };
	struct stat locked, now;

	s->pin = pin;
	s->whole = whole;
	s->above = above;
	if (snprintf(s->dir, sizeof(s->dir), "%s__next", pin) >= (int)sizeof(s->dir))
		return mapring__refuse(ENAMETOOLONG, "%s: a name of a pin has 255 bytes at most", mapring__pin_name(pin));
	for (int tries = 0; tries < 200; tries++) {
		if (mkdir(s->dir, 0700) != 0 && errno != EEXIST)
			return mapring__failed(mapring__pin_name(s->dir));
		s->fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (s->fd < 0 && errno == ENOENT)
			continue; /* the other process has just removed it */
		if (s->fd < 0 || fstat(s->fd, &locked) != 0)
			return mapring__failed(mapring__pin_name(s->dir));
		if ((locked.st_uid != 0 && locked.st_uid != geteuid()) || (locked.st_mode & 022) != 0) {
			close(s->fd);
			return mapring__refuse(EACCES, "%s belongs to another user, or can be written by one: remove it",
					       mapring__pin_name(s->dir));
		}
		if (flock(s->fd, LOCK_EX | LOCK_NB) == 0 && lstat(s->dir, &now) == 0 && now.st_ino == locked.st_ino) {
			int error = mapring__stage_finish(s);

			return error ? mapring__stage_close(s, error) : 0;
		}
		close(s->fd);
		nanosleep(&nap, NULL);
	}
	return mapring__refuse(EBUSY, "another process is at work in %s", mapring__pin_name(s->dir));
}

/* Pins a map in it. */
static inline int mapring__stage_pin(const struct mapring__stage *s, int fd, const char *name, const char *suffix, mode_t mode)
{
	char path[128];

	if (mapring__obj_pin(fd, mapring__staged(s, path, name, suffix)) != 0 || chmod(path, mode) != 0)
		return mapring__failed(mapring__pin_name(s->pin));
	return 0;
}

/* Gives `new` its name. With REPLACE it takes the place of what has the name at once, also of a directory. */
static inline int mapring__stage_publish(const struct mapring__stage *s, int how)
{
	char path[128];
	int error;

	if (mapring__rename(mapring__staged(s, path, "new", ""), s->pin, how & MAPRING_PIN_REPLACE ? 0 : MAPRING__NOREPLACE))
		return 0;
	if (errno == EEXIST && !(how & MAPRING_PIN_REPLACE))
		return mapring__refuse(EEXIST, "%s is pinned already: replace it with MAPRING_PIN_REPLACE", mapring__pin_name(s->pin));
	if (errno != EISDIR && errno != ENOTDIR && errno != ENOTEMPTY)
		return mapring__failed(mapring__pin_name(s->pin));
	error = mapring__expect_ours(s->above, s->whole, true); /* which then keeps the name */
	if (error)
		return error == -ENOENT ? mapring__failed(s->whole) : error;
	if (mapring__rename(path, s->pin, MAPRING__EXCHANGE))
		return 0;
	if (errno == EINVAL)
		return mapring__refuse(EINVAL, "%s: replacing a directory of pins needs Linux 5.16: remove it first",
				       mapring__pin_name(s->pin));
	return mapring__failed(mapring__pin_name(s->pin));
}

#endif
