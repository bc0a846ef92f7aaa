/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The numbers of the layout. Written by ring/core/tests/numbers: do not edit. */
#ifndef MAPRING_NUMBERS_BPF_H
#define MAPRING_NUMBERS_BPF_H

/* Words of the preamble. */
#define MAPRING__DROPPED 12 /* counts writes that went nowhere */

/* Words of the header of a shard. */
#define MAPRING__PROGRAM_GATE 3 /* the gate for programs of a resizable ring */
#define MAPRING__LIMIT 4 /* programs claim tickets before this one without checking the readers */
#define MAPRING__FULL 5 /* counts records that were dropped because of a required reader */
#define MAPRING__DROPS_SINCE 6 /* when the latest spell of drops began */
#define MAPRING__DROPS_UNTIL 7 /* when the last record was dropped */

/* Words of the header for tails. */
#define MAPRING__TAIL_NEXT 0 /* the next position to claim, in bytes */
#define MAPRING__TAIL_HIGH 1 /* no byte at or beyond this position was ever written */
#define MAPRING__TAIL_GRANTED 2 /* no writer may write at or beyond this position yet */
#define MAPRING__TAIL_NO_SPACE 3 /* counts records without space for a tail */
#define MAPRING__TAIL_TOO_LONG 4 /* counts tails that were longer than the longest */
#define MAPRING__TAIL_BESIDE 5 /* positions before this one were claimed beside NEXT or stepped over */
#define MAPRING__TAIL_READ 6 /* required readers have read all records with tails before this position */
#define MAPRING__TAIL_MARK 7 /* a position, and a ticket that records with tails before it precede */
#define MAPRING__TAIL_ENDED 8 /* 1 + the newest ticket that has ended */
#define MAPRING__TAIL_STEPPED 9 /* what was claimed before this position and not granted then is void */
#define MAPRING__TAIL_ACTIVE 16 /* the first word with the position of a writer, plus 1 */

/* Words of the map of readers. */
#define MAPRING__ASLEEP 16 /* a bit for each reader that sleeps */
#define MAPRING__REQUIRED 17 /* a bit for each reader that is required */
#define MAPRING__LOOK 18 /* the bits of a ticket at which programs look for readers that sleep */
#define MAPRING__IDLE_SINCE 19 /* since when no reader has said that it sleeps */

/* Elements of the map of readers. */
#define MAPRING__LEASES 2 /* each reader's lease */
#define MAPRING__WAKE_AT 4 /* of shard 0: 1 + the ticket until which each reader sleeps */
#define MAPRING__POSITIONS 5 /* of shard 0: the next ticket of each required reader */
#define MAPRING__HELD 6 /* of shard 0: since when each reader has held programs back */
#define MAPRING__OF_SHARD 3 /* the number for each shard */

/* Readers. */
#define MAPRING__SEATS 64 /* readers that can have a seat, and words of an element */
#define MAPRING__IDLE 10000000000ULL /* after so many nanoseconds without a sleep programs stop looking */

/* Words of the header of commands. */
#define MAPRING__PUSHED 0 /* the commands that were pushed */
#define MAPRING__APPLIED 1 /* the commands that were carried out or skipped */
#define MAPRING__LOCK 2 /* 1 while a program carries out commands */
#define MAPRING__SKIPPED 3 /* counts words that no owner writes */

/* Words of a bucket of top keys. */
#define MAPRING__TOP_OTHER 1 /* what is in no count */
#define MAPRING__TOP_KEYS 2 /* the first key */
#define MAPRING__TOP_COUNTS 12 /* the first count */
#define MAPRING__TOP_ERRORS 22 /* the first error */

/* Sequences and heads. */
#define MAPRING__DISCARDED (1ULL << 63) /* in `seq`: the ticket ended without a record */
#define MAPRING__PENDING (1ULL << 63) /* in `head`: a guarded claim is under way */
#define MAPRING__TRIES 6 /* slots that a claim tries */
#define MAPRING__WALK 2 /* slots that a claim tries before it bisects */

/* States of a gate, and bits of its words. */
#define MAPRING__GATE_OPEN 1 /* the ring is in use */

/* Sizes. */
#define MAPRING__LINE 64UL /* bytes of a cache line: the preamble and each shard start on one */
#define MAPRING__PREAMBLE 128UL /* bytes of the preamble */
#define MAPRING__HISTOGRAM_WORDS 512UL /* words from one histogram to the next */
#define MAPRING__HISTOGRAM_BUCKETS 496 /* buckets of a histogram */
#define MAPRING__GAUGE_WORDS 2048UL /* words from one gauge to the next */
#define MAPRING__GAUGE_WINDOWS 1024UL /* windows of a gauge */
#define MAPRING__GAUGE_BITS 36 /* the low bits of a gauge's word, which have the value */
#define MAPRING__GAUGE_MAX 0xfffffffffULL /* the largest value of a gauge */
#define MAPRING__TOP_WAYS 10 /* keys of a bucket */
#define MAPRING__BUCKET_WORDS 32UL /* words of a bucket of top keys */
#define MAPRING__TAIL_ALIGN 16ULL /* the position of a tail is a multiple of so many bytes */
#define MAPRING__TAIL_WRITERS 16 /* writers of a shard between claim and end of a tail */

/* Limits. */
#define MAPRING__SPELL 1000000000LL /* after so many nanoseconds without a drop the next one begins a spell */

/* The options of a ring, as bits in BTF and in the preamble. KEEP_OLDEST wakes its readers, too. */
#define MAPRING__OPTION_ 0
#define MAPRING__OPTION_WAKEABLE 1
#define MAPRING__OPTION_KEEP_OLDEST 3
#define MAPRING__OPTION_TAILS(longest, bytes) 4
#define MAPRING__OPTION_PER_CPU_MAPS 8
#define MAPRING__OPTION_RESIZABLE 16

#endif
