/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "btf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* The data after a type: a fixed number of bytes, plus bytes for each of its `vlen` members. */
static const struct {
	uint8_t always, each;
} BEHIND[] = {
	[BTF_KIND_INT] = { 4, 0 },
	[BTF_KIND_ARRAY] = { sizeof(struct btf_array), 0 },
	[BTF_KIND_STRUCT] = { 0, sizeof(struct btf_member) },
	[BTF_KIND_UNION] = { 0, sizeof(struct btf_member) },
	[BTF_KIND_ENUM] = { 0, sizeof(struct btf_enum) },
	[BTF_KIND_FUNC_PROTO] = { 0, sizeof(struct btf_param) },
	[BTF_KIND_VAR] = { sizeof(struct btf_var), 0 },
	[BTF_KIND_DATASEC] = { 0, sizeof(struct btf_var_secinfo) },
	[17] = { 4, 0 },  /* DECL_TAG */
	[18] = { 0, 0 },  /* TYPE_TAG */
	[19] = { 0, 12 }, /* ENUM64 */
};

static uint32_t kind_of(const struct btf_type *type)
{
	return BTF_INFO_KIND(type->info);
}

/* Finds the start of each type. */
static bool index_types(struct btf *btf, const char *at, const char *end)
{
	btf->types = calloc((size_t)(end - at) / sizeof(struct btf_type) + 1, sizeof(*btf->types));
	if (!btf->types)
		return false;
	btf->count = 1;
	while (at < end) {
		const struct btf_type *type = (const void *)at;
		size_t bytes = sizeof(*type);

		if ((size_t)(end - at) < bytes || kind_of(type) >= sizeof(BEHIND) / sizeof(BEHIND[0]))
			return false;
		bytes += BEHIND[kind_of(type)].always;
		bytes += (size_t)BEHIND[kind_of(type)].each * BTF_INFO_VLEN(type->info);
		if ((size_t)(end - at) < bytes)
			return false;
		btf->types[btf->count++] = type;
		at += bytes;
	}
	return true;
}

bool btf_open(struct btf *btf, uint32_t id)
{
	const struct btf_header *header;
	uint64_t types, strings;
	size_t bytes;

	*btf = (struct btf){ .bytes = read_btf(id, &bytes) };
	if (!btf->bytes)
		return false;
	header = (const void *)btf->bytes;
	if (bytes >= sizeof(*header) && header->magic == BTF_MAGIC) {
		types = (uint64_t)header->hdr_len + header->type_off;
		strings = (uint64_t)header->hdr_len + header->str_off;
		if (types + header->type_len <= bytes && strings + header->str_len <= bytes) {
			btf->strings = btf->bytes + strings;
			btf->strings_size = header->str_len;
			if (index_types(btf, btf->bytes + types, btf->bytes + types + header->type_len))
				return true;
		}
	}
	btf_close(btf);
	errno = EINVAL;
	return false;
}

void btf_close(struct btf *btf)
{
	free(btf->types);
	free(btf->bytes);
	*btf = (struct btf){ 0 };
}

const struct btf_type *btf_type(const struct btf *btf, uint32_t id)
{
	return id < btf->count ? btf->types[id] : NULL;
}

/* The strings end with a zero byte, and `read_btf` adds one. */
static const char *string(const struct btf *btf, uint32_t offset)
{
	return offset < btf->strings_size ? btf->strings + offset : "";
}

const char *btf_name(const struct btf *btf, const struct btf_type *type)
{
	return string(btf, type->name_off);
}

const struct btf_type *btf_resolve(const struct btf *btf, uint32_t id)
{
	for (int steps = 0; steps < 32; steps++) {
		const struct btf_type *type = btf_type(btf, id);

		if (!type)
			return NULL;
		switch (kind_of(type)) {
		case BTF_KIND_TYPEDEF:
		case BTF_KIND_CONST:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_RESTRICT:
		case 18: /* TYPE_TAG */
			id = type->type;
			break;
		default:
			return type;
		}
	}
	return NULL;
}

uint64_t btf_size(const struct btf *btf, uint32_t id)
{
	uint64_t times = 1;

	for (int depth = 0; depth < 32; depth++) {
		const struct btf_type *type = btf_resolve(btf, id);
		const struct btf_array *array;

		if (!type)
			return 0;
		switch (kind_of(type)) {
		case BTF_KIND_ARRAY:
			array = (const void *)(type + 1);
			times *= array->nelems;
			id = array->type;
			break;
		case BTF_KIND_PTR:
			return times * 8;
		case BTF_KIND_INT:
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
		case BTF_KIND_ENUM:
		case BTF_KIND_FLOAT:
		case 19: /* ENUM64 */
			return times * type->size;
		default:
			return 0;
		}
	}
	return 0;
}

uint32_t btf_member(const struct btf *btf, const struct btf_type *type, const char *name)
{
	const struct btf_member *members = (const void *)(type + 1);

	if (kind_of(type) != BTF_KIND_STRUCT)
		return 0;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(type->info); i++)
		if (strcmp(string(btf, members[i].name_off), name) == 0)
			return members[i].type;
	return 0;
}

uint32_t btf_variable(const struct btf *btf, const struct btf_type *section, const char *name, uint32_t *offset)
{
	const struct btf_var_secinfo *places = (const void *)(section + 1);

	if (kind_of(section) != BTF_KIND_DATASEC)
		return 0;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(section->info); i++) {
		const struct btf_type *variable = btf_type(btf, places[i].type);

		if (variable && kind_of(variable) == BTF_KIND_VAR && strcmp(btf_name(btf, variable), name) == 0) {
			*offset = places[i].offset;
			return variable->type;
		}
	}
	return 0;
}
