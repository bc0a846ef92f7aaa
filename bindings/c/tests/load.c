/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Loads each object that it gets, initializes its regions, and reads every one of them as another process would: by its preamble.
 * `reuse NAME PIN EXPECTED OBJECT [WHY]` first takes over what is pinned, and then pins the region and reads it there; `freeze …` also
 * freezes it. `pin NAME PIN EXPECTED OBJECT` only pins it: not where another user could exchange names. `over …` replaces another. `open PATH` opens what is no
 * ring. `alone NAME OBJECT` loads it again, with one of the maps of the first. `cpus OBJECT` loads it where the list of CPUs is wrong. `license REFUSED OBJECT` only
 * prepares it. `replace NAME PIN OBJECT` pins two rings in turn, while
 * another process opens the pin. */
#include <mapring_loader.h>

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/wait.h>

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, mapring_error());
	return 1;
}

static int never(void *context, const struct mapring_event *event)
{
	(void)context;
	(void)event;
	return 0;
}

/* A ring's reader, which also waits if programs wake it, and is required if they keep what it has not read. */
static int read_ring(int fd, const char *name)
{
	struct mapring_reader *reader = mapring_reader__open_fd(fd, NULL);
	struct mapring_stats stats;
	uint64_t options = reader ? reader->regions[0].layout.options : 0;
	int error = reader ? 0 : fail(name);

	if (!error && (options & MAPRING_OPTION_WAKEABLE) && mapring_reader__fd(reader) < 0)
		error = fail("its bell");
	if (!error && (options & MAPRING_OPTION_KEEP_OLDEST) && mapring_reader__require(reader, 1000000000) < 0)
		error = fail("a required reader");
	if (!error && (mapring_reader__wait(reader, 0) < 0 || mapring_reader__stats(reader, &stats) < 0 ||
		       mapring_reader__for_each(reader, mapring_reader__record(reader), never, NULL) < 0))
		error = fail(name);
	if (!error)
		printf("%s: %u shards, options %llu\n", name, reader->count, (unsigned long long)options);
	mapring_reader__free(reader);
	return error;
}

static int check(struct mapring__object *o, struct mapring__declared *declared)
{
	size_t cut = mapring__first_suffix(declared->name);
	struct mapring__declared *maps = cut ? mapring__named(o, declared->name, cut, "") : declared;
	struct mapring_region r;
	uint64_t magic;
	bool same;

	if (mapring__region_of_fd(&r, fcntl(bpf_map__fd(declared->map), F_DUPFD_CLOEXEC, 0), 0) < 0)
		return fail(declared->name);
	magic = mapring__word(&r, 0, 0);
	same = r.layout.kind == declared->layout.kind && r.layout.elements == declared->layout.elements;
	mapring__region_close(&r);
	if (magic != mapring__magic() || !same) {
		mapring__refuse(EPROTO, "no preamble, or another layout");
		return fail(declared->name);
	}
	if (declared->layout.kind == MAPRING_KIND_RING)
		return read_ring(bpf_map__fd(maps->map), declared->name);
	printf("%s: kind %llu\n", declared->name, (unsigned long long)declared->layout.kind);
	return 0;
}

/* Reads a pinned ring; another region is only opened. */
static int read_pin(const char *pin)
{
	struct mapring_reader *reader = mapring_reader__open(pin, NULL);
	struct mapring_stats stats;
	int error = reader && (mapring_reader__stats(reader, &stats) < 0 ||
			       ((reader->regions[0].layout.options & MAPRING_OPTION_WAKEABLE) && mapring_reader__fd(reader) < 0)) ?
			    fail(pin) :
			    0;

	if (!reader)
		error = errno == EINVAL ? 0 : fail(pin);
	mapring_reader__free(reader);
	return error;
}

static int reuse(const char *name, const char *pin, int expected, const char *path, int how, const char *says)
{
	struct bpf_object *object = bpf_object__open(path);
	int found = object ? mapring_loader__reuse(object, name, pin) : -EINVAL;

	if (found < 0)
		printf("%s\n", mapring_error());
	if (found == -EMEDIUMTYPE && says && !strstr(mapring_error(), says)) {
		fprintf(stderr, "it does not say \"%s\"\n", says);
		return fail(path);
	}
	if (found != expected) {
		mapring__refuse(EPROTO, "reuse returns %d, not %d", found, expected);
		return fail(path);
	}
	if (mapring_loader__prepare(object, NULL) < 0 || bpf_object__load(object) != 0 ||
	    mapring_loader__initialize(object) < 0 || mapring_loader__pin(object, name, pin, 0600, MAPRING_PIN_REPLACE | how) < 0)
		return fail(path);
	bpf_object__close(object);
	return read_pin(pin);
}

static int pins(const char *name, const char *pin, int expected, const char *path, int how)
{
	struct bpf_object *object = bpf_object__open(path);
	int found;

	if (!object || mapring_loader__prepare(object, NULL) < 0 || bpf_object__load(object) != 0 || mapring_loader__initialize(object) < 0)
		return fail(path);
	found = mapring_loader__pin(object, name, pin, 0666, how);
	if (found < 0)
		printf("%s\n", mapring_error());
	bpf_object__close(object);
	if (found != expected) {
		mapring__refuse(EPROTO, "pin returns %d, not %d", found, expected);
		return fail(pin);
	}
	return 0;
}

/* What the two processes of `replace` know of each other. */
struct meeting {
	uint64_t found[2]; /* how often each ring was opened */
	uint64_t ended;
};

/* Opens the pin again and again. Without capabilities it finds the readers and bells of a ring only beside it. */
static int opens(const char *pin, struct meeting *m)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2];
	uint32_t first = 0, last = 0, maps = 0;

	memset(none, 0, sizeof(none));
	if (syscall(SYS_capset, &header, none) != 0)
		return 1;
	while (!mapring__load(&m->ended)) {
		struct mapring_reader *reader = mapring_reader__open(pin, NULL);

		if (!reader || mapring__seat_of_reader(reader) < 0)
			return fail(pin);
		if (!first) {
			maps = reader->region_count;
			first = reader->regions[0].map_id;
			last = reader->regions[maps - 1].map_id;
		}
		if (reader->region_count != maps || (reader->regions[0].map_id == first) != (reader->regions[maps - 1].map_id == last)) {
			fprintf(stderr, "%s: maps of two rings, or %u maps, not %u\n", pin, reader->region_count, maps);
			return 1;
		}
		m->found[reader->regions[0].map_id == first]++;
		mapring_reader__free(reader);
	}
	return 0;
}

static int replace(const char *name, const char *pin, const char *path)
{
	enum { TIMES = 1000 };
	struct bpf_object *objects[2];
	struct meeting *m = (struct meeting *)mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int times = 0, status = 0, error = 0;
	struct stat found;
	pid_t reader = 0;

	for (int i = 0; i < 2; i++) {
		objects[i] = bpf_object__open(path);
		if (!objects[i] || mapring_loader__prepare(objects[i], NULL) < 0 || bpf_object__load(objects[i]) != 0 ||
		    mapring_loader__initialize(objects[i]) < 0)
			return fail(path);
	}
	/* Every sixteenth loader is killed at some time: the next one finishes its work. */
	for (; error == 0 && (times < TIMES || mapring__load(&m->found[0]) < TIMES / 2 || mapring__load(&m->found[1]) < TIMES / 2); times++) {
		pid_t loader = times % 16 == 15 ? fork() : 0;

		if (loader > 0) {
			usleep((useconds_t)times % 600);
			kill(loader, SIGKILL);
			waitpid(loader, &status, 0);
			continue;
		}
		error = mapring_loader__pin(objects[(times ^ times / 16) & 1], name, pin, 0666, MAPRING_PIN_REPLACE);
		if (times % 16 == 15)
			_exit(0);
		if (!error && (stat(pin, &found) != 0 || (S_ISDIR(found.st_mode) && (found.st_mode & 01777) != 0755)))
			error = mapring__refuse(EPROTO, "a directory with another mode");
		if (!reader && (reader = fork()) == 0)
			_exit(opens(pin, m));
		if (!error && waitpid(reader, &status, WNOHANG) == reader)
			return 1; /* it has said why */
	}
	mapring__store(&m->ended, 1);
	if (waitpid(reader, &status, 0) != reader || status != 0)
		return 1;
	printf("%s: replaced %d times, opened %llu and %llu times\n", name, times, (unsigned long long)m->found[0],
	       (unsigned long long)m->found[1]);
	return error ? fail(pin) : 0;
}

static int alone(const char *name, const char *path)
{
	struct bpf_object *first = bpf_object__open(path), *again = bpf_object__open(path);
	int found;

	if (!first || !again || mapring_loader__prepare(first, NULL) < 0 || bpf_object__load(first) != 0 ||
	    mapring_loader__initialize(first) < 0)
		return fail(path);
	if (bpf_map__reuse_fd(bpf_object__find_map_by_name(again, name), bpf_object__find_map_fd_by_name(first, name)) != 0 ||
	    mapring_loader__prepare(again, NULL) < 0 || bpf_object__load(again) != 0)
		return fail(path);
	found = mapring_loader__initialize(again);
	bpf_object__close(again);
	bpf_object__close(first);
	if (found == -EMEDIUMTYPE)
		return 0;
	mapring__refuse(EPROTO, "initialize returns %d", found);
	return fail(name);
}

/* The licenses that the guard does not allow are refused; the macro is named. */
static int license(const char *path, bool refused)
{
	struct bpf_object *object = bpf_object__open(path);
	int found = object ? mapring_loader__prepare(object, NULL) : -EINVAL;

	bpf_object__close(object);
	if (found == (refused ? -EPERM : 0) && (!refused || strstr(mapring_error(), "`#define MAPRING_NO_GUARD`")))
		return 0;
	fprintf(stderr, "prepare returns %d\n", found);
	return fail(path);
}

/* Loads an object, and reads it as another process. */
static int load(const char *path)
{
	struct bpf_object *object = bpf_object__open(path);
	struct mapring__object o;
	uint64_t bytes = 0;
	int error = 0;

	if (!object || mapring_loader__prepare(object, &bytes) < 0)
		return fail(path);
	if (bytes == 0 || bpf_object__load(object) != 0 || mapring_loader__initialize(object) < 0 ||
	    mapring_loader__initialize(object) < 0 || mapring__object_open(&o, object) < 0)
		return fail(path);
	for (uint32_t at = 0; at < o.count && !error; at++)
		if (o.maps[at].is_ours)
			error = check(&o, &o.maps[at]);
	mapring__object_close(&o);
	bpf_object__close(object);
	return error;
}

/* A file that lists one CPU, number 8191 or so, is mounted over the list. */
static int cpus(const char *path)
{
	static unsigned before[MAPRING__CPUS], after[MAPRING__CPUS];
	int count = mapring__possible_cpus(before, MAPRING__CPUS);

	if (count == 1)
		return 0; /* as in the file */
	if (syscall(SYS_unshare, 0x20000 /* CLONE_NEWNS */) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("/sys/devices/system/cpu/kernel_max", "/sys/devices/system/cpu/possible", NULL, MS_BIND, NULL) != 0) {
		mapring__failed("mount");
		return fail(path);
	}
	if (mapring__possible_cpus(after, MAPRING__CPUS) != count || after[count - 1] != (unsigned)count - 1) {
		mapring__refuse(EPROTO, "not %d CPUs", count);
		return fail(path);
	}
	return load(path);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "license") == 0)
		return license(argv[3], argv[2][0] == '1');
	if (argc == 3 && strcmp(argv[1], "cpus") == 0)
		return cpus(argv[2]);
	if (argc == 4 && strcmp(argv[1], "alone") == 0)
		return alone(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "open") == 0)
		return mapring_reader__open(argv[2], NULL) == NULL ? 0 : fail(argv[2]);
	if (argc == 5 && strcmp(argv[1], "replace") == 0)
		return replace(argv[2], argv[3], argv[4]);
	if (argc == 6 && (strcmp(argv[1], "pin") == 0 || strcmp(argv[1], "over") == 0))
		return pins(argv[2], argv[3], atoi(argv[4]), argv[5], argv[1][0] == 'o' ? MAPRING_PIN_REPLACE : 0);
	if ((argc == 6 || argc == 7) && (strcmp(argv[1], "reuse") == 0 || strcmp(argv[1], "freeze") == 0))
		return reuse(argv[2], argv[3], atoi(argv[4]), argv[5], argv[1][0] == 'f' ? MAPRING_PIN_FREEZE : 0, argv[6]);
	for (int i = 1; i < argc; i++) {
		int error = load(argv[i]);

		if (error)
			return error;
	}
	return 0;
}
