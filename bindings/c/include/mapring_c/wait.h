/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Readers that sleep until a program wakes them, and readers that programs wait for. */
#ifndef MAPRING_C_WAIT_H
#define MAPRING_C_WAIT_H

/* Nanoseconds: the first and the longest nap of a reader without a bell, and the longest sleep of one with a bell. */
enum { MAPRING__FIRST_NAP = 50000, MAPRING__LONGEST_NAP = 1000000 };
#define MAPRING__LONGEST_SLEEP 1000000000ULL
/* Checks of shards before the first nap. */
enum { MAPRING__SPINS = 200 };

/* The reader's seat among those that programs know. Takes one when it is first needed. */
static inline int mapring__seat_of_reader(struct mapring_reader *r)
{
	if (r->seat && mapring__seat_is_mine(r->seat))
		return 0;
	if (r->seat) {
		mapring__seat_close(r->seat);
	} else {
		r->seat = (struct mapring__seat *)calloc(1, sizeof(*r->seat));
		if (!r->seat)
			return mapring__refuse(ENOMEM, "no memory for a reader's seat");
	}
	r->required = false;
	r->seat_error = mapring__seat_open(r->seat, &r->regions[0], r->beside);
	if (r->seat_error) {
		free(r->seat);
		r->seat = NULL;
	}
	return r->seat_error;
}

/* The bell, if the ring is wakeable and this process may have one. */
static inline int mapring__bell_of(struct mapring_reader *r)
{
	int error;

	if (!r->seat && r->seat_error)
		return r->seat_error; /* as the last time */
	error = mapring__seat_of_reader(r);
	if (!error && r->seat->bell < 0)
		error = mapring__bell_open(r->seat, mapring__most(r->opts.watermark, 1));
	r->seat_error = error;
	return error;
}

/* The ticket whose program wakes a reader that waits for the watermark's number of records. */
static inline uint64_t mapring__wake_at(const struct mapring_reader *r, uint64_t next)
{
	return r->opts.watermark <= 1 || !r->seat ? next : (next + r->opts.watermark - 1) | r->seat->look;
}

/* What the next call of for_each would find. */
static inline enum mapring__unread mapring__unread_of_all(struct mapring_reader *r, bool any)
{
	enum mapring__unread most = MAPRING__NOTHING;

	for (uint32_t i = 0; i < r->count; i++) {
		struct mapring__shard *s = &r->shards[i];
		enum mapring__unread found = mapring__unread(s, any ? s->next : mapring__wake_at(r, s->next));

		if (found > MAPRING__NOTHING)
			r->until_clock = 0, r->looked = 0; /* the next call looks past tickets that are not claimed */
		if (found > most)
			most = found;
	}
	return most == MAPRING__NOTHING && !mapring__in_use(r) ? MAPRING__MANY : most;
}

/* Whether a merged reader holds records whose turn has not come: then nobody wakes it. */
static inline bool mapring__holds_any(const struct mapring_reader *r)
{
	for (uint32_t i = 0; r->merge && i < r->count; i++)
		if (r->merge->runs[i].count > 0)
			return true;
	return false;
}

/*
 * Asks programs to wake this reader, and then checks for records. Returns 0 if there are some: read them now. Else the number of
 * nanoseconds that the caller may sleep at most, on mapring_reader__fd if that is not negative. The caller must then read or arm
 * again. The first call of a wakeable ring's reader makes system calls and waits for an RCU grace period; it needs CAP_BPF.
 */
static inline uint64_t mapring_reader__arm(struct mapring_reader *r)
{
	bool held = mapring__holds_any(r), has_bell = mapring__bell_of(r) == 0, rings;
	uint64_t longest = mapring__most(2 * r->nap, held ? (uint64_t)MAPRING__SETTLE : (uint64_t)MAPRING__FIRST_NAP);
	enum mapring__unread found;

	longest = r->nap = mapring__least(longest, MAPRING__LONGEST_NAP);
	if (held)
		return longest;
	found = mapring__unread_of_all(r, !has_bell);

	if (found < MAPRING__MANY && has_bell) {
		struct mapring__seat *seat = r->seat;
		uint64_t shards = seat->readers.layout.shards;

		for (uint32_t i = 0; i < r->count; i++) {
			uint64_t last = mapring__wake_at(r, r->shards[i].next);

			if (r->shards[i].number < shards)
				mapring__store(mapring__seat_of(seat, r->shards[i].number, 0),
					       r->opts.watermark > 1 ? last + 1 : 0);
		}
		rings = mapring__fall_asleep(seat);
		longest = rings ? MAPRING__LONGEST_SLEEP : longest;
		found = mapring__unread_of_all(r, false);
	}
	if (found == MAPRING__MANY) {
		if (has_bell)
			mapring__wake_up(r->seat);
		r->nap = 0;
		return 0;
	}
	if (found == MAPRING__HELD)
		longest = mapring__least(longest, mapring__most(r->opts.patience_ns, MAPRING__FIRST_NAP));
	return longest;
}

/* After a sleep: programs need not wake this reader any more. */
static inline void mapring_reader__disarm(struct mapring_reader *r)
{
	if (r->seat && r->seat->bell >= 0 && mapring__seat_is_mine(r->seat))
		mapring__wake_up(r->seat);
}

/* The descriptor that is readable once a program has woken this reader, for epoll: arm before each sleep. A negative errno if it
 * has none: -EOPNOTSUPP if the ring is not wakeable. */
static inline int mapring_reader__fd(struct mapring_reader *r)
{
	int error = mapring__bell_of(r);

	return error ? error : r->seat->bell;
}

/* Whether any of these readers has records: of all, or only of those that wait for more than one. */
static inline bool mapring__any_unread(struct mapring_reader *const *readers, uint32_t count, bool watermarks)
{
	for (uint32_t i = 0; i < count; i++)
		if ((!watermarks || readers[i]->opts.watermark > 1) && mapring__unread_of_all(readers[i], true) == MAPRING__MANY)
			return true;
	return false;
}

/* Waits until any of these readers has records. `bells` has room for all. */
static inline int mapring__wait_for_any(struct mapring_reader *const *readers, struct pollfd *bells, uint32_t count, int timeout_ms)
{
	uint64_t end = mapring__now() + (uint64_t)timeout_ms * 1000000;
	uint32_t shards = 0, with_bell = 0;

	for (uint32_t i = 0; i < count; i++) {
		with_bell += mapring__bell_of(readers[i]) == 0;
		shards += readers[i]->count;
	}
	if (with_bell < count)
		for (uint32_t spins = 0; spins <= MAPRING__SPINS / shards; spins++)
			if (mapring__any_unread(readers, count, false))
				return 1;
	for (;;) {
		uint64_t longest = MAPRING__LONGEST_SLEEP, now;
		bool held = false, found = false, rung = false;
		struct timespec sleep;
		int slept = 0;

		for (uint32_t i = 0; i < count; i++) {
			struct mapring_reader *r = readers[i];
			uint64_t limit = mapring_reader__arm(r);
			bool holds = mapring__holds_any(r);

			held |= holds;
			found |= limit == 0;
			longest = mapring__least(longest, limit);
			bells[i].fd = r->seat && !holds ? r->seat->bell : -1;
			bells[i].events = POLLIN;
			rung |= bells[i].fd >= 0 && mapring__has_rung(r->seat);
		}
		now = mapring__now();
		if (timeout_ms >= 0)
			longest = now < end ? mapring__least(longest, end - now) : 0;
		sleep.tv_sec = (time_t)(longest / 1000000000);
		sleep.tv_nsec = (long)(longest % 1000000000);
		if (longest > 0 && !rung)
			slept = ppoll(bells, count, &sleep, NULL);
		for (uint32_t i = 0; i < count; i++)
			mapring_reader__disarm(readers[i]);
		if (found)
			return 1;
		if (slept < 0)
			return mapring__failed("ppoll");
		if (longest == 0)
			return 0;
		/* Maybe fewer than the watermark, but a second has passed. */
		if (held || mapring__any_unread(readers, count, true))
			return 1;
	}
}

/*
 * Waits until there are records, at most for `timeout_ms`; −1 is for ever. Returns 1 if there may be some, 0 if not, and -EINTR
 * after a signal. The reader of a wakeable ring sleeps until a program wakes it. Any other one naps, for a millisecond at most.
 */
static inline int mapring_reader__wait(struct mapring_reader *r, int timeout_ms)
{
	struct pollfd bell;

	return mapring__wait_for_any(&r, &bell, 1, timeout_ms);
}

/* Waits, and then delivers what there is: mapring_reader__wait and mapring_reader__for_each. */
MAPRING__FAST long mapring_reader__poll(struct mapring_reader *r, int timeout_ms, size_t size, mapring_event_fn fn, void *context)
{
	int found = mapring_reader__wait(r, timeout_ms);

	return found <= 0 ? found : mapring_reader__for_each(r, size, fn, context);
}

/*
 * Makes this a required reader of a ring with KEEP_OLDEST: programs do not overwrite what it has not read, but drop new records,
 * which stats count as `full`. If it holds programs back for longer than the lease, they go on without it, and for_each returns
 * -ETIMEDOUT once. Waits for an RCU grace period. Returns 0 or a negative errno.
 */
static inline int mapring_reader__require(struct mapring_reader *r, uint64_t lease_ns)
{
	const struct mapring_layout *l = &r->regions[0].layout;
	struct mapring__seat *seat;
	int error;

	if (!(l->options & MAPRING_OPTION_KEEP_OLDEST))
		return mapring__refuse(EOPNOTSUPP, "%s does not keep its oldest records: %s", r->regions[0].what,
				       r->regions[0].map_id ? "declare it with the option KEEP_OLDEST" : "its creator gives it the option KEEP_OLDEST");
	error = mapring__seat_of_reader(r);
	if (!error && !r->told) {
		r->told = (uint64_t *)calloc(r->count, sizeof(*r->told));
		error = r->told ? 0 : mapring__refuse(ENOMEM, "no memory for a required reader");
	}
	if (error)
		return error;
	seat = r->seat;
	for (uint64_t shard = 0; shard < seat->readers.layout.shards; shard++) {
		mapring__store_release(mapring__seat_of(seat, shard, 1), MAPRING__FOR_GOOD);
		mapring__store(mapring__seat_of(seat, shard, 2), 0);
	}
	seat->holds = true;
	for (uint32_t i = 0; i < r->count; i++) {
		r->told[i] = r->shards[i].next;
		for (uint32_t h = 0; r->merge && h < r->merge->runs[i].count; h++)
			r->told[i] = mapring__least(r->told[i], r->merge->runs[i].held[h].ticket);
		if (r->shards[i].number < seat->readers.layout.shards)
			mapring__store_release(mapring__seat_of(seat, r->shards[i].number, 1), r->told[i]); /* SYNC read */
	}
	/* After this no program judges an earlier reader of this seat: MEMBARRIER_CMD_GLOBAL waits for an RCU grace period. */
	syscall(SYS_membarrier, 1, 0, 0);
	mapring__store(mapring__seat_word(seat, MAPRING__SEATS * MAPRING__LEASES + seat->number), lease_ns);
	__atomic_fetch_or(mapring__seat_word(seat, MAPRING__REQUIRED), mapring__bit(seat), __ATOMIC_RELAXED);
	mapring__fence_full(); /* SYNC keep: programs see the bit, or this reader their claims */
	r->portion = l->capacity;
	if (l->options & MAPRING_OPTION_TAILS)
		r->portion = mapring__least(r->portion, l->area / l->longest);
	r->portion = mapring__most(r->portion / 8, 1);
	r->required = true;
	seat->lease_ended = false;
	return 0;
}

/* Whether programs wait for this reader. Makes no system call. */
static inline bool mapring_reader__is_required(struct mapring_reader *r)
{
	return r->required && mapring__seat_is_mine(r->seat) &&
	       (mapring__load(mapring__seat_word(r->seat, MAPRING__REQUIRED)) & mapring__bit(r->seat));
}

#endif
