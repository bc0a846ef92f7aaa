/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the tests' programs are told, and what they write: src/records.rs knows the same rule. */
#ifndef RECORDS_H
#define RECORDS_H

/* What the test passes; `done` is what it gets back. */
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
