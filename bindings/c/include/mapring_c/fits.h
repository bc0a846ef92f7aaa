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

/* What a user does about a map that is refused. */
#define MAPRING__REMEDY "remove the pin, or pin with MAPRING_PIN_REPLACE"

/* What bounds a comparison of types that nest without an end, and the innermost field that differs, or NULL. */
struct mapring__compared {
	uint32_t budget;
	const char *field;
};

/* The next type of two that are compared, with its members. */
static inline bool mapring__alike(const struct mapring__btf *a, uint32_t a_id, const struct mapring__btf *b, uint32_t b_id, int depth,
				  struct mapring__compared *c)
{
	const struct btf_type *x = mapring__resolve(a, a_id), *y = mapring__resolve(b, b_id);
	uint32_t kind = x ? mapring__type_kind(x) : 0;

	if (!x || !y)
		return x == y;
	if (depth == 0 || c->budget == 0 || --c->budget == 0 || kind != mapring__type_kind(y) || mapring__type_size(a, a_id) != mapring__type_size(b, b_id))
		return false;
	if (kind == BTF_KIND_INT) /* sign, offset and bits */
		return *(const uint32_t *)(x + 1) == *(const uint32_t *)(y + 1);
	if (kind == BTF_KIND_ARRAY) {
		const struct btf_array *p = mapring__array(a, a_id), *q = mapring__array(b, b_id);

		return p->nelems == q->nelems && mapring__alike(a, p->type, b, q->type, depth - 1, c);
	}
	if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION) {
		const struct btf_member *p = (const struct btf_member *)(const void *)(x + 1);
		const struct btf_member *q = (const struct btf_member *)(const void *)(y + 1);

		uint32_t found = BTF_INFO_VLEN(x->info), declared = BTF_INFO_VLEN(y->info);

		for (uint32_t i = 0; i < found || i < declared; i++) {
			if (i < found && i < declared && p[i].offset == q[i].offset &&
			    strcmp(mapring__string(a, p[i].name_off), mapring__string(b, q[i].name_off)) == 0 &&
			    mapring__alike(a, p[i].type, b, q[i].type, depth - 1, c))
				continue;
			if (!c->field)
				c->field = i < found ? mapring__string(a, p[i].name_off) : mapring__string(b, q[i].name_off);
			return false;
		}
	}
	if (kind == BTF_KIND_ENUM) {
		const struct btf_enum *p = (const struct btf_enum *)(const void *)(x + 1);
		const struct btf_enum *q = (const struct btf_enum *)(const void *)(y + 1);

		/* The declared one may have more constants. */
		for (uint32_t i = 0; i < BTF_INFO_VLEN(x->info); i++) {
			bool known = false;

			for (uint32_t at = 0; at < BTF_INFO_VLEN(y->info) && !known && c->budget > 0 && --c->budget > 0; at++)
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
	struct mapring__compared compared = { 1 << 16, NULL };
	struct mapring__btf found;
	int error = 0;

	if (mapring__map_info(fd, &info) != 0 || info.btf_id == 0 || !mapring__btf_open(&found, info.btf_id))
		return 0;
	if (mapring__type(&found, info.btf_value_type_id) &&
	    !mapring__alike(
		    &found, mapring__record_type(&found, mapring__resolve(&found, info.btf_value_type_id), declared->layout.options),
		    btf, mapring__record_type(btf, mapring__resolve(btf, declared->value), declared->layout.options), 32, &compared))
		error = mapring__refuse(EMEDIUMTYPE, "%s: its records have other fields than this object declares%s%.64s: " MAPRING__REMEDY,
					declared->name, compared.field ? ", the first is " : "", compared.field ? compared.field : "");
	mapring__btf_close(&found);
	return error;
}

/* A layout in words. */
static inline const char *mapring__layout_text(const struct mapring_layout *l, char text[256])
{
	static const char *const OPTIONS[] = { "WAKEABLE", "KEEP_OLDEST", "PER_CPU_MAPS", "RESIZABLE", "TAILS" };
	static const uint64_t BITS[] = { MAPRING_OPTION_WAKEABLE, MAPRING_OPTION_KEEP_OLDEST, MAPRING_OPTION_PER_CPU_MAPS,
					 MAPRING_OPTION_RESIZABLE, MAPRING_OPTION_TAILS };
	int length = snprintf(text, 256, "%s, %llu × %llu bytes in %llu shard%s", mapring__kind_name(l->kind),
			      (unsigned long long)l->capacity, (unsigned long long)l->record, (unsigned long long)l->shards,
			      l->shards == 1 ? "" : "s");

	/* KEEP_OLDEST includes WAKEABLE. */
	for (int i = 0; i < 5; i++)
		if (l->options & BITS[i] && !(i == 0 && l->options & MAPRING_OPTION_KEEP_OLDEST))
			length += snprintf(text + length, 256 - (size_t)length, ", %s", OPTIONS[i]);
	if (l->options & MAPRING_OPTION_TAILS)
		snprintf(text + length, 256 - (size_t)length, "(%llu, %llu)", (unsigned long long)l->longest,
			 (unsigned long long)l->area);
	return text;
}

/* Refuses a map that holds another region than the one declared. */
static inline int mapring__fits(const struct mapring__btf *btf, const struct mapring__declared *declared, int fd)
{
	const struct mapring_layout *l = &declared->layout, *f;
	struct mapring_region found;
	bool any_slots = l->options & MAPRING_OPTION_RESIZABLE;
	char texts[2][256];
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
		return mapring__refuse(EMEDIUMTYPE, "%s: %u elements of %u bytes, this object declares %llu of %llu: " MAPRING__REMEDY,
				       declared->name, info.max_entries, info.value_size, (unsigned long long)l->elements, (unsigned long long)l->size);
	}
	if (error)
		return mapring__refuse(EMEDIUMTYPE, "%s: not the region that this object declares: " MAPRING__REMEDY, declared->name);
	f = &found.layout;
	if (f->kind != l->kind || f->options != l->options || f->record != l->record || f->longest != l->longest ||
	    f->area != l->area || f->shards != l->shards || (!any_slots && f->capacity != l->capacity))
		error = mapring__refuse(EMEDIUMTYPE, "%s: the map holds %s; this object declares %s: " MAPRING__REMEDY, declared->name,
					mapring__layout_text(f, texts[0]), mapring__layout_text(l, texts[1]));
	else if (any_slots && mapring__word(&found, 0, 0) != 0 && (mapring__word(&found, 0, MAPRING__GATE) & 0x100ff) != 1)
		error = mapring__refuse(EMEDIUMTYPE, "%s: another ring has replaced it, or was to: " MAPRING__REMEDY, declared->name);
	mapring__region_close(&found);
	return error ? error : mapring__records_alike(btf, declared, fd);
}

#endif
