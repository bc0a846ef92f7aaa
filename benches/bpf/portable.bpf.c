// SPDX-License-Identifier: MIT OR Apache-2.0
/* Producing as on machines that do not keep stores in order: published by an exchange. */
#undef __TARGET_ARCH_x86
#include "producers.h"

PRODUCER(produce_portable, mapring_one)
PRODUCER(produce_portable_call, mapring_call)
