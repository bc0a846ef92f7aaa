/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Prints the records of any ring, as they come, in hexadecimal: of a pin, or of a memfd in /proc.
 *
 *	cc -o read read.c $(pkg-config --cflags mapring)
 *	./read /sys/fs/bpf/switches
 */
#include <mapring.h>

static int print(void *reader, const struct mapring_event *event)
{
	const unsigned char *bytes = (const unsigned char *)event->record;

	printf("%u %llu ", event->shard, (unsigned long long)event->ticket);
	for (size_t i = 0; i < mapring_reader__record((const struct mapring_reader *)reader); i++)
		printf("%02x", bytes[i]);
	if (event->tail)
		printf(" and %zu bytes", event->tail_length);
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	struct mapring_reader *reader = argc == 2 ? mapring_reader__open(argv[1], NULL) : NULL;
	struct mapring_stats stats;
	int found;

	if (!reader) {
		fprintf(stderr, "%s\n", argc == 2 ? mapring_error() : "read PIN");
		return 1;
	}
	do {
		found = mapring_reader__wait(reader, 1000);
		if (found > 0 && mapring_reader__for_each(reader, mapring_reader__record(reader), print, reader) < 0)
			fprintf(stderr, "%s\n", mapring_error());
	} while (found > 0 || found == -EINTR); /* a signal ends a wait */
	mapring_reader__stats(reader, &stats);
	printf("%llu delivered, %llu overwritten, %llu dropped\n", (unsigned long long)stats.delivered,
	       (unsigned long long)stats.lapped, (unsigned long long)(stats.no_slot + stats.full + stats.no_shard));
	mapring_reader__free(reader);
	return 0;
}
