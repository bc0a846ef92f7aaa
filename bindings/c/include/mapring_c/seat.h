/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A reader's seat among the readers that programs know, and its bell: docs/abi.md, "Wakeable rings" and "Rings that keep their
 * oldest records". */
#ifndef MAPRING_C_SEAT_H
#define MAPRING_C_SEAT_H

/* After so long, or so many sleeps, a reader for which programs look too often frees the seats of dead ones. */
#define MAPRING__FREE_AFTER 10000000000ULL
enum { MAPRING__FREE_SLEEPS = 4096 };

struct mapring__seat {
	struct mapring_region readers; /* mapped for writing */
	int bells;                     /* the map of bells */
	uint32_t number;
	uint64_t me;
	pid_t pid;
	int64_t ahead; /* CLOCK_MONOTONIC here minus that of programs, read once */
	/* The bell: a ringbuf, its two positions, and the bits of a ticket at which programs look for this reader. */
	int bell;
	uint64_t *consumer;
	const uint64_t *producer;
	uint64_t look, sleeps, freed;
	/* Of a required reader: whether programs wait for it as far as known, and whether they ceased to. */
	bool holds, lease_ended;
};

/* How far a clock of this process is ahead of the clock of programs, in nanoseconds: it may be in a time namespace. */
static inline int64_t mapring__ahead(const char *clock)
{
	FILE *offsets = fopen("/proc/self/timens_offsets", "re");
	long long seconds, nanoseconds;
	char name[32];
	int64_t ahead = 0;

	if (!offsets)
		return 0;
	while (fscanf(offsets, "%31s %lld %lld", name, &seconds, &nanoseconds) == 3)
		if (strcmp(name, clock) == 0)
			ahead = seconds * 1000000000 + nanoseconds;
	fclose(offsets);
	return ahead;
}

/* CLOCK_MONOTONIC of programs. */
static inline uint64_t mapring__program_time(const struct mapring__seat *seat)
{
	return mapring__now() - (uint64_t)seat->ahead;
}

/* A process of this PID namespace as the owner of a seat. */
static inline uint64_t mapring__owner(uint64_t pid, uint64_t start)
{
	uint64_t low = (1 << 22) - 1, tick = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	struct stat namespace_of;

	if (stat("/proc/self/ns/pid", &namespace_of) != 0)
		return 0;
	start -= (uint64_t)(mapring__ahead("boottime") / (int64_t)tick);
	return ((uint64_t)namespace_of.st_ino & (low >> 2)) << 44 | (start & low) << 22 | (pid & low);
}

static inline uint64_t *mapring__seat_word(struct mapring__seat *seat, uint64_t word)
{
	return seat->readers.writable + word;
}

/* A word of a shard for this seat: 0 the ticket until which it sleeps, 1 its position, 2 since when it holds programs back. */
static inline uint64_t *mapring__seat_of(struct mapring__seat *seat, uint64_t shard, int which)
{
	return mapring__seat_word(seat, 64 * (4 + 3 * shard + (uint64_t)which) + seat->number);
}

static inline uint64_t mapring__bit(const struct mapring__seat *seat)
{
	return 1ULL << seat->number;
}

static inline void mapring__clear(uint64_t *word, uint64_t bits)
{
	__atomic_fetch_and(word, ~bits, __ATOMIC_RELAXED);
}

/* Whether the owner of a seat lives. */
static inline bool mapring__owner_lives(struct mapring__seat *seat, uint64_t number, uint64_t owner)
{
	uint64_t low = (1 << 22) - 1, time = 0, since;
	int lives;

	if (owner >> 44 == seat->me >> 44) {
		uint64_t off;

		lives = mapring__lives(owner & low, &time);
		if (lives <= 0)
			return lives < 0;
		/* With the offset of a time namespace it may be one too high. */
		off = (mapring__owner(owner & low, time) >> 22) - (owner >> 22) + 1;
		return (off & low) <= 2;
	}
	since = mapring__load(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__LEASES + number));
	return since == 0 || (mapring__load(mapring__seat_word(seat, MAPRING__REQUIRED)) >> number & 1) ||
	       (int64_t)(mapring__program_time(seat) - since) < (int64_t)MAPRING__SILENT;
}

/* Says how often programs must look for the reader of this seat: 1 + the bits of a ticket, or 0. */
static inline void mapring__wants(struct mapring__seat *seat, uint64_t number, uint64_t value)
{
	mapring__store(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__WANTS + number), value);
	__atomic_fetch_add(mapring__seat_word(seat, MAPRING__LOOK), 1ULL << 32, __ATOMIC_RELEASE); /* SYNC agree: after what it wants */
}

/* Clears what a seat says, and frees it. */
static inline void mapring__leave(struct mapring__seat *seat, uint64_t number, uint64_t owner)
{
	uint64_t *look = mapring__seat_word(seat, MAPRING__LOOK);

	mapring__clear(mapring__seat_word(seat, MAPRING__ASLEEP), 1ULL << number);
	mapring__wants(seat, number, 0);
	/* It fails only if other readers change the word. After so many failures, someone forges it. */
	for (int i = 0; i < 2 * MAPRING__SEATS; i++) {
		uint64_t found = mapring__load_acquire(look), all = MAPRING__NEVER;

		for (uint64_t at = 0; at < MAPRING__SEATS; at++) {
			uint64_t wants = mapring__load(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__WANTS + at));

			if (wants != 0)
				all &= wants - 1;
		}
		/* SYNC agree: the count of changes was loaded before what all want, and is swapped with it. */
		if (mapring__swap_if(look, found, (found & ~MAPRING__NEVER) | all))
			break;
	}
	mapring__clear(mapring__seat_word(seat, MAPRING__REQUIRED), 1ULL << number);
	mapring__store(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__LEASES + number), 0);
	/* SYNC leave: after its bits are cleared. */
	mapring__swap_if(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__OWNERS + number), owner, 0);
}

/* Frees the seats of readers that died. */
static inline void mapring__free_dead(struct mapring__seat *seat)
{
	for (uint64_t number = 0; number < MAPRING__SEATS; number++) {
		uint64_t *word = mapring__seat_word(seat, MAPRING__SEATS * MAPRING__OWNERS + number), owner = mapring__load(word);

		if (owner != 0 && !mapring__owner_lives(seat, number, owner) && mapring__swap_if(word, owner, seat->me))
			mapring__leave(seat, number, seat->me);
	}
}

/* Whether the seat still is this reader's: not after a fork, and not if another reader has taken it. */
static inline bool mapring__seat_is_mine(struct mapring__seat *seat)
{
	return seat->pid == getpid() && mapring__load(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__OWNERS + seat->number)) == seat->me;
}

static inline void mapring__shows_life(struct mapring__seat *seat)
{
	if (!(mapring__load(mapring__seat_word(seat, MAPRING__REQUIRED)) & mapring__bit(seat)))
		mapring__store(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__LEASES + seat->number), mapring__program_time(seat));
}

/* Opens the map with this id that is pinned beside a ring. A process that replaces pins may not have moved it to its place yet. Returns -1
 * if it isn't there: with ESTALE if another one is. */
static inline int mapring__pinned_beside(const char *pin, const char *suffix, uint32_t id)
{
	static const char *const STAGES[] = { "", "__next/new", "" }; /* it may be moved between the first two */
	struct bpf_map_info info;
	char path[4096 + 32];
	bool is_other = false;

	for (int i = 0; i < 3; i++) {
		int fd;

		snprintf(path, sizeof(path), "%.4000s%s%s", pin, STAGES[i], suffix);
		fd = mapring__open_path(path, 0);
		if (fd >= 0 && mapring__map_info(fd, &info) == 0 && info.id == id)
			return fd;
		if (fd >= 0)
			close(fd);
		is_other = i == 2 && fd >= 0;
	}
	errno = is_other ? ESTALE : errno;
	return -1;
}

/* Whether this map of readers belongs to this ring. For a ring that can be replaced, the map names two rings: the one in use, and
 * the one before or after it. */
static inline bool mapring__readers_of(struct mapring_region *readers, const struct mapring_region *ring)
{
	return readers->layout.kind == MAPRING_KIND_READERS &&
	       ((uint32_t)mapring__word(readers, 0, MAPRING__LINK) == ring->map_id ||
		((ring->layout.options & MAPRING_OPTION_RESIZABLE) && mapring__word(readers, 0, MAPRING__OTHER_RING) == ring->map_id));
}

/* Opens the readers and bells of a ring that are pinned beside it, if it has some: else -1. Returns false if others are pinned there,
 * since the ring was replaced after it was opened. */
static inline bool mapring__companions(struct mapring_region *ring, const char *pin, int fds[2])
{
	uint64_t link = ring->map_id && (ring->layout.options & MAPRING_OPTION_WAKEABLE) ? mapring__word(ring, 0, MAPRING__LINK) : 0;
	struct mapring_region readers;

	fds[0] = fds[1] = -1;
	errno = 0;
	if ((uint32_t)link == 0)
		return true;
	fds[0] = mapring__pinned_beside(pin, "__readers", (uint32_t)link);
	if (fds[0] < 0 || mapring__region_of_fd(&readers, fcntl(fds[0], F_DUPFD_CLOEXEC, 0), 0) != 0)
		return errno != ESTALE;
	link = mapring__word(&readers, 0, MAPRING__LINK);
	if (mapring__readers_of(&readers, ring))
		fds[1] = mapring__pinned_beside(pin, "__bells", (uint32_t)(link >> 32));
	mapring__region_close(&readers);
	return errno != ESTALE;
}

static inline void mapring__companions_close(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* The map with this id: the one that was pinned beside the ring, or by its id. */
static inline int mapring__companion(const struct mapring_region *ring, int beside, const char *suffix, uint32_t id)
{
	int fd = beside >= 0 ? fcntl(beside, F_DUPFD_CLOEXEC, 0) : mapring__open_id(id, false);

	if (fd < 0)
		mapring__refuse(errno, "can't open the map %s of %s: %s; it isn't pinned beside the ring, and opening it by id needs "
				       "CAP_SYS_ADMIN: run as root, or have the ring pinned by mapring_loader__pin, which also pins its "
				       "readers and bells", suffix, ring->what, strerror(errno));
	return fd;
}

static inline void mapring__bell_close(struct mapring__seat *seat)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (seat->consumer)
		munmap(seat->consumer, page);
	if (seat->producer)
		munmap((void *)(uintptr_t)seat->producer, page);
	if (seat->bell >= 0)
		close(seat->bell);
	seat->consumer = NULL;
	seat->producer = NULL;
	seat->bell = -1;
}

static inline void mapring__seat_close(struct mapring__seat *seat)
{
	if (seat->readers.writable && seat->me != 0 && mapring__seat_is_mine(seat)) {
		mapring__leave(seat, seat->number, seat->me);
		if (seat->bell >= 0)
			mapring__delete(seat->bells, seat->number);
	}
	mapring__bell_close(seat);
	if (seat->bells >= 0)
		close(seat->bells);
	mapring__region_close(&seat->readers);
}

/* Takes a seat among the readers of a ring. `beside`: the maps that were pinned beside it. */
static inline int mapring__seat_open(struct mapring__seat *seat, struct mapring_region *ring, const int beside[2])
{
	uint64_t link, time;
	int error, fd;

	memset(seat, 0, sizeof(*seat));
	seat->bells = seat->bell = seat->readers.fd = -1;
	if (!ring->map_id || !(ring->layout.options & MAPRING_OPTION_WAKEABLE))
		return mapring__refuse(EOPNOTSUPP, "%s wakes no reader: %s; mapring_reader__wait naps instead", ring->what,
				       ring->map_id ? "MAPRING_RING declares it with neither WAKEABLE nor KEEP_OLDEST" : "in a memfd, readers in Rust and Python alone sleep or are required");
	link = mapring__word(ring, 0, MAPRING__LINK);
	if ((uint32_t)link == 0)
		return mapring__refuse(EAGAIN, "%s wakes no reader: its loader has not linked it to its maps __readers and __bells: "
					       "mapring_loader__initialize does", ring->what);
	fd = mapring__companion(ring, beside[0], "__readers", (uint32_t)link);
	error = fd < 0 ? -errno : mapring__region_of_fd(&seat->readers, fd, MAPRING_WRITE);
	if (fd >= 0 && (error == -EACCES || error == -EPERM))
		return mapring__refuse(-error, "%s__readers can't be written: %s; a reader that sleeps or is required needs write access to "
				       "this map", ring->what, strerror(-error));
	if (error)
		return error;
	link = mapring__load(seat->readers.words + MAPRING__LINK);
	if (!mapring__readers_of(&seat->readers, ring)) {
		mapring__seat_close(seat);
		return mapring__refuse(EPROTO, "%s wakes no reader: its readers belong to another ring", ring->what);
	}
	seat->bells = mapring__companion(ring, beside[1], "__bells", (uint32_t)(link >> 32));
	seat->pid = getpid();
	seat->ahead = mapring__ahead("monotonic");
	if (seat->bells >= 0 && mapring__start_time((uint64_t)seat->pid, &time) > 0)
		seat->me = mapring__owner((uint64_t)seat->pid, time);
	if (seat->me == 0) {
		error = seat->bells < 0 ? -errno : mapring__failed("/proc/self");
		mapring__seat_close(seat);
		return error;
	}
	mapring__free_dead(seat);
	for (seat->number = 0; seat->number < MAPRING__SEATS; seat->number++) {
		uint64_t *owner = mapring__seat_word(seat, MAPRING__SEATS * MAPRING__OWNERS + seat->number);

		/* SYNC leave: pairs with the swap of the reader that left. */
		if (mapring__load(owner) == 0 && mapring__swap_if(owner, 0, seat->me)) {
			mapring__shows_life(seat);
			return 0;
		}
	}
	seat->me = 0;
	mapring__seat_close(seat);
	return mapring__refuse(ENOSPC, "%s has no seat left: 64 readers wait or are required already", ring->what);
}

/* Programs look for this reader from the return of this call on. */
static inline int mapring__make_programs_look(struct mapring__seat *seat)
{
	uint32_t fd = (uint32_t)seat->bell;

	mapring__store(mapring__seat_word(seat, MAPRING__IDLE_SINCE), 0);
	mapring__wants(seat, seat->number, seat->look + 1);
	mapring__clear(mapring__seat_word(seat, MAPRING__LOOK), MAPRING__NEVER & ~seat->look);
	/* The kernel waits for an RCU grace period before this returns. */
	return mapring__update(seat->bells, seat->number, &fd);
}

/* Makes a bell for a reader that sleeps until `records` are unread. */
static inline int mapring__bell_open(struct mapring__seat *seat, uint64_t records)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	union bpf_attr attr;
	void *consumer, *producer;

	mapring__bell_close(seat);
	seat->look = 0;
	while (seat->look + 1 <= records / 8) /* 2^k − 1, with the largest 2^k that is at most a quarter */
		seat->look = 2 * seat->look + 1;
	seat->look &= MAPRING__NEVER;
	memset(&attr, 0, sizeof(attr));
	attr.map_type = 27; /* BPF_MAP_TYPE_RINGBUF */
	attr.max_entries = (uint32_t)page;
	seat->bell = mapring__bpf(BPF_MAP_CREATE, &attr);
	if (seat->bell < 0)
		return mapring__refuse(errno, "bpf(BPF_MAP_CREATE): %s; a bell of its own needs CAP_BPF", strerror(errno));
	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, seat->bell, 0);
	producer = mmap(NULL, page, PROT_READ, MAP_SHARED, seat->bell, (off_t)page);
	seat->consumer = consumer == MAP_FAILED ? NULL : (uint64_t *)consumer;
	seat->producer = producer == MAP_FAILED ? NULL : (const uint64_t *)producer;
	seat->freed = mapring__now();
	if (seat->consumer && seat->producer && mapring__make_programs_look(seat) == 0)
		return 0;
	mapring__failed("the bell of a reader");
	mapring__bell_close(seat);
	return -errno;
}

/* Silences the bell, and says that the reader sleeps: it must look for records before it does. Returns whether programs ring. */
static inline bool mapring__fall_asleep(struct mapring__seat *seat)
{
	uint64_t look, now;

	mapring__store_release(seat->consumer, mapring__load_acquire(seat->producer));
	mapring__shows_life(seat);
	mapring__store(mapring__seat_word(seat, MAPRING__IDLE_SINCE), 0);
	__atomic_fetch_or(mapring__seat_word(seat, MAPRING__ASLEEP), mapring__bit(seat), __ATOMIC_RELAXED);
	mapring__fence_full(); /* SYNC asleep, idle: before it looks for records, and at which tickets programs look */
	look = mapring__load(mapring__seat_word(seat, MAPRING__LOOK)) & MAPRING__NEVER;
	now = look == seat->look ? 0 : mapring__now();
	if (now != 0 && (++seat->sleeps >= MAPRING__FREE_SLEEPS || now - seat->freed >= MAPRING__FREE_AFTER)) {
		mapring__free_dead(seat);
		seat->sleeps = 0;
		seat->freed = now;
	}
	return (look & ~seat->look) == 0 || mapring__make_programs_look(seat) == 0;
}

static inline bool mapring__has_rung(struct mapring__seat *seat)
{
	return mapring__load_acquire(seat->producer) != mapring__load(seat->consumer);
}

static inline void mapring__wake_up(struct mapring__seat *seat)
{
	mapring__clear(mapring__seat_word(seat, MAPRING__ASLEEP), mapring__bit(seat));
}

#endif
