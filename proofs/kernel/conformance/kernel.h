/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The system calls of bpf(2) that readers need. Each returns -1 and sets errno if it fails. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/bpf.h>

/* A descriptor of a pinned object, for reading and writing, or for reading only. */
int open_pin(const char *path, bool read_only);
/* A descriptor of the map with this id. */
int open_map_id(uint32_t id, bool read_only);
/* The kernel's information about a map. */
int map_info(int fd, struct bpf_map_info *info);
/* Looks up one element. `value` has room for the map's value, or for the values of all possible CPUs. */
int lookup(int fd, uint32_t key, void *value);
/* The types with this id, in a new buffer of `*bytes` bytes that the caller frees; NULL on failure. */
void *read_btf(uint32_t id, size_t *bytes);

/* The possible CPUs, in ascending order. Returns their number, or -1. */
int possible_cpus(unsigned *cpus, int room);

#endif
