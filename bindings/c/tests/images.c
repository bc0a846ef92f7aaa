/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads the golden images of proofs/images, whose paths are its arguments, and writes what it finds as the JSON beside each has it.
 * Needs neither BPF nor privilege:
 *
 *	cc -I bindings/c/include bindings/c/tests/images.c -o images && ./images proofs/images/?*.bin
 */
#include <mapring.h>

#include <inttypes.h>

/* Passes over a ring: only some of them look past tickets that are not claimed. */
enum { PASSES = 64, COUNTS = 11 };

/* A list of values on lines of their own, which is being written. */
struct list {
	FILE *out;
	int indent, count;
};

static struct list begin(FILE *out, int indent)
{
	struct list list = { out, indent, 0 };

	fputc('[', out);
	return list;
}

/* Begins the line of the next value. */
static FILE *next(struct list *list)
{
	fprintf(list->out, "%s\n%*s", list->count++ ? "," : "", list->indent + 2, "");
	return list->out;
}

static void end(struct list *list)
{
	if (list->count)
		fprintf(list->out, "\n%*s", list->indent, "");
	fputc(']', list->out);
}

static void hex(FILE *out, const void *bytes, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		fprintf(out, "%02x", ((const unsigned char *)bytes)[i]);
}

static void *room(uint64_t bytes)
{
	void *room = calloc(1, bytes ? bytes : 1);

	if (!room)
		abort();
	return room;
}

/* The records of one reader, as text, by shard: there is no order between shards. */
struct found {
	struct mapring_reader *reader;
	struct list lists[2];
	char *texts[2];
	size_t sizes[2];
};

static int add(void *context, const struct mapring_event *event)
{
	struct found *found = (struct found *)context;
	FILE *out = next(&found->lists[event->shard & 1]);

	fprintf(out, "{\"shard\": %" PRIu32 ", \"ticket\": %" PRIu64 ", \"record\": \"", event->shard, event->ticket);
	hex(out, event->record, mapring_reader__record(found->reader));
	fputs("\", \"tail\": \"", out);
	hex(out, event->tail, event->tail_length);
	fputs("\"}", out);
	return 0;
}

static int add_place(void *context, const struct mapring_event *event)
{
	fprintf(next((struct list *)context), "[%" PRIu32 ", %" PRIu64 "]", event->shard, event->ticket);
	return 0;
}

static uint64_t first_word(const void *record)
{
	uint64_t word;

	memcpy(&word, record, sizeof(word));
	return word;
}

static struct mapring_reader *open_ring(int fd, enum mapring_start start, mapring_stamp_fn stamp)
{
	struct mapring_reader_opts opts;

	memset(&opts, 0, sizeof(opts));
	opts.start = start;
	opts.patience_ns = 1;
	opts.stamp = stamp;
	return mapring_reader__open_fd(fd, &opts);
}

/* Reads all that is there. */
static bool read_all(struct mapring_reader *reader, mapring_event_fn add_one, void *context)
{
	bool read = true;

	for (int pass = 0; pass < PASSES && read; pass++) {
		read = mapring_reader__for_each(reader, mapring_reader__record(reader), add_one, context) >= 0;
		mapring__unread_of_all(reader, true);
	}
	return read;
}

static void write_counts(FILE *out, struct mapring_reader *reader)
{
	static const char *const NAMES[COUNTS] = { "delivered", "lapped", "skipped", "tail_lost", "discarded", "stepped_over", "no_slot",
						   "full", "no_shard", "no_tail", "too_long" };
	struct mapring_stats s;

	mapring_reader__stats(reader, &s);
	{
		const uint64_t counts[COUNTS] = { s.delivered, s.lapped, s.skipped, s.tail_lost, s.discarded, s.stepped_over, s.no_slot,
						  s.full, s.no_shard, s.no_tail, s.too_long };

		for (int i = 0; i < COUNTS; i++)
			fprintf(out, "%s\"%s\": %" PRIu64, i ? ", " : "", NAMES[i], counts[i]);
	}
}

static bool one_read(FILE *out, int fd, const char *name, enum mapring_start start)
{
	struct found found;
	struct list all;
	bool read;

	memset(&found, 0, sizeof(found));
	found.reader = open_ring(fd, start, NULL);
	if (!found.reader)
		return false;
	for (int shard = 0; shard < 2; shard++) {
		found.lists[shard].out = open_memstream(&found.texts[shard], &found.sizes[shard]);
		found.lists[shard].indent = 6;
	}
	read = read_all(found.reader, add, &found);
	fprintf(out, "{\n      \"start\": \"%s\",\n      \"counts\": {", name);
	write_counts(out, found.reader);
	fputs("},\n      \"records\": ", out);
	all = begin(out, 6);
	for (int shard = 0; shard < 2; shard++) {
		fclose(found.lists[shard].out);
		fprintf(out, "%s%s", all.count && found.lists[shard].count ? "," : "", found.texts[shard]);
		all.count += found.lists[shard].count;
		free(found.texts[shard]);
	}
	end(&all);
	fputs("\n    }", out);
	mapring_reader__free(found.reader);
	return read;
}

static bool write_ring(FILE *out, int fd, bool merged)
{
	static const struct {
		const char *name;
		enum mapring_start start;
	} STARTS[] = { { "oldest", MAPRING_OLDEST }, { "first", MAPRING_FIRST }, { "now", MAPRING_NOW } };
	struct mapring_reader *reader;
	struct list list;
	bool read = true;

	fputs(",\n  \"reads\": ", out);
	list = begin(out, 2);
	for (int i = 0; i < 3 && read; i++)
		read = one_read(next(&list), fd, STARTS[i].name, STARTS[i].start);
	end(&list);
	if (!read || !merged)
		return read;
	fputs(",\n  \"merged\": ", out);
	list = begin(out, 2);
	reader = open_ring(fd, MAPRING_OLDEST, first_word);
	read = reader && read_all(reader, add_place, &list);
	end(&list);
	mapring_reader__free(reader);
	return read;
}

static void write_values(FILE *out, struct mapring_region *r)
{
	void *value = room(8 * mapring__words_of(r->layout.record));
	struct list list;

	fputs(",\n  \"values\": ", out);
	list = begin(out, 2);
	for (uint64_t i = 0; i < r->layout.capacity; i++) {
		uint64_t version;
		int error = r->layout.kind == MAPRING_KIND_CELLS ? mapring_cell__read(r, 0, i, value, &version) :
								   mapring_latch__read(r, i, value, &version);

		next(&list);
		if (error) {
			fputs(error == -EBUSY ? "{\"busy\": true}" : mapring_error(), out);
			continue;
		}
		fprintf(out, "{\"version\": %" PRIu64 ", \"value\": \"", version);
		hex(out, value, r->layout.record);
		fputs("\"}", out);
	}
	end(&list);
	free(value);
}

static void write_counters(FILE *out, struct mapring_region *r)
{
	struct list list;
	uint64_t value;

	fputs(",\n  \"counters\": ", out);
	list = begin(out, 2);
	for (uint64_t shard = 0; shard < r->layout.shards; shard++) {
		next(&list);
		for (uint64_t i = 0; i < r->layout.capacity; i++) {
			mapring_counter__get(r, shard, i, &value);
			fprintf(out, "%s%" PRIu64, i ? ", " : "[", value);
		}
		fputc(']', out);
	}
	end(&list);
	fputs(",\n  \"sums\": ", out);
	for (uint64_t i = 0; i < r->layout.capacity; i++) {
		mapring_counter__sum(r, i, &value);
		fprintf(out, "%s%" PRIu64, i ? ", " : "[", value);
	}
	fputc(']', out);
}

static void write_histograms(FILE *out, struct mapring_region *r)
{
	struct list list;

	fputs(",\n  \"histograms\": ", out);
	list = begin(out, 2);
	for (uint64_t i = 0; i < r->layout.capacity; i++) {
		struct mapring_histogram h;
		struct list buckets;

		memset(&h, 0, sizeof(h));
		for (uint64_t shard = 0; shard < r->layout.shards; shard++)
			mapring_histogram__add(r, shard, i, &h);
		buckets = begin(next(&list), 4);
		for (uint64_t b = 0; b < MAPRING_BUCKETS; b++)
			if (h.counts[b])
				fprintf(next(&buckets), "[%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", mapring_histogram__first(b),
					mapring_histogram__last(b), h.counts[b]);
		end(&buckets);
	}
	end(&list);
}

/* Puts a window among others in the order of their numbers, or adds it to one with the same number. */
static int merge(struct mapring_window *all, int count, struct mapring_window window)
{
	int at = count;

	while (at > 0 && all[at - 1].number > window.number)
		at--;
	if (at > 0 && all[at - 1].number == window.number) {
		all[at - 1].least = mapring__least(all[at - 1].least, window.least);
		all[at - 1].most = mapring__most(all[at - 1].most, window.most);
		return count;
	}
	memmove(all + at + 1, all + at, (size_t)(count - at) * sizeof(*all));
	all[at] = window;
	return count + 1;
}

static void write_gauges(FILE *out, struct mapring_region *r)
{
	struct mapring_window *one = (struct mapring_window *)room(MAPRING_WINDOWS * sizeof(*one));
	struct mapring_window *all = (struct mapring_window *)room(MAPRING_WINDOWS * sizeof(*all) * (r->layout.shards + 1));
	struct list list;

	fputs(",\n  \"gauges\": ", out);
	list = begin(out, 2);
	for (uint64_t i = 0; i < r->layout.capacity; i++) {
		struct list windows;
		int count = 0;

		for (uint64_t shard = 0; shard < r->layout.shards; shard++) {
			int found = mapring_gauge__read(r, shard, i, one);

			for (int w = 0; w < found; w++)
				count = merge(all, count, one[w]);
		}
		windows = begin(next(&list), 4);
		for (int w = 0; w < count; w++)
			fprintf(next(&windows), "[%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", all[w].number, all[w].least, all[w].most);
		end(&windows);
	}
	end(&list);
	free(one);
	free(all);
}

static void write_commands(FILE *out, struct mapring_region *r)
{
	uint64_t header = mapring__header_at(&r->layout, 0), applied = 0;

	mapring_commands__acknowledged(r, &applied);
	fprintf(out, ",\n  \"pushed\": %" PRIu64 ",\n  \"applied\": %" PRIu64 ",\n  \"skipped\": %" PRIu64,
		mapring__word(r, 0, header + MAPRING__PUSHED), applied, mapring__word(r, 0, header + MAPRING__SKIPPED));
}

static void write_keys(FILE *out, struct mapring_region *r)
{
	struct mapring_key *keys = (struct mapring_key *)room(r->layout.shards * r->layout.capacity * MAPRING_KEYS * sizeof(*keys));
	uint64_t unlisted = 0;
	long count = mapring_top__read(r, keys, &unlisted);
	struct list list;

	if (count < 0) {
		fprintf(out, ",\n  %s", count == -EBUSY ? "\"busy\": true" : mapring_error());
	} else {
		fputs(",\n  \"keys\": ", out);
		list = begin(out, 2);
		for (long i = 0; i < count; i++)
			fprintf(next(&list), "[%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", keys[i].key, keys[i].least, keys[i].most);
		end(&list);
		fprintf(out, ",\n  \"unlisted\": %" PRIu64, unlisted);
	}
	free(keys);
}

static void write_seats(FILE *out, struct mapring_region *r)
{
	struct list list;

	fputs(",\n  \"seats\": ", out);
	list = begin(out, 2);
	for (uint64_t seat = 0; seat < MAPRING__SEATS; seat++) {
		uint64_t owner = mapring__word(r, 0, MAPRING__SEATS * MAPRING__OWNERS + seat);

		if (owner == 0)
			continue;
		fprintf(next(&list), "{\"seat\": %" PRIu64 ", \"pid\": %" PRIu64, seat, owner & ((1 << 22) - 1));
		fprintf(out, ", \"asleep\": %" PRIu64 ", \"required\": %" PRIu64, mapring__word(r, 0, MAPRING__ASLEEP) >> seat & 1,
			mapring__word(r, 0, MAPRING__REQUIRED) >> seat & 1);
		fprintf(out, ", \"lease\": %" PRIu64 ", \"positions\": ", mapring__word(r, 0, MAPRING__SEATS * MAPRING__LEASES + seat));
		for (uint64_t shard = 0; shard < r->layout.shards; shard++)
			fprintf(out, "%s%" PRIu64, shard ? ", " : "[", mapring__word(r, mapring__bank(&r->layout, shard) + 1, seat));
		fputs("]}", out);
	}
	end(&list);
}

static void write_region(FILE *out, struct mapring_region *r, int fd, const char *expected)
{
	const struct mapring_layout *l = &r->layout;
	uint64_t dropped;

	fprintf(out, "{\n  \"kind\": \"%s\",\n  \"options\": \"%s\"", mapring__kind_name(l->kind), mapring__option_names(l->options).text);
	fprintf(out, ",\n  \"record\": %" PRIu64 ",\n  \"capacity\": %" PRIu64 ",\n  \"shards\": %" PRIu64, l->record, l->capacity, l->shards);
	switch (l->kind) {
	case MAPRING_KIND_RING:
		if (!write_ring(out, fd, strstr(expected, "\"merged\"")))
			fputs(mapring_error(), out);
		break;
	case MAPRING_KIND_CELLS:
	case MAPRING_KIND_LATCHES:
		write_values(out, r);
		break;
	case MAPRING_KIND_COUNTERS:
		write_counters(out, r);
		break;
	case MAPRING_KIND_HISTOGRAMS:
		write_histograms(out, r);
		break;
	case MAPRING_KIND_GAUGES:
		write_gauges(out, r);
		break;
	case MAPRING_KIND_COMMANDS:
		write_commands(out, r);
		break;
	case MAPRING_KIND_TOP_KEYS:
		write_keys(out, r);
		break;
	case MAPRING_KIND_READERS:
		write_seats(out, r);
	}
	if (strstr(expected, "\n  \"dropped\"") && mapring_region__dropped(r, &dropped) == 0)
		fprintf(out, ",\n  \"dropped\": %" PRIu64, dropped);
	fputs("\n}\n", out);
}

/* Reads a region, or refuses it. */
static void write_image(FILE *out, int fd, const char *expected)
{
	static const char KEY[] = "\"text\": \"";
	const char *text = strstr(expected, KEY), *line;
	struct mapring_region r;
	int error = mapring__region_of_fd(&r, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0);
	char part[256] = "";

	if (error == 0) {
		write_region(out, &r, fd, expected);
		mapring__region_close(&r);
		return;
	}
	/* A part of the text is enough. The number is the same for all that is no region. */
	if (text)
		sscanf(text + sizeof(KEY) - 1, "%255[^\"]", part);
	if (error != -EPROTO || !text || !strstr(mapring_error(), part)) {
		fprintf(out, "%s (%s)\n", mapring_error(), strerror(-error));
		return;
	}
	line = strstr(expected, "\"error\"");
	fprintf(out, "{\n  %.*s\n  \"text\": \"%s\"\n}\n", line ? (int)strcspn(line, "\n") : 0, line, part);
}

/* The bytes of a file, with a zero behind them. */
static char *contents(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	char *bytes = (char *)room(1 << 20);

	*size = file ? fread(bytes, 1, (1 << 20) - 1, file) : 0;
	if (file)
		fclose(file);
	return bytes;
}

/* Removes the lines that begin like this: readers in C do not have it. */
static void without(char *text, const char *begin)
{
	char *at;

	while ((at = strstr(text, begin))) {
		char *rest = strchr(at + 1, '\n');

		/* The last member has no comma, and takes the one before it. */
		if (rest[-1] != ',' && at > text && at[-1] == ',')
			at--;
		memmove(at, rest, strlen(rest) + 1);
	}
}

static bool reads(const char *path)
{
	size_t size, length, written;
	char *bytes = contents(path, &size), *beside = (char *)room(strlen(path) + 8), *text = NULL, *expected;
	int fd = (int)syscall(SYS_memfd_create, "image", 3u); /* MFD_CLOEXEC and MFD_ALLOW_SEALING */
	FILE *out = open_memstream(&text, &written);
	bool same;

	sprintf(beside, "%.*s.json", (int)(strlen(path) - strlen(".bin")), path);
	expected = contents(beside, &length);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || fcntl(fd, 1033, 6) < 0) /* F_ADD_SEALS: shrink, grow */
		abort();
	without(expected, "\n      \"unended\"");
	without(expected, "\n  \"total\"");
	write_image(out, fd, expected);
	fclose(out);
	same = length > 0 && strcmp(text, expected) == 0;
	if (!same)
		fprintf(stderr, "%s: found\n%s\nexpected\n%s", path, text, expected);
	close(fd);
	free(bytes);
	free(beside);
	free(text);
	free(expected);
	return same;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed += !reads(argv[i]);
	printf("%d images, %d failed\n", argc - 1, failed);
	return failed != 0 || argc < 2;
}
