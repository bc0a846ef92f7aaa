/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The layout of a map without a preamble: docs/abi.md, "Maps without a preamble". */
#ifndef DESCRIBE_H
#define DESCRIBE_H

#include "btf.h"
#include "layout.h"

/* Reads the layout from a map's value type and its number of elements. Returns NULL, or the reason why they are refused. */
const char *layout_of_btf(struct layout *layout, const struct btf *btf, uint32_t type_id, uint64_t elements);

#endif
