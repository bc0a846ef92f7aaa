/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The part of BTF, the kernel's format for C types, that describes a map without a preamble. */
#ifndef BTF_H
#define BTF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/btf.h>

struct btf {
	char *bytes;
	const struct btf_type **types; /* by id; id 0, void, is NULL */
	uint32_t count;
	const char *strings;
	uint32_t strings_size;
};

/* Gets and indexes the types with this id. Returns false, with errno, on failure. */
bool btf_open(struct btf *btf, uint32_t id);
void btf_close(struct btf *btf);

/* A type, and its name ("" if it has none). NULL for an unknown id. */
const struct btf_type *btf_type(const struct btf *btf, uint32_t id);
const char *btf_name(const struct btf *btf, const struct btf_type *type);
/* The type after typedefs and qualifiers. */
const struct btf_type *btf_resolve(const struct btf *btf, uint32_t id);
/* Bytes of a type; 0 if it has no size. */
uint64_t btf_size(const struct btf *btf, uint32_t id);
/* The type of a struct's member: 0 if it has no such member. */
uint32_t btf_member(const struct btf *btf, const struct btf_type *type, const char *name);
/* The type and offset of a variable in a DATASEC; the type is 0 if the variable is missing. */
uint32_t btf_variable(const struct btf *btf, const struct btf_type *section, const char *name, uint32_t *offset);

#endif
