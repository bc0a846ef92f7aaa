/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Words of shared memory: loads, copies, fences. Nothing else touches the memory that others write. */
#ifndef MAPRING_C_WORDS_H
#define MAPRING_C_WORDS_H

#define MAPRING__FAST static inline __attribute__((always_inline))
#define MAPRING__COLD static __attribute__((noinline, unused))

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define MAPRING__TSAN 1
#endif
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define MAPRING__CHECKED 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define MAPRING__TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define MAPRING__CHECKED 1
#endif

/* The most words of a small record. */
enum { MAPRING__FEW = 8 };

/* A word of private memory that has any type. */
typedef uint64_t mapring__any __attribute__((may_alias, aligned(1)));

/* A relaxed load of a word. The thread sanitizer knows no fences, so there each load is an acquire. */
MAPRING__FAST uint64_t mapring__load(const uint64_t *word)
{
#ifdef MAPRING__TSAN
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#else
	return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

MAPRING__FAST uint64_t mapring__load_acquire(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

MAPRING__FAST void mapring__store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

MAPRING__FAST void mapring__store_release(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

MAPRING__FAST bool mapring__swap_if(uint64_t *word, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

MAPRING__FAST void mapring__fence_acquire(void)
{
#ifndef MAPRING__TSAN
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

MAPRING__FAST void mapring__fence_release(void)
{
#ifdef MAPRING__TSAN
	static uint64_t none;

	__atomic_fetch_add(&none, 0, __ATOMIC_ACQ_REL);
#else
	__atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

MAPRING__FAST void mapring__fence_full(void)
{
#ifdef MAPRING__TSAN
	static uint64_t none;

	__atomic_fetch_add(&none, 0, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#if defined(__x86_64__) && !defined(MAPRING__CHECKED) && !defined(MAPRING__TSAN)
/* One load of two words acts on each of them like a relaxed load. The machine splits it only between words, and keeps loads
 * in order (Intel's manual, volume 3, 9.1.1 and 9.2.2). */
#define MAPRING__PAIRS 1

MAPRING__FAST void mapring__copy_pair(mapring__any *to, const uint64_t *from)
{
	typedef long long pair __attribute__((vector_size(16), aligned(1), may_alias));
	pair both;

	__asm__ volatile("movups %1, %0" : "=x"(both) : "m"(*(const pair *)from) : "memory");
	*(pair *)to = both;
}

/* Copies `lines` times 64 bytes, with AVX. Stores that cross lines take longer. */
static __attribute__((noinline, unused)) void mapring__copy_lines_avx(mapring__any *to, const uint64_t *from, size_t lines)
{
	__asm__ volatile("1:\n\t"
			 "vmovups (%[from]), %%ymm0\n\t"
			 "vmovups 32(%[from]), %%ymm1\n\t"
			 "vmovups %%ymm0, (%[to])\n\t"
			 "vmovups %%ymm1, 32(%[to])\n\t"
			 "add $64, %[from]\n\t"
			 "add $64, %[to]\n\t"
			 "dec %[lines]\n\t"
			 "jnz 1b\n\t"
			 "vzeroupper"
			 : [to] "+r"(to), [from] "+r"(from), [lines] "+r"(lines)
			 :
			 : "memory", "cc", "xmm0", "xmm1");
}
#endif

/* Copies up to MAPRING__FEW words. Without a loop: compilers unroll loops after they have chosen what to keep in registers. */
MAPRING__FAST void mapring__copy_few(mapring__any *to, const uint64_t *from, size_t words)
{
	if (words > 7)
		to[7] = mapring__load(from + 7);
	if (words > 6)
		to[6] = mapring__load(from + 6);
	if (words > 5)
		to[5] = mapring__load(from + 5);
	if (words > 4)
		to[4] = mapring__load(from + 4);
	if (words > 3)
		to[3] = mapring__load(from + 3);
	if (words > 2)
		to[2] = mapring__load(from + 2);
	if (words > 1)
		to[1] = mapring__load(from + 1);
	if (words > 0)
		to[0] = mapring__load(from);
}

/* Copies words, each of them by one load, into private memory. */
MAPRING__FAST void mapring__copy(void *into, const uint64_t *from, size_t words)
{
	mapring__any *to = (mapring__any *)into;
	size_t i = 0;

#ifdef MAPRING__PAIRS
	if (words >= 128 && __builtin_cpu_supports("avx")) {
		i = words / 8 * 8;
		mapring__copy_lines_avx(to, from, i / 8);
	}
	/* The compiler can keep the words of a small record in registers, which pairs are not. */
	for (; words > MAPRING__FEW && i + 2 <= words; i += 2)
		mapring__copy_pair(to + i, from + i);
#endif
	for (; i + MAPRING__FEW < words; i++)
		to[i] = mapring__load(from + i);
	mapring__copy_few(to + i, from + i, words - i);
}

/* The same for any number of bytes. */
MAPRING__FAST void mapring__copy_bytes(void *to, const uint64_t *from, size_t bytes)
{
	mapring__copy(to, from, bytes / 8);
	if (bytes % 8 != 0) {
		uint64_t last = mapring__load(from + bytes / 8);

		memcpy((char *)to + bytes / 8 * 8, &last, bytes % 8);
	}
}

/* Whether `a` comes after `b`, with wrap-around. */
MAPRING__FAST bool mapring__after(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) > 0;
}

MAPRING__FAST uint64_t mapring__least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

MAPRING__FAST uint64_t mapring__most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

MAPRING__FAST uint64_t mapring__round_up(uint64_t n, uint64_t multiple)
{
	return (n + multiple - 1) / multiple * multiple;
}

/* The number of words for this many bytes. */
MAPRING__FAST uint64_t mapring__words_of(uint64_t bytes)
{
	return (bytes + 7) / 8;
}

/* Nanoseconds of a clock. */
static inline uint64_t mapring__clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t mapring__now(void)
{
	return mapring__clock(CLOCK_MONOTONIC);
}

#endif
