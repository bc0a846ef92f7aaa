/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The arguments of the tests' programs, and the records that they write, as in src/records.rs. */
#ifndef RECORDS_H
#define RECORDS_H

/* The test's arguments; `done` is the result. */
struct args {
	__u64 op, index, n, done;
};

/* Word i of record n. */
#define WORD(n, i) ((__u32)(n) * 2654435761U + (__u32)(i))

/* Words `from` to `to` of record n. */
#define FILL_FROM(r, n, from, to)                          \
	for (__u32 i = (from); i < (__u32)(to); i++)       \
		(r)->words[i] = WORD(n, i)
#define FILL_WORDS(r, n, count) FILL_FROM(r, n, 0, count)

#endif
