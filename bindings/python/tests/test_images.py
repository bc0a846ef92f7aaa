"""The golden images of proofs/images: every kind of region and every set of options, read without BPF and without privilege."""

import fcntl
import json
import os
import pathlib
import time

import numpy
import pytest

import mapring

IMAGES = sorted((pathlib.Path(__file__).parents[3] / "proofs/images").glob("*.bin"))
KINDS = {"Cells": "cells", "Latches": "latches"}
ADD_SEALS, SHRINK, GROW = 1033, 2, 4
STAMPED = numpy.dtype([("stamp", "u8"), ("n", "u8")])
PASSED = ("delivered", "lapped", "skipped", "tail_lost", "discarded", "stepped_over")


@pytest.fixture
def memory():
    """Makes a sealed memory file with these bytes."""
    made = []

    def make(content):
        made.append(os.memfd_create("image", os.MFD_ALLOW_SEALING))
        assert os.write(made[-1], content) == len(content)
        fcntl.fcntl(made[-1], ADD_SEALS, SHRINK | GROW)
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


def test_there_are_images():
    assert len(IMAGES) > 60


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_reads_as_the_file_beside_it_says(path, memory):
    want = json.loads(path.with_suffix(".json").read_text())
    fd = memory(path.read_bytes())
    if "error" in want or want["kind"] == "readers":
        with pytest.raises(mapring.Error) as refused:
            mapring.open(fd)
        assert refused.value.kind == want.get("error", "WrongType")
        assert want.get("text", "readers") in str(refused.value)
        return
    found = {"ring": ring, "cells": values, "latches": values, "counters": counters, "histograms": histograms, "gauges": gauges,
             "top keys": top_keys, "commands": commands}[want["kind"]](fd, want)
    # These Python does not show of all kinds.
    shown = {name: value for name, value in want.items() if name in found}
    hidden = set(want) - set(found)
    assert found == shown and hidden <= {"kind", "options", "record", "capacity", "shards", "dropped"}


def read_all(reader, passed):
    """Reads until so many tickets are passed, and three times more."""
    events, more, end = [], 3, time.monotonic() + 5
    while more:
        new = reader.read()
        events += new
        if not new and (sum(getattr(reader.stats(), name) for name in PASSED) >= passed or time.monotonic() > end):
            more -= 1
    return events


def ring(fd, want):
    found = {"kind": "ring", "reads": []}
    for read in want["reads"]:
        reader = mapring.open(fd, start=read["start"])
        reader.set_patience(0)
        events = read_all(reader, sum(read["counts"][name] for name in PASSED))
        events.sort(key=lambda event: event.shard)  # there is no order between shards
        stats = reader.stats()
        found["reads"].append({
            "start": read["start"],
            "counts": {name: getattr(stats, name) for name in read["counts"]},
            "unended": [[it.shard, it.ticket] for it in reader.unended()],
            "records": [{"shard": it.shard, "ticket": it.ticket, "record": it.raw.hex(), "tail": it.tail.hex()} for it in events],
        })
    prefix = 16 if "TAILS" in reader.options else 0
    found.update(options=reader.options, record=reader.record_size + prefix, capacity=reader.slots, shards=reader.shards)
    if "merged" in want:
        merged = mapring.open(fd, dtype=STAMPED).merged("stamp")
        merged.set_patience(0)
        found["merged"] = [[it.shard, it.ticket] for it in read_all(merged, len(want["merged"]))]
    return found


def values(fd, want):
    cells = mapring.open(fd)
    found = {"kind": KINDS[cells.kind], "capacity": len(cells), "values": []}
    for index in range(len(cells)):
        try:
            ((_, version, record),) = cells.snapshots(index)
            found["values"].append({"version": version, "value": record.raw.hex()})
        except mapring.Error as e:
            assert e.kind == "Busy"
            found["values"].append({"busy": True})
    if "dropped" in want:
        found["dropped"] = cells.dropped
    return found


def counters(fd, want):
    found = mapring.open(fd)
    banks = [[found.get(shard, index) for index in range(len(found))] for shard in range(found.shards)]
    assert found.sums() == [found[index] for index in range(len(found))]
    return {"capacity": len(found), "shards": found.shards, "counters": banks, "sums": found.sums()}


def histograms(fd, want):
    found = mapring.open(fd)
    buckets = [[list(bucket) for bucket in found[index].buckets()] for index in range(len(found))]
    return {"capacity": len(found), "shards": found.shards, "histograms": buckets}


def gauges(fd, want):
    found = mapring.open(fd)
    return {"capacity": len(found), "gauges": [[[ns >> 20, least, most] for ns, least, most in found[at]] for at in range(len(found))]}


def top_keys(fd, want):
    try:
        keys, unlisted, total = mapring.open(fd).ranking(1 << 20)
    except mapring.Error as e:
        return {"busy": e.kind == "Busy"}
    return {"keys": [[key, count - error, count] for key, count, error in keys], "unlisted": unlisted, "total": total}


def commands(fd, want):
    found = mapring.open(fd)
    counts = {"pushed": found.pushed, "applied": found.acknowledged, "skipped": found.skipped}
    assert found.owner is None
    return {"capacity": found.slots, **counts}
