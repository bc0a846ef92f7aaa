/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whether a map holds what an object declares. Programs write a map by what their object says. */
#ifndef MAPRING_C_FITS_H
#define MAPRING_C_FITS_H

/* A region that an object declares: its map, and its layout with a shard for each possible CPU. */
struct mapring__declared {
	const char *name;
	uint32_t value; /* the type of its values, or 0 */
	bool is_ours;
	struct bpf_map *map;
	struct mapring_layout layout;
};

/* The next type of two that are compared, with its members. The budget bounds types that nest without an end. */
static inline bool mapring__alike(const struct mapring__btf *a, uint32_t a_id, const struct mapring__btf *b, uint32_t b_id, int depth,
				  uint32_t *budget)
{
	const struct btf_type *x = mapring__resolve(a, a_id), *y = mapring__resolve(b, b_id);
	uint32_t kind = x ? mapring__type_kind(x) : 0;

	if (!x || !y)
		return x == y;
	if (depth == 0 || *budget == 0 || --*budget == 0 || kind != mapring__type_kind(y) || mapring__type_size(a, a_id) != mapring__type_size(b, b_id))
		return false;
	if (kind == BTF_KIND_INT) /* sign, offset and bits */
		return *(const uint32_t *)(x + 1) == *(const uint32_t *)(y + 1);
	if (kind == BTF_KIND_ARRAY) {
		const struct btf_array *p = mapring__array(a, a_id), *q = mapring__array(b, b_id);

		return p->nelems == q->nelems && mapring__alike(a, p->type, b, q->type, depth - 1, budget);
	}
	if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION) {
		const struct btf_member *p = (const struct btf_member *)(const void *)(x + 1);
		const struct btf_member *q = (const struct btf_member *)(const void *)(y + 1);

		if (BTF_INFO_VLEN(x->info) != BTF_INFO_VLEN(y->info))
			return false;
		for (uint32_t i = 0; i < BTF_INFO_VLEN(x->info); i++)
			if (p[i].offset != q[i].offset ||
			    strcmp(mapring__string(a, p[i].name_off), mapring__string(b, q[i].name_off)) != 0 ||
			    !mapring__alike(a, p[i].type, b, q[i].type, depth - 1, budget))
				return false;
	}
	if (kind == BTF_KIND_ENUM) {
		const struct btf_enum *p = (const struct btf_enum *)(const void *)(x + 1);
		const struct btf_enum *q = (const struct btf_enum *)(const void *)(y + 1);

		/* The declared one may have more constants. */
		for (uint32_t i = 0; i < BTF_INFO_VLEN(x->info); i++) {
			bool known = false;

			for (uint32_t at = 0; at < BTF_INFO_VLEN(y->info) && !known && *budget > 0 && --*budget > 0; at++)
				known = p[i].val == q[at].val &&
					strcmp(mapring__string(a, p[i].name_off), mapring__string(b, q[at].name_off)) == 0;
			if (!known)
				return false;
		}
	}
	return true;
}

/* Compares the fields of records, if this process may read the map's types. */
static inline int mapring__records_alike(const struct mapring__btf *btf, const struct mapring__declared *declared, int fd)
{
	struct bpf_map_info info;
	struct mapring__btf found;
	uint32_t budget = 1 << 16;
	bool alike = true;

	if (mapring__map_info(fd, &info) != 0 || info.btf_id == 0 || !mapring__btf_open(&found, info.btf_id))
		return 0;
	if (mapring__type(&found, info.btf_value_type_id))
		alike = mapring__alike(
			&found, mapring__record_type(&found, mapring__resolve(&found, info.btf_value_type_id), declared->layout.options),
			btf, mapring__record_type(btf, mapring__resolve(btf, declared->value), declared->layout.options), 32, &budget);
	mapring__btf_close(&found);
	return alike ? 0 : mapring__refuse(EMEDIUMTYPE, "%s: its records have other fields than this object declares", declared->name);
}

/* Refuses a map that holds another region than the one declared. */
static inline int mapring__fits(const struct mapring__btf *btf, const struct mapring__declared *declared, int fd)
{
	const struct mapring_layout *l = &declared->layout, *f;
	struct mapring_region found;
	bool any_slots = l->options & MAPRING_OPTION_RESIZABLE;
	struct bpf_map_info info;
	int error;

	if (mapring__map_info(fd, &info) != 0)
		return mapring__failed(declared->name);
	error = mapring__region_of_fd(&found, fcntl(fd, F_DUPFD_CLOEXEC, 0), MAPRING_LOOKUP);
	if (error == -EOPNOTSUPP)
		error = mapring__region_of_fd(&found, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0); /* with tails: mapped */
	if (error == -EPERM || error == -EACCES) {
		/* Neither a preamble nor types: only the kernel says what it is. */
		if (info.value_size == l->size && (any_slots || info.max_entries == l->elements))
			return 0;
		return mapring__refuse(EMEDIUMTYPE, "%s: %u elements of %u bytes, this object declares %llu of %llu", declared->name,
				       info.max_entries, info.value_size, (unsigned long long)l->elements, (unsigned long long)l->size);
	}
	if (error)
		return mapring__refuse(EMEDIUMTYPE, "%s: not the region that this object declares", declared->name);
	f = &found.layout;
	if (f->kind != l->kind || f->options != l->options || f->record != l->record || f->longest != l->longest ||
	    f->area != l->area || f->shards != l->shards || (!any_slots && f->capacity != l->capacity))
		error = mapring__refuse(EMEDIUMTYPE,
					"%s: kind %llu with options %llu, %llu × %llu bytes in %llu shards; this object declares "
					"kind %llu with options %llu, %llu × %llu bytes in %llu shards",
					declared->name, (unsigned long long)f->kind, (unsigned long long)f->options,
					(unsigned long long)f->capacity, (unsigned long long)f->record, (unsigned long long)f->shards,
					(unsigned long long)l->kind, (unsigned long long)l->options, (unsigned long long)l->capacity,
					(unsigned long long)l->record, (unsigned long long)l->shards);
	else if (any_slots && mapring__word(&found, 0, 0) != 0 && (mapring__word(&found, 0, MAPRING__GATE) & 0x100ff) != 1)
		error = mapring__refuse(EMEDIUMTYPE, "%s: another ring has replaced it, or was to", declared->name);
	mapring__region_close(&found);
	return error ? error : mapring__records_alike(btf, declared, fd);
}

#endif
