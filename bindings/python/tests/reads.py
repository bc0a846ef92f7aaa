"""Reads a ring as user nobody, once stdin has ended, and prints what it found: proofs/kernel/tests/options/languages.rs compares this
with what readers in other languages print."""

import os
import sys
import time

import mapring
import numpy  # nobody might not be allowed to import it later

NOBODY = 65534
COUNTS = ["delivered", "lapped", "skipped", "tail_lost", "discarded", "stepped_over", "no_slot", "full", "no_shard", "no_tail", "too_long"]


def main(pin, how=None):
    if how != "types":
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    dtype = numpy.dtype([(name, "u8") for name in ["n", "twice"] + ["more"] * (how == "wrong")])
    ring = mapring.open(pin, dtype=dtype, start="oldest" if how == "oldest" else "first")
    if how == "require":
        return ring.require(3600)
    print(ring.access, flush=True)
    sys.stdin.read()
    empty = 0
    while empty < 64:  # a record that was not ended holds back later ones, for some passes and 10 ms
        events = ring.read()
        for event in events:
            print("record", event.shard, event.ticket, event.n, event.twice, event.tail.hex())
        empty = 0 if events else empty + 1
        time.sleep(0.001)
        ring.wait(0)  # so that the next read looks past it
    stats = ring.stats()
    print(*(f"{name} {getattr(stats, name)}" for name in COUNTS))


try:
    main(*sys.argv[1:])
except (mapring.Error, ValueError) as error:
    sys.exit(str(error))
