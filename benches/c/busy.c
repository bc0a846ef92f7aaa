/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Work for the group `flight`: at the end of a stack, with frame pointers, since recorders find frames by these. */
#include <stdint.h>
#include <unistd.h>

/* So many system calls at this depth, and turns of a loop before each. */
uint64_t bench_busy(uint32_t depth, uint32_t calls, uint64_t turns)
{
	uint64_t sum = depth;

	if (depth > 1)
		sum += bench_busy(depth - 1, calls, turns);
	for (; depth == 1 && calls; calls--) {
		for (uint64_t turn = 0; turn < turns; turn++) {
			sum = sum * 5 + turn;
			__asm__ volatile("" : "+r"(sum));
		}
		sum += getppid();
	}
	__asm__ volatile("" : "+r"(sum)); /* after the call, which is not the last thing to do */
	return sum;
}
