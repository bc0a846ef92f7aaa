/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The part of BTF, the kernel's format for C types, that describes a map without a preamble. */
#ifndef MAPRING_C_BTF_H
#define MAPRING_C_BTF_H

struct mapring__btf {
	char *bytes;
	const struct btf_type **types; /* by id; id 0, void, is NULL */
	uint32_t count;
	const char *strings;
	uint32_t strings_size;
};

/* Kinds that older headers of the kernel lack. */
enum { MAPRING__FLOAT = 16, MAPRING__DECL_TAG, MAPRING__TYPE_TAG, MAPRING__ENUM64 };

static inline uint32_t mapring__type_kind(const struct btf_type *type)
{
	return BTF_INFO_KIND(type->info);
}

/* The bytes of a type with its members; 0 for an unknown kind. */
static inline size_t mapring__type_bytes(const struct btf_type *type)
{
	size_t members = BTF_INFO_VLEN(type->info);

	switch (mapring__type_kind(type)) {
	case BTF_KIND_INT:
	case MAPRING__DECL_TAG:
		return sizeof(*type) + 4;
	case BTF_KIND_ARRAY:
		return sizeof(*type) + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return sizeof(*type) + members * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return sizeof(*type) + members * sizeof(struct btf_enum);
	case BTF_KIND_FUNC_PROTO:
		return sizeof(*type) + members * sizeof(struct btf_param);
	case BTF_KIND_VAR:
		return sizeof(*type) + sizeof(struct btf_var);
	case BTF_KIND_DATASEC:
		return sizeof(*type) + members * sizeof(struct btf_var_secinfo);
	case MAPRING__ENUM64:
		return sizeof(*type) + members * 12;
	default:
		return mapring__type_kind(type) > MAPRING__ENUM64 ? 0 : sizeof(*type);
	}
}

static inline void mapring__btf_close(struct mapring__btf *btf)
{
	free(btf->types);
	free(btf->bytes);
	memset(btf, 0, sizeof(*btf));
}

/* Finds the start of each type. */
static inline bool mapring__index_types(struct mapring__btf *btf, const char *at, const char *end)
{
	size_t most = (size_t)(end - at) / sizeof(struct btf_type) + 1;

	btf->types = (const struct btf_type **)calloc(most, sizeof(*btf->types));
	if (!btf->types)
		return false;
	btf->count = 1;
	while (at < end) {
		const struct btf_type *type = (const struct btf_type *)(const void *)at;
		size_t bytes = (size_t)(end - at) < sizeof(*type) ? 0 : mapring__type_bytes(type);

		if (bytes == 0 || (size_t)(end - at) < bytes)
			return false;
		btf->types[btf->count++] = type;
		at += bytes;
	}
	return true;
}

/* Indexes types, whose bytes it owns from now on. Returns false, with errno, on failure. */
static inline bool mapring__btf_index(struct mapring__btf *btf, char *raw, size_t bytes)
{
	const struct btf_header *header = (const struct btf_header *)(const void *)raw;
	uint64_t types, strings;

	memset(btf, 0, sizeof(*btf));
	btf->bytes = raw;
	if (raw && bytes >= sizeof(*header) && header->magic == BTF_MAGIC) {
		types = (uint64_t)header->hdr_len + header->type_off;
		strings = (uint64_t)header->hdr_len + header->str_off;
		if (types % 4 == 0 && types + header->type_len <= bytes && strings + header->str_len <= bytes) {
			btf->strings = raw + strings;
			btf->strings_size = header->str_len;
			if (mapring__index_types(btf, raw + types, raw + types + header->type_len))
				return true;
		}
	}
	mapring__btf_close(btf);
	errno = errno ? errno : EINVAL;
	return false;
}

/* Gets and indexes the types with this id. Returns false, with errno, on failure. */
static inline bool mapring__btf_open(struct mapring__btf *btf, uint32_t id)
{
	int fd = mapring__open_btf(id);
	size_t bytes = 0;
	char *raw;

	memset(btf, 0, sizeof(*btf));
	if (fd < 0)
		return false;
	errno = 0;
	raw = mapring__read_btf(fd, &bytes);
	close(fd);
	return mapring__btf_index(btf, raw, bytes);
}

/* A type; NULL for an unknown id. */
static inline const struct btf_type *mapring__type(const struct mapring__btf *btf, uint32_t id)
{
	return id < btf->count ? btf->types[id] : NULL;
}

/* The buffer ends with a zero byte that is not the kernel's. */
static inline const char *mapring__string(const struct mapring__btf *btf, uint32_t offset)
{
	return offset < btf->strings_size ? btf->strings + offset : "";
}

/* The type after typedefs and qualifiers. */
static inline const struct btf_type *mapring__resolve(const struct mapring__btf *btf, uint32_t id)
{
	for (int steps = 0; steps < 32; steps++) {
		const struct btf_type *type = mapring__type(btf, id);

		if (!type)
			return NULL;
		switch (mapring__type_kind(type)) {
		case BTF_KIND_TYPEDEF:
		case BTF_KIND_CONST:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_RESTRICT:
		case MAPRING__TYPE_TAG:
			id = type->type;
			break;
		default:
			return type;
		}
	}
	return NULL;
}

static inline const struct btf_array *mapring__array(const struct mapring__btf *btf, uint32_t id)
{
	const struct btf_type *type = mapring__resolve(btf, id);

	if (!type || mapring__type_kind(type) != BTF_KIND_ARRAY)
		return NULL;
	return (const struct btf_array *)(const void *)(type + 1);
}

/* Bytes of a type; 0 if it has no size. */
static inline uint64_t mapring__type_size(const struct mapring__btf *btf, uint32_t id)
{
	uint64_t times = 1;

	for (int depth = 0; depth < 32; depth++) {
		const struct btf_array *array = mapring__array(btf, id);
		const struct btf_type *type = mapring__resolve(btf, id);

		if (!type)
			return 0;
		switch (mapring__type_kind(type)) {
		case BTF_KIND_ARRAY:
			times *= array->nelems;
			id = array->type;
			break;
		case BTF_KIND_PTR:
			return times * 8;
		case BTF_KIND_INT:
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
		case BTF_KIND_ENUM:
		case MAPRING__FLOAT:
		case MAPRING__ENUM64:
			return times * type->size;
		default:
			return 0;
		}
	}
	return 0;
}

/* The type of a struct's member: 0 if it has no such member. */
static inline uint32_t mapring__member(const struct mapring__btf *btf, const struct btf_type *type, const char *name)
{
	const struct btf_member *members = (const struct btf_member *)(const void *)(type + 1);

	if (mapring__type_kind(type) != BTF_KIND_STRUCT)
		return 0;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(type->info); i++)
		if (strcmp(mapring__string(btf, members[i].name_off), name) == 0)
			return members[i].type;
	return 0;
}

/* The type and offset of a variable in a DATASEC; the type is 0 if the variable is missing. */
static inline uint32_t mapring__variable(const struct mapring__btf *btf, const struct btf_type *section, const char *name,
					 uint32_t *offset)
{
	const struct btf_var_secinfo *places = (const struct btf_var_secinfo *)(const void *)(section + 1);

	if (mapring__type_kind(section) != BTF_KIND_DATASEC)
		return 0;
	for (uint32_t i = 0; i < BTF_INFO_VLEN(section->info); i++) {
		const struct btf_type *variable = mapring__type(btf, places[i].type);

		if (variable && mapring__type_kind(variable) == BTF_KIND_VAR &&
		    strcmp(mapring__string(btf, variable->name_off), name) == 0) {
			*offset = places[i].offset;
			return variable->type;
		}
	}
	return 0;
}

/* The inner length of a member such as `__u8 mapring_any[0][length]`; 0 without such a member. */
static inline uint64_t mapring__inner_length(const struct mapring__btf *btf, const struct btf_type *type, const char *name)
{
	const struct btf_array *array = mapring__array(btf, mapring__member(btf, type, name));

	return array ? mapring__type_size(btf, array->type) : 0;
}

/* The type of a region's record: 0 without one. */
static inline uint32_t mapring__record_type(const struct mapring__btf *btf, const struct btf_type *type, uint64_t options)
{
	if (options & MAPRING_OPTION_TAILS) {
		const struct btf_array *slots = mapring__array(btf, mapring__member(btf, type, "slot"));

		type = slots ? mapring__resolve(btf, slots->type) : NULL;
	}
	return type ? mapring__member(btf, type, "record") : 0;
}

/* Reads the description of a region with one shard from the type of its values: docs/abi.md, "Maps without a preamble".
 * Returns false if they are not mapring's. */
static inline bool mapring__describe(struct mapring_layout *l, const struct mapring__btf *btf, uint32_t type_id)
{
	static const char *const PREFIXES[] = {
		"", "ring__", "cell__", "counters__", "latch__", "percpu_cell__", "percpu_counters__",
		"histograms__", "gauges__", "readers__", "commands__", "top__",
	};
	const struct btf_type *type = mapring__resolve(btf, type_id);
	const char *name = type ? mapring__string(btf, type->name_off) : "";

	memset(l, 0, sizeof(*l));
	for (uint64_t kind = MAPRING_KIND_RING; kind <= MAPRING_KIND_TOP_KEYS; kind++)
		if (strncmp(name, "mapring_", 8) == 0 && strncmp(name + 8, PREFIXES[kind], strlen(PREFIXES[kind])) == 0)
			l->kind = kind;
	if (l->kind == 0)
		return false;
	l->shards = 1;
	l->capacity = mapring__inner_length(btf, type, "mapring_any");
	if (l->capacity == 0)
		l->capacity = mapring__inner_length(btf, type, "mapring_tso");
	l->options = mapring__inner_length(btf, type, "mapring_options");
	l->record = mapring__of_bank(l);
	if (l->kind == MAPRING_KIND_TOP_KEYS)
		l->record = MAPRING__BUCKET_BYTES;
	if (l->record == 0)
		l->record = mapring__type_size(btf, mapring__record_type(btf, type, l->options));
	if (l->options & MAPRING_OPTION_TAILS) {
		l->longest = mapring__inner_length(btf, type, "mapring_longest");
		l->area = mapring__inner_length(btf, type, "mapring_tails");
	}
	/* Types of layout version 2 have no such member. */
	return l->kind != MAPRING_KIND_RING || mapring__member(btf, type, "mapring_options") != 0;
}

/* Reads the layout from a map's value type and its number of elements. */
static inline int mapring__layout_of_btf(struct mapring_layout *l, const struct mapring__btf *btf, uint32_t type_id,
					 uint64_t elements)
{
	bool fits;

	if (!mapring__describe(l, btf, type_id))
		return mapring__refuse(EPROTO, l->kind ? "no preamble, and its types are of an older version" :
							 "no preamble, and its types are not mapring's");
	fits = mapring__complete(l) && elements >= l->first;
	if (fits && mapring__is_sharded(l)) {
		uint64_t shard = l->elements - l->first;

		fits = (elements - l->first) % shard == 0;
		l->shards = (elements - l->first) / shard;
	}
	if (fits && mapring__complete(l))
		return 0;
	return mapring__refuse(EPROTO, "types that contradict the map: leave max_entries to mapring's macros and the loader");
}

#endif
