/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Dispatch tables: programs jump to the programs in a table. Userspace replaces these while they run.
 *
 *	MAPRING_DISPATCH(stages, 8);			// 8 slots, all empty at first
 *
 *	mapring_dispatch(ctx, &stages, slot);		// returns only if the jump failed
 *
 * The target program gets `ctx` and a new stack, nothing else. A jump to a slot that is empty or out of range is
 * counted in the counters `stages_misses`, and the program continues. The last counter is for all slots out of
 * range. The kernel refuses the 34th jump in a row, which is counted in the same way. All programs of a table have
 * the same type.
 */
#ifndef MAPRING_DISPATCH_BPF_H
#define MAPRING_DISPATCH_BPF_H

#include <mapring/counters.bpf.h>

#define MAPRING__MAP_TYPE_PROG_ARRAY 3

#undef MAPRING_DISPATCH
#define MAPRING_DISPATCH(name, slots)                                                            \
	_Static_assert((slots) > 0, "mapring: a dispatch table needs a slot");                   \
	struct mapring_map__##name {                                                             \
		__uint(type, MAPRING__MAP_TYPE_PROG_ARRAY);                                      \
		__uint(max_entries, slots);                                                      \
		__type(key, __u32);                                                              \
		__type(value, __u32);                                                            \
	} name MAPRING__IN_MAPS;                                                                 \
	MAPRING_COUNTERS(name##_misses, (slots) + 1);                                            \
                                                                                                 \
	MAPRING__FN void mapring_dispatch(void *ctx, struct mapring_map__##name *map, __u32 slot) \
	{                                                                                        \
		bpf_tail_call(ctx, map, slot);                                                   \
		mapring_counter_inc(&name##_misses, slot < (slots) ? slot : (slots));                    \
	}

#endif
