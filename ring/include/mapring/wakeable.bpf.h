/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring that wakes readers which sleep. It is like ring.bpf.h, but the ends of a record name the ring:
 *
 *	MAPRING_WAKEABLE_RING(events, struct event, 4096);	// slots per CPU
 *
 *	struct event *e = mapring_reserve(&events);
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit(&events, e);			// or mapring_discard(&events, e)
 *	}
 *	mapring_output(&events, &ready);			// as for MAPRING_RING
 *
 * A program wakes a reader once for each time that it sleeps, not once for each record. It looks for readers that sleep
 * as often as their watermarks ask for (Reader::with_watermark), at every record if one has none: this costs a full
 * barrier, which takes as long as the rest. Any other record costs a few loads more than in an ordinary ring.
 *
 * Besides `events` it declares the maps `events__readers` (which readers sleep, and until when) and `events__bells`
 * (a BPF ringbuf for each reader, by which programs wake it). The loader links the three (mapring::loader::initialize).
 *
 * keep_oldest.bpf.h and wakeable_tails.bpf.h have more sorts of wakeable rings.
 */
#ifndef MAPRING_WAKEABLE_BPF_H
#define MAPRING_WAKEABLE_BPF_H

#include <mapring/detail/readers.bpf.h>

#define MAPRING_WAKEABLE_RING(name, record_type, slots) \
	MAPRING__RING(name, record_type, slots)         \
	MAPRING__READERS_MAPS(name)                     \
	MAPRING__WAKING_ENDS(name, record_type)

#endif
