/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * mapring in C11 and C++17: readers of every region that BPF programs or processes write, with libc alone. This header and its
 * parts in mapring_c/ are written from docs/abi.md, whose executable form they are. They read layout version 3, and refuse others.
 *
 *	struct mapring_reader *reader = mapring_reader__open("/sys/fs/bpf/switches", NULL);
 *	if (!reader)
 *		errx(1, "%s", mapring_error());
 *	do
 *		found = mapring_reader__poll(reader, -1, sizeof(struct event), on_event, NULL);
 *	while (found >= 0 || found == -EINTR); // a signal ends a wait, also with SA_RESTART: leave the loop there if you want
 *	mapring_reader__free(reader);
 *
 * Rings		mapring_reader__open, __open_fd, __for_each, __poll, __wait, __arm, __disarm, __fd, __require, __is_required,
 *			__stats, __record, __is_mapped, __free						reader.h, deliver.h, wait.h
 * Several rings		mapring_merged__new, __add, __for_each, __wait, __free				merged.h
 * Other regions	mapring_region__open, __open_fd, __shards, __dropped, __free			values.h
 * Cells, latches	mapring_cell__read, mapring_latch__read, __set					values.h
 * Counters		mapring_counter__get, __sum							values.h
 * Commands		mapring_commands__push, __acknowledged						values.h
 * Global variables	mapring_global__open_fd								values.h
 * Histograms		mapring_histogram__add, __percentile, __first, __last				tables.h
 * Gauges, top keys	mapring_gauge__read, mapring_top__read						tables.h
 *
 * Functions return a negative errno, or NULL with `errno`; mapring_error() then has a sentence. Names with two underscores after
 * `mapring` are not for programs. A reader or a region is for one thread at a time.
 */
#ifndef MAPRING_H
#define MAPRING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/btf.h>

/* Programs may be compiled with warnings that this header does not follow. */
#if defined(__GNUC__) && !defined(MAPRING_SHOW_WARNINGS)
#pragma GCC system_header
#endif

#if defined(__GLIBC__) && !defined(__USE_GNU)
#error "mapring.h: include it before any other header, or compile with -D_GNU_SOURCE"
#endif

#include "mapring_c/words.h"
#include "mapring_c/kernel.h"
#include "mapring_c/layout.h"
#include "mapring_c/btf.h"
#include "mapring_c/locator.h"
#include "mapring_c/region.h"
#include "mapring_c/ring.h"
#include "mapring_c/merge.h"
#include "mapring_c/seat.h"
#include "mapring_c/reader.h"
#include "mapring_c/follow.h"
#include "mapring_c/deliver.h"
#include "mapring_c/wait.h"
#include "mapring_c/merged.h"
#include "mapring_c/values.h"
#include "mapring_c/tables.h"

#endif
