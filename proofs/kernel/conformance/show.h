/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the content of regions, each time it changes, until stdin ends; then what is left. */
#ifndef SHOW_H
#define SHOW_H

#include "region.h"
#include "ring.h"

struct options {
	struct place place;
	enum start start;
	uint64_t patience; /* of readers of rings */
};

/* A ring; with `follow`, also those that replace it. */
void show_ring(const struct options *options, bool follow);
void show_numa(const struct options *options);
/* Cells or latches, whichever `kind` is. */
void show_values(const struct options *options, enum kind kind);
void show_counters(const struct options *options);
/* A variable: its name, or its position such as `cell@8:20`. */
void show_global(const struct options *options, const char *name);
void show_top(const struct options *options);
void show_histograms(const struct options *options);
void show_gauges(const struct options *options);
/* The places of the readers of a ring that wakes them. */
void show_readers(const struct options *options);

/* What these share. */

/* Ends the program with this reason, and `errno` if it is not 0. */
_Noreturn void fail(const char *what, const char *why);
/* Opens a region that must be of one of two kinds, or fails. */
void open_kind(struct region *region, const struct options *options, enum kind kind, enum kind other);
/* Zeroed words. */
void *room(uint64_t words);
/* Says that everything is open, and how it is read. */
void ready(bool mapped);
/* Whether stdin has ended. */
bool is_stopped(void);
void print_hex(const uint64_t *words, uint64_t bytes);
/* Prints the loader that a preamble names, and whether it is alive. */
void print_loader(struct region *region);

#endif
