// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces as on machines that do not keep stores in order: publishes by an exchange. */
#undef __TARGET_ARCH_x86
#include "producers.h"

PRODUCER(produce_portable, mapring_one)
PRODUCER(produce_portable_call, mapring_call)
