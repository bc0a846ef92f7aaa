/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Loads switches.bpf.c, which records each context switch, and prints the records of all CPUs in the order of time. The second run
 * begins with what the kernel has recorded since the first one. docs/c.md says how to build it.
 */
#include <mapring_loader.h>

#include "switches.skel.h"

#define PIN "/sys/fs/bpf/switches"

struct switch_event { uint64_t ns; uint32_t pid, cpu; char comm[16]; };

static uint64_t stamp(const void *record)
{
	return ((const struct switch_event *)record)->ns;
}

static int print(void *unused, const struct mapring_event *event)
{
	const struct switch_event *e = (const struct switch_event *)event->record;

	(void)unused;
	printf("%llu cpu %u pid %u %.16s\n", (unsigned long long)e->ns, e->cpu, e->pid, e->comm);
	return 0;
}

/* Uses the ring that an earlier run has pinned, if it fits; otherwise a new one takes its place. */
static int load(struct switches *skel)
{
	int error = mapring_loader__reuse(skel->obj, "switches", PIN);

	if (error == -EMEDIUMTYPE)
		fprintf(stderr, "%s\n", mapring_error());
	else if (error < 0)
		return error;
	error = mapring_loader__prepare(skel->obj, NULL);
	if (!error && switches__load(skel) != 0)
		return -1;
	if (!error)
		error = mapring_loader__initialize(skel->obj);
	return error ? error : mapring_loader__pin(skel->obj, "switches", PIN, 0600, MAPRING_PIN_REPLACE);
}

int main(void)
{
	struct mapring_reader_opts opts = { .stamp = stamp };
	struct switches *skel = switches__open();
	struct mapring_reader *reader = NULL;
	struct mapring_stats stats;
	long found = 0;

	if (!skel || load(skel) != 0 || switches__attach(skel) != 0) {
		fprintf(stderr, "not loaded: %s\n", mapring_error()); /* or see what libbpf says */
		return 1;
	}
	reader = mapring_reader__open_fd(bpf_map__fd(skel->maps.switches), &opts);
	for (int i = 0; reader && (found >= 0 || found == -EINTR) && i < 1000; i++) /* -EINTR: a signal */
		found = mapring_reader__poll(reader, 1000, sizeof(struct switch_event), print, NULL);
	if (!reader || (found < 0 && found != -EINTR) || mapring_reader__stats(reader, &stats) < 0) {
		fprintf(stderr, "%s\n", mapring_error());
		return 1;
	}
	printf("%llu delivered, %llu lost, %llu late\n", (unsigned long long)stats.delivered,
	       (unsigned long long)(stats.lapped + stats.skipped), (unsigned long long)stats.late);
	mapring_reader__free(reader);
	switches__destroy(skel);
	return 0;
}
