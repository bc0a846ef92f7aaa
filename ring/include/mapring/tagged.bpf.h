/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Several types of records in one ring, of any kind. A record is a tag and then one of several variants:
 *
 *	struct exec { __u32 pid, ppid; char comm[16]; };
 *	struct exit { __u32 pid; __s32 code; };
 *
 *	struct event {
 *		__u64 tag;
 *		union {
 *			MAPRING_VARIANT(1, struct exec, exec);		// its tag: 1 to 2^32 - 1
 *			MAPRING_VARIANT(2, struct exit, exit);
 *		};
 *	};
 *	MAPRING_RING(events, struct event, 4096);			// or any other ring
 *
 *	struct event *e = mapring_reserve_variant(&events, exec);	// sets the tag
 *	if (e) {
 *		e->exec.pid = bpf_get_current_pid_tgid() >> 32;
 *		mapring_commit(&events, e);					// as for any record
 *	}
 *	e = mapring_reserve_variant_with_tail(&events, exit, &tail);	// in a ring with tails
 *	e = mapring_set_variant(mapring_reserve_zeroed(&events), exit);	// after any other reserve
 *
 * Readers match the variants by their tags (Rust: mapring::Tagged). To a reader that does not know a tag, the record
 * is a number of bytes: new variants may be added at any time, also larger ones. A variant keeps its tag for good,
 * and a tag its variant.
 * mapring_reserve does not set the tag: such a record still holds the tag of an older one.
 */
#ifndef MAPRING_TAGGED_BPF_H
#define MAPRING_TAGGED_BPF_H

#include <mapring/detail/abi.bpf.h>

/* A variant. Readers find its tag in BTF, as the length of an array. */
#undef MAPRING_VARIANT
#define MAPRING_VARIANT(number, type, name)                                                     \
	_Static_assert((number) > 0 && (number) <= 0xffffffff,                                  \
		       "mapring: the tag of " #name " must be from 1 to 2^32 - 1");             \
	_Static_assert(_Alignof(type) <= 8, "mapring: records are aligned to 8 at most");       \
	type name;                                                                              \
	__u8 mapring_tag__##name[0][number]

/* Sets the tag of a reserved record. Returns the record; NULL if it is NULL. */
#define mapring_set_variant(record, variant)                                                    \
	({                                                                                      \
		__typeof__(record) mapring__record = (record);                                  \
                                                                                                \
		if (mapring__record)                                                            \
			mapring__record->tag = sizeof(mapring__record->mapring_tag__##variant[0]); \
		mapring__record;                                                                \
	})

#define mapring_reserve_variant(map, variant) mapring_set_variant(mapring_reserve(map), variant)

#define mapring_reserve_variant_with_tail(map, variant, tail) \
	mapring_set_variant(mapring__reserve(map, tail), variant)

#endif
