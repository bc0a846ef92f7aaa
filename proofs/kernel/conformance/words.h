/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Words of shared memory, and the few operations for reading them (docs/abi.md, "Opening"). */
#ifndef WORDS_H
#define WORDS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* A word that others write while it is read. This program writes none. */
typedef const _Atomic uint64_t word;

static inline uint64_t load(word *w)
{
	return atomic_load_explicit(w, memory_order_relaxed);
}

static inline uint64_t load_acquire(word *w)
{
	return atomic_load_explicit(w, memory_order_acquire);
}

static inline void fence_acquire(void)
{
	atomic_thread_fence(memory_order_acquire);
}

static inline void fence_full(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

/* `count` relaxed loads of whole words. */
static inline void copy(uint64_t *to, word *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = load(from + i);
}

/* Whether `a` comes after `b`, with wrap-around. */
static inline int after(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) > 0;
}

static inline uint64_t round_up(uint64_t n, uint64_t multiple)
{
	return (n + multiple - 1) / multiple * multiple;
}

/* The number of words for this many bytes. */
static inline uint64_t words_of(uint64_t bytes)
{
	return round_up(bytes, 8) / 8;
}

#endif
