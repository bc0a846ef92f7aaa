/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Records that contain their writer and show whether they are whole, as in src/records.rs. */
#ifndef NUMBERED_H
#define NUMBERED_H

struct numbered {
	__u64 writer, number, copies[4];
};

static __always_inline void fill(struct numbered *record, __u64 writer, __u64 number)
{
	record->writer = writer;
	record->number = number;
	for (int i = 0; i < 4; i++)
		record->copies[i] = writer << 32 ^ number;
}

#endif
