/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the two files of this program share. */
#ifndef SHOW_H
#define SHOW_H

#include <mapring.h>

/* Prints a region of the kind that `command` names. Returns false if it names none. */
bool show_region(const char *command, const struct mapring__locator *locator);
/* A variable: its name, or its position such as `cell@8:20`. */
void show_global(const struct mapring__locator *locator, const char *name);
/* Pushes a command, and waits until programs have carried it out; or sets latch 0. */
void write_value(const struct mapring__locator *locator, bool is_command, const char *hex);

/* Reads the ring that is pinned there as kernel-tests-reads does. Returns the program's exit code. */
int reads(const char *pin, const char *how);

/* Ends the program with mapring_error(). */
_Noreturn void fail(const char *what);
/* Zeroed words. */
void *room(uint64_t words);
/* Says that everything is open, and how it is read. */
void ready(bool mapped);
/* Whether stdin has ended. */
bool is_stopped(void);
void print_hex(const void *bytes, uint64_t count);

#endif
