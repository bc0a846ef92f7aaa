/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The options of MAPRING_RING, for the preprocessor. They choose the parts of a ring (place.bpf.h), so that an option that
 * is not there costs nothing. */
#ifndef MAPRING_OPTIONS_BPF_H
#define MAPRING_OPTIONS_BPF_H

#include <mapring/detail/numbers.bpf.h>

/* What each option changes, between commas: see MAPRING__ASK. */
#define MAPRING__PLACE_PER_CPU_MAPS , PER_CPU_MAPS,
#define MAPRING__PLACE_RESIZABLE , RESIZABLE,
#define MAPRING__WAKES_WAKEABLE , YES,
#define MAPRING__WAKES_KEEP_OLDEST , YES,
#define MAPRING__KEEPS_KEEP_OLDEST , YES,
#define MAPRING__RECORD_TAILS(longest, bytes) , TAILED,
#define MAPRING__LONGEST_TAILS(longest, bytes) , longest,
#define MAPRING__AREA_TAILS(longest, bytes) , bytes,

/* What the options say to a question, or `none` if none of them says something. The name of an option that has nothing to
 * say is left as a word in the first argument, which nobody sees. */
#define MAPRING__ASK(question, none, a, b, c, d, e, f)                                                        \
	MAPRING__SECOND(MAPRING__##question##_##a MAPRING__##question##_##b MAPRING__##question##_##c         \
			MAPRING__##question##_##d MAPRING__##question##_##e MAPRING__##question##_##f, none, )
#define MAPRING__SECOND(...) MAPRING__SECOND_OF(__VA_ARGS__)
#define MAPRING__SECOND_OF(a, b, ...) b

/* Their bits. An unknown option is "undeclared" here. */
#define MAPRING__BITS(a, b, c, d, e, f)                                                                       \
	(MAPRING__OPTION_##a | MAPRING__OPTION_##b | MAPRING__OPTION_##c | MAPRING__OPTION_##d |              \
	 MAPRING__OPTION_##e | MAPRING__OPTION_##f)

#define MAPRING__OPTION_CHECKS(name, bits)                                                                    \
	_Static_assert(!((bits) & MAPRING__OPTION_RESIZABLE) ||                                               \
			       !((bits) & ~(MAPRING__OPTION_RESIZABLE | MAPRING__OPTION_WAKEABLE)),           \
		       "mapring: " #name " is RESIZABLE, with which only WAKEABLE goes. KEEP_OLDEST: a required reader " \
		       "would lose a ring that is replaced before it gets there. TAILS: programs know a shard's size when " \
		       "they are compiled. PER_CPU_MAPS: one map is replaced at a time. Leave RESIZABLE out, and choose " \
		       "enough slots");

/* `MAPRING__PART_CHOICE(...)`, where the choice is the answer to a question. */
#define MAPRING__PART(part, choice) MAPRING__PART_OF(part, choice)
#define MAPRING__PART_OF(part, choice) MAPRING__##part##_##choice

#endif
