// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program with a known chain of calls. Without libc in the innermost function: that has no frame pointers. */
#include <sys/syscall.h>
static long wait_for_input(void) {
    char byte;
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(SYS_read), "D"(0), "S"(&byte), "d"(1) : "rcx", "r11", "memory");
    return result;
#else
    register long result __asm__("x0") = 0;
    register long to __asm__("x1") = (long)&byte;
    register long size __asm__("x2") = 1;
    register long number __asm__("x8") = SYS_read;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(to), "r"(size), "r"(number) : "memory");
    return result;
#endif
}
static volatile unsigned long turns;
__attribute__((noinline)) long spin(void) { for (;;) turns++; }
__attribute__((noinline)) long waits(void) { return wait_for_input() + turns; }
__attribute__((noinline)) long deep(long n) { return (n ? deep(n - 1) : waits()) + turns; }
__attribute__((noinline)) long middle(char what) { return (what == 's' ? spin() : what == 'd' ? deep(300) : waits()) + turns; }
__attribute__((noinline)) long outer(char what) { return middle(what) + turns; }
int main(int argc, char **argv) { return outer(argv[argc - 1][0]) < 0; }
