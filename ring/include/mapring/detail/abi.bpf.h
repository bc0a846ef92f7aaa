/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The memory layout of every kind of region. docs/abi.md specifies it byte by byte, and ring/core/src/abi/
 * is the same in Rust. Nothing here generates code.
 */
#ifndef MAPRING_ABI_BPF_H
#define MAPRING_ABI_BPF_H

/* The kernel's types that libbpf's headers use, so that programs need neither vmlinux.h nor the kernel's
 * headers. A program may include these as well, before or after (same definitions). */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

#include <bpf/bpf_helpers.h>
#include <mapring/detail/missing.bpf.h>
#include <mapring/detail/numbers.bpf.h>

#define MAPRING__MAP_TYPE_ARRAY 2
#define MAPRING__MAP_TYPE_ARRAY_OF_MAPS 12
#define MAPRING__F_MMAPABLE (1U << 10)

#define MAPRING__DIV_UP(a, b) (((a) + (b) - 1) / (b))
#define MAPRING__ROUND_UP(a, b) (MAPRING__DIV_UP(a, b) * (b))

/* The number of elements of `size` bytes (a multiple of 8) after which an element starts on a line again. */
#define MAPRING__PER_LINES(size) \
	(((size) & -(size)) >= MAPRING__LINE ? 1UL : MAPRING__LINE / ((size) & -(size)))
/* The number of elements that `bytes` bytes take, so that the next structure starts on a line. */
#define MAPRING__ELEMENTS(size, bytes) \
	MAPRING__ROUND_UP(MAPRING__DIV_UP(bytes, size), MAPRING__PER_LINES(size))

/* The preamble starts at element 0. A ring's shard is a header (head, dropped), then the slots. */
#define MAPRING__FIRST(size) MAPRING__ELEMENTS(size, MAPRING__PREAMBLE)
#define MAPRING__HEADER(size) MAPRING__ELEMENTS(size, MAPRING__LINE)
#define MAPRING__SHARD(size, slots) \
	(MAPRING__HEADER(size) + MAPRING__ROUND_UP((unsigned long)(slots), MAPRING__PER_LINES(size)))

/*
 * A loader finds the kind and the shape of a map in BTF. The name of the value's type starts with the kind.
 * The inner length of this member, which has size 0, is the capacity. Its name says how programs publish
 * records: a loader refuses an object that needs a stronger memory order than its machine has.
 */
#if defined(__TARGET_ARCH_x86)
#define MAPRING__TAG(capacity) __u8 mapring_tso[0][capacity]
#else
#define MAPRING__TAG(capacity) __u8 mapring_any[0][capacity]
#endif

/* BTF describes no larger maps. The loader makes of these one shard for each CPU. */
#define MAPRING__COUNT_CHECK(name, count, things)                                                         \
	_Static_assert((count) <= 1ULL << 29, "mapring: " #name " has too many " things ": 2^29 at most");
#define MAPRING__MAP_CHECKS(kind, name)                                                                   \
	_Static_assert(sizeof(struct mapring_##kind##__##name) <= 1ULL << 29,                             \
		       "mapring: " #name " is too large: 2^29 bytes on each CPU at most")

#define MAPRING__TYPE_CHECKS(type, what)                                                                  \
	_Static_assert(_Alignof(type) <= 8, "mapring: " what " are aligned to 8 at most");                \
	_Static_assert(sizeof(type) > 0, "mapring: " what " have at least 1 byte: give the struct a field");

#define MAPRING__MAP(kind, name, entries)                               \
	MAPRING__MAP_CHECKS(kind, name);                                \
	struct mapring_map__##name {                                    \
		__uint(type, MAPRING__MAP_TYPE_ARRAY);                  \
		__uint(map_flags, MAPRING__F_MMAPABLE);                 \
		__uint(max_entries, entries);                           \
		__type(key, __u32);                                     \
		__type(value, struct mapring_##kind##__##name);         \
	} name MAPRING__IN_MAPS

/*
 * Maps are weak, and so are the functions that the verifier checks apart. So several files may declare a ring, and
 * libbpf's linker makes one of it. cilium/ebpf does not load weak maps: `#define MAPRING_NO_WEAK` before the include, or
 * clang -DMAPRING_NO_WEAK, makes them ordinary ones.
 */
#ifdef MAPRING_NO_WEAK
#define MAPRING__IN_MAPS SEC(".maps")
#else
#define MAPRING__IN_MAPS __weak SEC(".maps")
#endif
#define MAPRING__SHARED __weak __attribute__((noinline))

/* Functions that a map's macro defines. They are overloaded for each map: mapring_reserve(&this_map). */
#define MAPRING__FN static __always_inline __attribute__((overloadable, unused))

/*
 * For functions that copy a value. clang's BPF backend does not have memcpy: it copies by at most 128 stores of
 * 8, 4, 2 and 1 bytes. Beyond that, its error "a call to built-in function 'memcpy'" names no place and no remedy.
 */
#define MAPRING__STORES(size) ((size) / 8 + ((size) / 4 & 1) + ((size) / 2 & 1) + ((size) & 1))
#define MAPRING__COPIES(type, instead)                                                              \
	__attribute__((diagnose_if(MAPRING__STORES(sizeof(type)) > 128,                             \
				   "mapring: clang copies at most 1024 bytes in a BPF program: " instead, \
				   "error")))

#endif
