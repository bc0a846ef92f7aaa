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
		bool is_ours = found.st_uid == 0 || found.st_uid == geteuid();

		if (type != proc && type != sysfs &&
		    (!is_ours || ((found.st_mode & 022) != 0 && (found.st_mode & S_ISVTX) == 0))) {
			close(dir);
			return mapring__refuse(EACCES, "not pinned, since another user could exchange names in the directory above \"%s\" of "
					       "%s: it must belong to root or to this user, and be writable by nobody else, or sticky",
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

/* Gives what is staged its name. With REPLACE it takes the place of what has the name at once, also of a directory. */
static inline int mapring__take_place(const char *staged, const char *pin, int how)
{
	const unsigned noreplace = 1, exchange = 2; /* RENAME_NOREPLACE, RENAME_EXCHANGE */

	if (syscall(SYS_renameat2, AT_FDCWD, staged, AT_FDCWD, pin, how & MAPRING_PIN_REPLACE ? 0 : noreplace) == 0)
		return 0;
	if (errno == EEXIST && !(how & MAPRING_PIN_REPLACE))
		return mapring__refuse(EEXIST, "%s is pinned already: replace it with MAPRING_PIN_REPLACE", mapring__pin_name(pin));
	if (errno != EISDIR && errno != ENOTDIR && errno != ENOTEMPTY)
		return mapring__failed(mapring__pin_name(pin));
	if (syscall(SYS_renameat2, AT_FDCWD, staged, AT_FDCWD, pin, exchange) == 0)
		return unlink(staged) == 0 ? 0 : mapring__remove_pins(staged);
	if (errno == EINVAL)
		return mapring__refuse(EINVAL, "%s: replacing a directory of pins needs Linux 5.16: remove it first",
				       mapring__pin_name(pin));
	return mapring__failed(mapring__pin_name(pin));
}

/* Pins a map. With REPLACE it takes the place of another pin at once: a reader finds one or the other. */
static inline int mapring__pin(int fd, const char *pin, const char *suffix, mode_t mode, int how)
{
	char path[512], staged[512 + 8];
	int error;

	if (snprintf(path, sizeof(path), "%s%s", pin, suffix) >= (int)sizeof(path))
		return mapring__refuse(ENAMETOOLONG, "%s: a name of a pin has 255 bytes at most", mapring__pin_name(pin));
	snprintf(staged, sizeof(staged), "%s__next", path);
	unlink(staged); /* of a loader that died */
	if (mapring__obj_pin(fd, staged) != 0)
		return mapring__failed(mapring__pin_name(pin));
	error = chmod(staged, mode) == 0 ? mapring__take_place(staged, path, how) : mapring__failed(mapring__pin_name(staged));
	if (error)
		unlink(staged);
	return error;
}

#endif
