/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Commands: a ring that userspace writes, and whose commands programs carry out: each once, in order.
 *
 *	struct tune { __u32 filter, every; };
 *	MAPRING_COMMANDS(commands, struct tune, 64);		// slots: a power of two
 *	MAPRING_GLOBAL_LATCH(tuning, struct tune);		// global.bpf.h
 *
 *	static void apply(const struct tune *command)
 *	{
 *		mapring_latch_set(&tuning, command);
 *	}
 *
 *	SEC("raw_tp/sys_enter")
 *	int on_enter(__u64 *ctx)
 *	{
 *		struct tune now;
 *
 *		mapring_commands_drain(&commands, apply);	// two loads while there are no commands
 *		if (mapring_latch_read(&tuning, &now))		// whole, also while another program applies a command
 *			return 0;
 *		…
 *	}
 *
 * Any number of programs, on any CPUs and in any context, may drain one ring. One does so at a time: it holds a lock,
 * which the others try once. They continue without their turn, so no program ever waits. Only the program that drains
 * calls `apply`. So a latch that only `apply` writes has one writer, and a program that interrupts it reads the last
 * whole value.
 *
 * A program that begins after `push` returned carries the command out itself, unless another program is draining at
 * that moment. Every program that begins after userspace saw the command acknowledged sees its effect.
 *
 * A drain carries out at most MAPRING_COMMANDS_AT_ONCE commands; the next program goes on. `apply` gets a copy on the
 * stack. It must not call `mapring_commands_drain`.
 */
#ifndef MAPRING_COMMANDS_BPF_H
#define MAPRING_COMMANDS_BPF_H

#include <mapring/detail/atomic.bpf.h>

/* The most commands that one drain carries out. Define it before this file is included to change it. */
#ifndef MAPRING_COMMANDS_AT_ONCE
#define MAPRING_COMMANDS_AT_ONCE 16
#endif

/* The header starts at element MAPRING__FIRST. An element has at least two words, so the first two are always in one. */

#undef MAPRING_COMMANDS
#define MAPRING_COMMANDS(name, command_type, slots)                                                   \
	struct mapring_commands__##name {                                                             \
		__u64 seq;                                                                            \
		command_type record;                                                                  \
		MAPRING__TAG(slots);                                                                  \
	};                                                                                            \
	_Static_assert((slots) > 0 && ((slots) & ((slots) - 1)) == 0,                                 \
		       "mapring: commands need a power of two of slots");                             \
	MAPRING__COUNT_CHECK(name, slots, "slots")                                                    \
	MAPRING__TYPE_CHECKS(command_type, "commands")                                                \
	_Static_assert(sizeof(command_type) <= 256,                                                   \
		       "mapring: a command has at most 256 bytes: programs copy it to their stack");  \
	MAPRING__MAP(commands, name,                                                                  \
		     MAPRING__FIRST(sizeof(struct mapring_commands__##name)) +                        \
			     MAPRING__SHARD(sizeof(struct mapring_commands__##name), slots));         \
                                                                                                      \
	MAPRING__FN void mapring_commands_drain(struct mapring_map__##name *map,                      \
						void (*apply)(const command_type *))                  \
	{                                                                                             \
		const __u32 size = sizeof(struct mapring_commands__##name);                           \
		__u64 *header = mapring__word(map, MAPRING__FIRST((unsigned long)size));              \
		__u64 *lock = header ? mapring__commands_turn(map, size, header) : 0;                 \
		command_type command;                                                                 \
                                                                                                      \
		if (!lock)                                                                            \
			return;                                                                       \
		for (int i = 0; i < MAPRING_COMMANDS_AT_ONCE; i++) {                                  \
			__u64 next, *slot;                                                            \
                                                                                                      \
			if (!mapring__commands_next(map, size, slots, header, &next, &slot))          \
				break;                                                                \
			if (slot) {                                                                   \
				__builtin_memcpy(&command, slot + 1, sizeof(command));                \
				apply(&command);                                                      \
			}                                                                             \
			/* SYNC applied: pairs with the loads of the owner */                         \
			mapring__publish(header + MAPRING__APPLIED, next);                            \
		}                                                                                     \
		mapring__publish(lock, 0); /* SYNC lock */                                            \
	}

/* A word of the header. NULL never happens, but the verifier can't know. */
static __always_inline __u64 *mapring__commands_word(void *map, __u32 size, __u32 word)
{
	__u64 *words = mapring__word(map, MAPRING__FIRST((unsigned long)size) + word * 8 / size);

	if (!words)
		return 0;
	/* Opaque: otherwise clang adds before it checks, which the verifier refuses. */
	asm volatile("" : "+r"(words));
	return words + word * 8 % size / 8;
}

/* Returns the lock, which is now this program's; NULL if there is nothing to do, or another program is doing it. */
static __always_inline __u64 *mapring__commands_turn(void *map, __u32 size, __u64 *header)
{
	__u64 pushed = mapring__load(header + MAPRING__PUSHED);
	__u64 applied = mapring__load(header + MAPRING__APPLIED);
	__u64 *lock = 0;

	mapring__barrier(); /* SYNC applied: what another program carried out is visible from here on */
	if (__builtin_expect(pushed == applied, 1))
		return 0;
	lock = mapring__commands_word(map, size, MAPRING__LOCK);
	/* SYNC lock: a full barrier; pairs with the end of the drain before */
	if (!lock || mapring__load(lock) || mapring__cmpxchg(lock, 0, 1))
		return 0;
	return lock;
}

/*
 * Returns 0 if there is nothing to do. Otherwise `*next` is the number of commands that will then have been carried out,
 * and `*slot` has the next command; or it is NULL, and the words are skipped: they are forged, as no owner writes them.
 */
static __always_inline int mapring__commands_next(void *map, __u32 size, __u32 slots, __u64 *header, __u64 *next,
						  __u64 **slot)
{
	__u32 first = MAPRING__FIRST((unsigned long)size) + MAPRING__HEADER((unsigned long)size);
	__u64 pushed = mapring__load(header + MAPRING__PUSHED);
	__u64 applied = mapring__load(header + MAPRING__APPLIED);
	__u64 *skipped;

	mapring__barrier(); /* SYNC publish: pairs with the store of the owner */
	if (pushed == applied)
		return 0;
	*next = applied + 1;
	if (pushed - applied <= slots) {
		*slot = mapring__word(map, first + (applied & (slots - 1)));
		if (*slot && mapring__load(*slot) == *next)
			return 1;
	} else {
		*next = pushed;
	}
	*slot = 0;
	skipped = mapring__commands_word(map, size, MAPRING__SKIPPED);
	if (skipped)
		mapring__count(skipped, 1);
	return 1;
}

#endif
