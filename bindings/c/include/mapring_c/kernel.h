/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Errors with a text, bpf(2), and processes. */
#ifndef MAPRING_C_KERNEL_H
#define MAPRING_C_KERNEL_H

/* Why the last call of this thread failed. */
__attribute__((weak)) __thread char mapring__text[1024];

/* Keeps the reason of a failure. Returns the negative errno. */
__attribute__((format(printf, 2, 3))) MAPRING__COLD int mapring__refuse(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(mapring__text, sizeof(mapring__text), format, args);
	va_end(args);
	errno = error;
	return -error;
}

/* The same after a system call, whose errno it keeps. */
MAPRING__COLD int mapring__failed(const char *what)
{
	int error = errno ? errno : EIO;

	return mapring__refuse(error, "%s: %s", what, strerror(error));
}

/* Puts what was opened before the reason of a failure. */
MAPRING__COLD int mapring__refuse_for(int error, const char *what)
{
	char why[sizeof(mapring__text)];

	memcpy(why, mapring__text, sizeof(why));
	return error ? mapring__refuse(-error, "%s: %s", what, why) : 0;
}

/* The kernel's error for something that can't be opened, and the remedy. `path`: NULL for a descriptor or an id. */
MAPRING__COLD int mapring__not_opened(const char *what, const char *path)
{
	int error = errno ? errno : EIO;
	const char *hint = "";

	if (path && error == EACCES)
		hint = "; ask its owner for read and write permission on the pin (chmod 0666, once the map is frozen) and for search "
		       "permission on its directory";
	else if (path && error == ENOENT)
		hint = "; is the BPF file system mounted (mount -t bpf -o mode=0755 bpf /sys/fs/bpf), and the loader running?";
	else if (path && error == EPERM)
		hint = "; before Linux 5.19 opening a pin needs CAP_BPF: have its owner hand over the file descriptor, and open that";
	else if (error == EPERM)
		hint = "; opening maps by id needs CAP_SYS_ADMIN: run as root, or open the region by a pin";
	return mapring__refuse(error, "can't open %s: %s%s", what, strerror(error), hint);
}

/* The name of a type of maps, as the kernel's tools name it. */
static inline const char *mapring__map_type(uint32_t type)
{
	static const char *const NAMES[] = {
		"unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array", "stack_trace",
		"cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps", "hash_of_maps", "devmap", "sockmap",
		"cpumap", "xskmap", "sockhash", "cgroup_storage", "reuseport_sockarray", "percpu_cgroup_storage", "queue", "stack",
		"sk_storage", "devmap_hash", "struct_ops", "ringbuf", "inode_storage", "task_storage", "bloom_filter",
		"user_ringbuf", "cgrp_storage", "arena", "insn_array",
	};

	return type < sizeof(NAMES) / sizeof(NAMES[0]) ? NAMES[type] : "that is unknown";
}

static inline int mapring__bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static inline uint64_t mapring__address(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

static inline int mapring__open_pin(const char *path, bool read_only)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.pathname = mapring__address(path);
	attr.file_flags = read_only ? BPF_F_RDONLY : 0;
	return mapring__bpf(BPF_OBJ_GET, &attr);
}

static inline int mapring__open_id(uint32_t id, bool read_only)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_id = id;
	attr.open_flags = read_only ? BPF_F_RDONLY : 0;
	return mapring__bpf(BPF_MAP_GET_FD_BY_ID, &attr);
}

static inline int mapring__object_info(int fd, void *info, uint32_t bytes)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info = mapring__address(info);
	attr.info.info_len = bytes;
	return mapring__bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

/* Fails for a program or a link, too, of which the kernel says other things. */
static inline int mapring__map_info(int fd, struct bpf_map_info *info)
{
	char path[64], name[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, sizeof(name));
	if (length > 0 && (length != 18 || memcmp(name, "anon_inode:bpf-map", 18) != 0)) {
		errno = EINVAL;
		return -1;
	}
	memset(info, 0, sizeof(*info));
	return mapring__object_info(fd, info, sizeof(*info));
}

/* Looks up one element. `value` has room for the map's value, or for the values of all possible CPUs. */
static inline int mapring__lookup(int fd, uint32_t key, void *value)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)fd;
	attr.key = mapring__address(&key);
	attr.value = mapring__address(value);
	return mapring__bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

static inline int mapring__update(int fd, uint32_t key, const void *value)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)fd;
	attr.key = mapring__address(&key);
	attr.value = mapring__address(value);
	return mapring__bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

static inline int mapring__delete(int fd, uint32_t key)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)fd;
	attr.key = mapring__address(&key);
	return mapring__bpf(BPF_MAP_DELETE_ELEM, &attr);
}

/* The types of BTF behind this descriptor, in a new buffer of `*bytes` bytes that the caller frees; NULL on failure. */
static inline char *mapring__read_btf(int fd, size_t *bytes)
{
	struct bpf_btf_info info;
	char *types = NULL;

	/* First the size, then the types. */
	memset(&info, 0, sizeof(info));
	if (mapring__object_info(fd, &info, sizeof(info)) == 0) {
		*bytes = info.btf_size;
		types = (char *)calloc(1, *bytes + 1);
	}
	if (!types)
		return NULL;
	memset(&info, 0, sizeof(info));
	info.btf = mapring__address(types);
	info.btf_size = (uint32_t)*bytes;
	if (mapring__object_info(fd, &info, sizeof(info)) == 0 && info.btf_size == *bytes)
		return types;
	free(types);
	return NULL;
}

static inline int mapring__open_btf(uint32_t id)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.btf_id = id;
	return mapring__bpf(BPF_BTF_GET_FD_BY_ID, &attr);
}

/* The CPUs of a list such as "0-3,8,10-11", in ascending order. Returns their number, or -1. */
static inline int mapring__cpus(const char *path, unsigned *cpus, int room)
{
	FILE *list = fopen(path, "re");
	unsigned from, to;
	int count = 0;

	if (!list)
		return -1;
	while (fscanf(list, "%u", &from) == 1) {
		int behind = fgetc(list);

		to = from;
		if (behind == '-') {
			if (fscanf(list, "%u", &to) != 1)
				break;
			behind = fgetc(list);
		}
		for (unsigned cpu = from; cpu <= to && count < room; cpu++)
			cpus[count++] = cpu;
		if (behind != ',')
			break;
	}
	fclose(list);
	return count ? count : -1;
}

/* Whether a lookup in this per-CPU map returns at most `copies` copies of `size` bytes, or -1 with errno. The kernel writes them into
 * memory of this length, and a page that can't be written follows. */
static inline int mapring__lookup_fits(int fd, uint64_t size, uint64_t copies)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes = copies * size, before = (bytes + page - 1) / page * page;
	void *memory = mmap(NULL, before + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fits = -1, error;

	if (memory == MAP_FAILED)
		return -1;
	if (mprotect((char *)memory + before, page, PROT_NONE) == 0)
		fits = mapring__lookup(fd, 0, (char *)memory + (before - bytes)) == 0 ? 1 : errno == EFAULT ? 0 : -1;
	error = errno;
	munmap(memory, before + page);
	errno = error;
	return fits;
}

/* The number of copies that a lookup in this per-CPU map returns, measured, or -1 with errno. Two lookups if `guess` is right. */
static inline int mapring__count_copies(int fd, uint64_t size, int guess)
{
	int below = 0, enough = guess > 0 ? guess : 1, fits;

	while ((fits = mapring__lookup_fits(fd, size, (uint64_t)enough)) == 0) {
		below = enough;
		enough *= 2;
		if (below > 1 << 16) { /* more CPUs than any kernel can have */
			errno = E2BIG;
			return -1;
		}
	}
	for (int next = enough - 1; fits >= 0 && below < next; next = below + (enough - below) / 2) {
		fits = mapring__lookup_fits(fd, size, (uint64_t)next);
		*(fits > 0 ? &enough : &below) = next;
	}
	return fits < 0 ? -1 : enough;
}

/* The CPUs that have copies of the values in a per-CPU map, in ascending order. Returns their number, or -1. A lookup writes a copy for
 * each possible CPU, and the file that lists them can be wrong, as another one can be mounted over it. Then they are numbered from 0. */
static inline int mapring__copies_of(int fd, uint64_t size, unsigned *cpus, int room)
{
	int listed = mapring__cpus("/sys/devices/system/cpu/possible", cpus, room);
	int count = mapring__count_copies(fd, size, listed);

	if (count > room) {
		errno = E2BIG;
		return -1;
	}
	for (int cpu = 0; count != listed && cpu < count; cpu++)
		cpus[cpu] = (unsigned)cpu;
	return count;
}

/* The CPUs that this machine can ever have. They are measured like this if this process may create a map, or else as the file says. */
static inline int mapring__possible_cpus(unsigned *cpus, int room)
{
	union bpf_attr attr;
	int fd, count;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_PERCPU_ARRAY;
	attr.key_size = 4;
	attr.value_size = 8;
	attr.max_entries = 1;
	fd = mapring__bpf(BPF_MAP_CREATE, &attr);
	if (fd < 0)
		return mapring__cpus("/sys/devices/system/cpu/possible", cpus, room);
	count = mapring__copies_of(fd, 8, cpus, room);
	close(fd);
	return count;
}

/* The start time of a process, field 22 of its stat: the name in parentheses, which can hold anything, is field 2. Returns 1, 0
 * if the process has ended and its parent has not waited for it yet, and -1 if procfs does not show it. */
static inline int mapring__start_time(uint64_t pid, uint64_t *time)
{
	char path[64], line[4096], state, *at;
	unsigned long threads = 0;
	size_t length;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	stat = fopen(path, "re");
	if (!stat)
		return -1;
	length = fread(line, 1, sizeof(line) - 1, stat);
	fclose(stat);
	line[length] = 0;
	at = strrchr(line, ')');
	state = at && at[1] ? at[2] : 'X';
	for (int field = 2; at && field < 22; field++) {
		at = strchr(at + 1, ' ');
		if (at && field == 19)
			threads = strtoul(at, NULL, 10);
	}
	if (!at)
		return -1;
	*time = strtoull(at, NULL, 10) & (~0ULL >> 22);
	return (state == 'Z' || state == 'X') && threads <= 1 ? 0 : 1;
}

/* This process as words name it: its pid, and above it its start time. 0 without procfs. */
static inline uint64_t mapring__this_process(void)
{
	uint64_t pid = (uint64_t)getpid(), time;

	return mapring__start_time(pid, &time) > 0 ? time << 22 | pid : 0;
}

/* Whether procfs shows the processes of this process's PID namespace. */
static inline bool mapring__procfs_is_own(void)
{
	char pid[32];
	ssize_t length = readlink("/proc/self", pid, sizeof(pid) - 1);

	pid[length > 0 ? length : 0] = 0;
	return strtol(pid, NULL, 10) == (long)getpid();
}

/* Whether a process lives. `*time` is its start time, or not set if procfs hides it, which is -1. */
static inline int mapring__lives(uint64_t pid, uint64_t *time)
{
	int shown;

	if (pid == 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
		return 0;
	shown = mapring__procfs_is_own() ? mapring__start_time(pid, time) : -1;
	return shown < 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH ? 0 : shown;
}

/* Whether the process that such a word names lives. True if procfs hides it. */
static inline bool mapring__process_lives(uint64_t process)
{
	uint64_t time = 0;
	int lives = mapring__lives(process & ((1 << 22) - 1), &time);

	return lives < 0 || (lives > 0 && time == process >> 22);
}

#endif
