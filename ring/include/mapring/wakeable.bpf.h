/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring whose programs wake sleeping readers. It is like ring.bpf.h:
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
 * A program wakes a reader once for each sleep, not once for each record. It checks for sleeping readers as often as
 * their watermarks request (Reader::with_watermark), or at every record if a reader has none. A check costs a full
 * barrier, as much as the rest of the record. Any other record costs a few loads more than in an ordinary ring.
 *
 * Besides `events` it declares the maps `events__readers` (which readers sleep, and until when) and `events__bells`
 * (a BPF ringbuf for each reader, by which programs wake it). The loader links the three (mapring::loader::initialize).
 *
 * keep_oldest.bpf.h and wakeable_tails.bpf.h have more types of wakeable rings.
 */
#ifndef MAPRING_WAKEABLE_BPF_H
#define MAPRING_WAKEABLE_BPF_H

#include <mapring/detail/readers.bpf.h>

#undef MAPRING_WAKEABLE_RING
#define MAPRING_WAKEABLE_RING(name, record_type, slots) \
	MAPRING__RING(name, record_type, slots)         \
	MAPRING__READERS_MAPS(name)                     \
	MAPRING__WAKING_ENDS(name, record_type)

#endif
