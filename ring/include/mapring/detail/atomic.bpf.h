/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The memory operations of the protocols. The fetching atomics are written as instructions, not as clang's
 * builtins. Before clang 20 these need -mcpu=v3. Where the result is unused, clang lowers them to a plain
 * `lock +=`, which orders nothing on arm64. clang 14's assembler does not parse fetching atomics.
 */
#ifndef MAPRING_ATOMIC_BPF_H
#define MAPRING_ATOMIC_BPF_H

#include <mapring/detail/abi.bpf.h>

/* Empty. Tests insert a delay here: between the load of a sequence and the store that claims it. */
#ifndef MAPRING__IN_CLAIM
#define MAPRING__IN_CLAIM
#endif

/* A whole-word load that the compiler neither splits nor repeats. Orders nothing. */
static __always_inline __u64 mapring__load(const __u64 *word)
{
	return *(const volatile __u64 *)word;
}

/* A whole-word store that the compiler neither splits nor drops. Orders nothing. */
static __always_inline void mapring__store(__u64 *word, __u64 value)
{
	*(volatile __u64 *)word = value;
}

/*
 * The same value, of which the verifier knows nothing more. It follows what it knows of a value through each round of a
 * loop. `unknown` is any word that was loaded.
 */
static __always_inline __u64 mapring__forget(__u64 value, __u64 unknown)
{
	value += unknown;
	asm volatile("" : "+r"(value));
	value -= unknown;
	asm volatile("" : "+r"(value));
	return value;
}

/* BPF_STX | BPF_ATOMIC | BPF_DW with r1 as the address and r2 as the value. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MAPRING__ATOMIC(op) (0x21dbULL | (__u64)(op) << 32)
#else
#define MAPRING__ATOMIC(op) (0xdb12ULL << 48 | (__u64)(op))
#endif

/* Returns the old value. A full barrier on every JIT, like all fetching BPF atomics. */
static __always_inline __u64 mapring__cmpxchg(__u64 *word, __u64 expected, __u64 value)
{
	register __u64 seen asm("r0") = expected;
	register __u64 *r1 asm("r1") = word;
	register __u64 r2 asm("r2") = value;

	asm volatile(".8byte %[cmpxchg]" : "+r"(seen) : "r"(r1), "r"(r2), [cmpxchg] "i"(MAPRING__ATOMIC(0xf1)) : "memory");
	return seen;
}

/* Returns the old value. Also a full barrier. */
static __always_inline __u64 mapring__xchg(__u64 *word, __u64 value)
{
	register __u64 *r1 asm("r1") = word;
	register __u64 r2 asm("r2") = value;

	asm volatile(".8byte %[xchg]" : "+r"(r2) : "r"(r1), [xchg] "i"(MAPRING__ATOMIC(0xe1)) : "memory");
	return r2;
}

/* Clears all bits but those of `mask`. Returns the old value. Also a full barrier. */
static __always_inline __u64 mapring__and(__u64 *word, __u64 mask)
{
	register __u64 *r1 asm("r1") = word;
	register __u64 r2 asm("r2") = mask;

	asm volatile(".8byte %[and]" : "+r"(r2) : "r"(r1), [and] "i"(MAPRING__ATOMIC(0x51)) : "memory");
	return r2;
}

/* Sets bits. Orders nothing. */
static __always_inline void mapring__or(__u64 *word, __u64 bits)
{
	asm volatile("lock *(u64 *)(%[word] + 0) |= %[bits]" : : [word] "r"(word), [bits] "r"(bits) : "memory");
}

/* Adds, and returns the old value. Also a full barrier. */
static __always_inline __u64 mapring__fetch_add(__u64 *word, __u64 by)
{
	register __u64 *r1 asm("r1") = word;
	register __u64 r2 asm("r2") = by;

	asm volatile(".8byte %[add]" : "+r"(r2) : "r"(r1), [add] "i"(MAPRING__ATOMIC(0x01)) : "memory");
	return r2;
}

/* Adds atomically, even if a nested program adds to the same word. Orders nothing. */
static __always_inline void mapring__count(__u64 *word, __u64 by)
{
	asm volatile("lock *(u64 *)(%[word] + 0) += %[by]" : : [word] "r"(word), [by] "r"(by) : "memory");
}

/*
 * Makes a record visible: a reader that sees `value` sees everything written before it.
 * x86 keeps stores in order, so a compiler barrier is enough.
 * SYNC publish: pairs with the first acquire fence of every reader.
 */
static __always_inline void mapring__publish(__u64 *word, __u64 value)
{
#if defined(__TARGET_ARCH_x86)
	asm volatile("" : : : "memory");
	mapring__store(word, value);
#elif defined(__BPF_FEATURE_LOAD_ACQ_STORE_REL)
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
#else
	mapring__xchg(word, value);
#endif
}

/* A full barrier. BPF does not have an instruction for it, but a fetching atomic on any word, here on the stack, is one. */
static __always_inline void mapring__full_barrier(void)
{
	__u64 word = 0;

	mapring__xchg(&word, 1);
}

/* A barrier for all but a store and a later load, which x86 keeps in order without it. */
static __always_inline void mapring__barrier(void)
{
#if defined(__TARGET_ARCH_x86)
	asm volatile("" : : : "memory");
#else
	mapring__full_barrier();
#endif
}

/* How often a reader tries to read a value before it gives up. */
#define MAPRING__MAX_TRIES 4

/*
 * The element `index` of a map, as words. NULL if it is out of range. The key fills 8 bytes: the verifier remembers one
 * value for each 8 bytes of the stack, so a key of 4 makes it forget what the compiler keeps beside it, such as the count
 * of a loop, which then never ends.
 */
static __always_inline __u64 *mapring__word(void *map, __u32 index)
{
	__u32 key[2];

	key[0] = index;
	return bpf_map_lookup_elem(map, key);
}

/* Counts a dropped write: a CPU without a shard, an index out of range, a busy cell. */
static __always_inline void mapring__count_out_of_range(void *map, __u32 element_size)
{
	__u64 *words = mapring__word(map, MAPRING__DROPPED * 8 / element_size);

	if (words)
		mapring__count(words + MAPRING__DROPPED * 8 % element_size / 8, 1);
}

#endif
