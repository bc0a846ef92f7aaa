"""Measures what read_numpy, and events with one field, cost for each 56-byte record, beside the copy of a reader in Rust. Prints; no number can fail it."""

import os
import time

import mapring

SLOTS, BATCH, ROUNDS = 65536, 4096, 100


def test_speed(memory, capsys):
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # all read from the same caches
    producer = memory(SLOTS)
    in_rust = memory("read", producer.line)
    rust, array, objects = [], [], []
    arrays, events = (mapring.open(producer.line, dtype=[("n", "u8"), ("words", "u8", 6)]) for _ in range(2))
    for _ in range(ROUNDS):
        producer.do(str(BATCH))
        ns, count = map(int, in_rust.do(str(SLOTS)).split())
        assert count == BATCH
        rust.append(ns / BATCH)
        for times, read in ((array, arrays.read_numpy), (objects, lambda limit: [event.n for event in events.read(limit)])):
            begin = time.perf_counter_ns()
            found = read(SLOTS)
            times.append((time.perf_counter_ns() - begin) / BATCH)
            assert len(found) == BATCH
            del found
    os.sched_setaffinity(0, cpus)
    rust, array, objects = (sorted(times)[ROUNDS // 2] for times in (rust, array, objects))
    with capsys.disabled():
        print(f"\na record: Rust's for_each and a copy {rust:.1f} ns, read_numpy {array:.1f} ns ({array / rust:.1f}x), events {objects:.0f} ns")
