"""Regions and types that an attacker makes: no crash, no hang, no memory without bound; else `mapring.Error`, in one sentence."""

import ctypes
import mmap
import os
import random
import struct
import subprocess
import sys

import numpy
import pytest

import mapring
from conftest import bpf

#: Kind, bytes of a record, capacity, shards; the longest tail and the area.
REGIONS = [
    "Ring 24 8 2", "Ring 8 1 3", "Ring 4 64 1", "Ring 4088 4 1", "Ring 56 8 2 100 256", "Cells 24 4 1", "Latches 24 4 1", "Counters 8 4 2",
    "Histograms 4096 4 2", "Gauges 16384 4 2", "TopKeys 248 4 2", "Commands 24 8 1",
]
PREAMBLE = 16  # words
KINDS = {
    "Busy", "Contradiction", "Full", "Layout", "NotReadable", "NotWritable", "Open", "OtherWriters", "Preamble", "System", "Untrusted",
    "WrongType",
}


class Memory:
    """The words of an empty region, whose preamble can be put back."""

    def __init__(self, memory, what):
        self.path = memory("empty", *what.split()).line
        self.fd = os.open(self.path, os.O_RDWR)
        self.words = numpy.frombuffer(mmap.mmap(self.fd, os.fstat(self.fd).st_size), "u8")
        self.preamble = self.words[:PREAMBLE].copy()

    def restore(self):
        self.words[:PREAMBLE] = self.preamble

    def as_map(self, flags):
        """A map with the same words."""
        element = int(self.preamble[6])
        count = len(self.words) * 8 // element
        fd, _ = bpf(0, struct.pack("=5I", 2, 4, element, count, flags))
        for index in range(count):
            key = ctypes.create_string_buffer(struct.pack("=I", index))
            value = ctypes.create_string_buffer(self.words.tobytes()[index * element :][:element], element)
            bpf(2, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
        return fd


@pytest.fixture(params=REGIONS)
def forged(memory, request):
    made = Memory(memory, request.param)
    yield made
    os.close(made.fd)


def hostile(chance, count):
    """Words that an attacker would choose."""
    any_word, small = (chance.integers(0, most, count, "u8", endpoint=True) for most in (2**64 - 1, 63))
    return numpy.choose(chance.integers(0, 4, count), [any_word, small, ~small, small | numpy.uint64(1 << 63)])


def refused_or(use):
    """What `use` returns, or None if it was refused."""
    try:
        return use()
    except mapring.Error as e:
        assert e.kind in KINDS and str(e) and "\n" not in str(e), repr(e)


def read_all(source):
    """Reads a region in every way that its kind has. Returns whether it was opened."""
    region = refused_or(lambda: mapring.open(source))
    if isinstance(region, mapring.Ring):
        readers = [region, region.reader("first"), region.reader("now")]
        if region.record_size >= 8:
            dtype = numpy.dtype([("n", "u8"), ("rest", f"V{region.record_size - 8}")])
            readers += [mapring.open(source, dtype=dtype).merged("n", delay=0), mapring.open(source, dtype=dtype)]
            readers[-1].skip_before(1 << 63, "n")
            with mapring.Merged(*(mapring.open(source, dtype=dtype).merged("n", delay=0) for _ in range(2))) as both:
                assert len(both.read(1 << 20)) <= 2 * region.shards * (region.slots + 128) and both.wait(0) in (False, True)
                assert all(ring in (0, 1) and event.n >= 0 for ring, event in both.events(timeout=0))
                assert all(both.stats(ring).delivered >= 0 and str(both.losses(ring)) for ring in (0, 1)) and both.unended(0) is not None
        readers[0].set_patience(0)
        most = region.shards * (region.slots + 16)
        for reader in readers:
            assert len(reader.read(1 << 20)) <= most and len(reader.read_numpy(1 << 20)) <= most and len(reader.newest()) <= region.shards
            assert all(0 <= event.shard < region.shards for event in reader.events(timeout=0)) and len(reader.unended()) <= region.shards
            assert reader.stats().delivered >= 0 and all(str(loss) for loss in reader.losses())
            reader.wait(0), reader.liveness(), reader.stats(0), repr(reader)
    elif isinstance(region, mapring.Cells):
        for index in range(len(region)):
            refused_or(lambda: (region[index], region.snapshots(index)))
        refused_or(region.read_numpy), region.dropped, repr(region)
    elif isinstance(region, mapring.Counters):
        assert len(list(region)) == len(region.sums()) == len(region) and region.get(0, 0) >= 0
    elif isinstance(region, mapring.Histograms):
        for one in region:
            assert len(str(one).splitlines()) <= 65 and len(one.buckets()) < 500
            one.mean, one.percentile(99), one.since(region[0])
    elif isinstance(region, mapring.Gauges):
        assert all(least <= most for gauge in region for _, least, most in gauge)
    elif isinstance(region, mapring.Commands):
        assert region.pushed >= 0 and region.skipped >= 0 and (region.owner is None or region.owner > 0)
        refused_or(region.push), region.wait(1, 0), region.close(), repr(region)
    elif isinstance(region, mapring.TopKeys):
        refused_or(lambda: region.largest(1 << 40))
    return region is not None


def test_forged_memory(forged):
    chance = numpy.random.default_rng(7)
    opened = 0
    for round in range(8):
        forged.words[:] = hostile(chance, len(forged.words))
        if round % 4:
            forged.restore()
        opened += read_all(forged.path)
    assert opened == 6


def test_preambles_with_a_forged_word(forged):
    chance = numpy.random.default_rng(8)
    for _ in range(100):
        forged.restore()
        forged.words[chance.integers(PREAMBLE)] = hostile(chance, 1)[0]
        read_all(forged.path)
    other = forged.preamble[1] + numpy.uint64(1)
    forged.restore()
    forged.words[1] = other
    with pytest.raises(mapring.Error, match=f"layout version {other}") as refused:
        mapring.open(forged.path)
    assert (refused.value.kind, refused.value.errno, other) == ("Preamble", None, mapring.ABI + 1)


@pytest.mark.parametrize("flags", [1 << 10, 0], ids=["mapped", "by call"])
def test_forged_maps(forged, flags, loaded):
    chance = numpy.random.default_rng(9)
    for _ in range(2):
        forged.words[:] = hostile(chance, len(forged.words))
        forged.restore()
        fd = forged.as_map(flags)
        try:
            assert read_all(fd) or not flags, "a ring with tails must be mapped"
        finally:
            os.close(fd)


SCRIBBLE = """if 1:
    import mmap, os, sys, numpy
    sys.path.insert(0, sys.argv[1])
    from test_hostile import PREAMBLE, hostile
    fd = int(sys.argv[2])
    words = numpy.frombuffer(mmap.mmap(fd, int(sys.argv[3])), "u8")
    chance = numpy.random.default_rng(10)
    print("begun", flush=True)
    while True:
        words[chance.integers(PREAMBLE, len(words), 1000)] = hostile(chance, 1000)
"""


def test_memory_that_another_process_scribbles_on(forged, loaded):
    fd = forged.as_map(1 << 10)
    for shared in (forged.fd, fd):
        args = [sys.executable, "-c", SCRIBBLE, os.path.dirname(__file__), str(shared), str(forged.words.nbytes)]
        scribbler = subprocess.Popen(args, pass_fds=[shared], stdout=subprocess.PIPE, text=True)
        try:
            assert scribbler.stdout.readline() == "begun\n"
            for _ in range(20):
                assert read_all(shared)
            assert scribbler.poll() is None
        finally:
            scribbler.kill()
            scribbler.communicate()
    os.close(fd)


def test_tails_that_all_are_the_same(memory):
    # Each of 64 records has the same 8 MiB of one area: 512 MiB.
    longest, slots = 8 << 20, 64
    forged = Memory(memory, f"Ring 24 {slots} 1 {longest} {2 * longest}")
    producer = mapring.open(forged.path)
    stride, first = 4, PREAMBLE + 8 + 32  # docs/abi.md: words of a slot; the preamble, the header, and that of tails
    forged.words[PREAMBLE] = slots
    forged.words[PREAMBLE + 8 : PREAMBLE + 10] = [longest, longest]
    for slot in range(slots):
        forged.words[first + stride * slot :][:3] = [2, 0, longest]
    lens = [len(event.tail) for event in producer.read()]
    assert set(lens) == {longest} and sum(lens) <= 64 << 20
    assert sum(1 for _ in producer.events(timeout=0)) == slots - len(lens)
    os.close(forged.fd)


class Types:
    """Types for the kernel, as BTF. Ids start at 1."""

    INT, ARRAY, STRUCT, UNION, ENUM = 1, 3, 4, 5, 6

    def __init__(self):
        self.strings, self.types, self.last = bytearray(b"\0"), bytearray(), 0
        self.u32, self.u64, self.char = (self.add(self.INT, name, size, [size * 8]) for name, size in (("u32", 4), ("u64", 8), ("byte", 1)))

    def name(self, name):
        self.strings += name.encode() + b"\0"
        return len(self.strings) - len(name.encode()) - 1 if name else 0

    def add(self, kind, name, size, words, members=0):
        self.types += struct.pack(f"={3 + len(words)}I", self.name(name), kind << 24 | members, size, *words)
        self.last += 1
        return self.last

    def array(self, of, count):
        return self.add(self.ARRAY, "", 0, [of, self.u32, count])

    def struct(self, name, size, members, kind=STRUCT):
        words = [word for field, of, at in members for word in (self.name(field), of, 8 * at)]
        return self.add(kind, name, size, words, len(members))

    def cells(self, memory, record):
        """A map of cells whose values have this type, in a struct as the macros declare it."""
        size = int(memory.preamble[6])
        value = self.struct("forged", size, [("seq", self.u64, 0), ("record", record, 8)])
        return self.map(size, len(memory.words) * 8 // size, self.u32, value)

    def section(self, variables):
        """A map of global variables: name, type and size of each."""
        infos, at = [], 0
        for name, of, size in variables:
            infos += [self.add(14, name, of, [1]), at, size]
            at += size
        return self.map(at, 1, 0, self.add(15, ".bss", at, infos, len(variables)))

    def map(self, size, count, key, value):
        header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        blob = ctypes.create_string_buffer(header + self.types + self.strings)
        btf, _ = bpf(18, struct.pack("=QQIII", ctypes.addressof(blob), 0, len(blob) - 1, 0, 0))
        try:
            return bpf(0, struct.pack("=7I16s4I", 2, 4, size, count, 1 << 10, 0, 0, b"forged", 0, btf, key, value))[0]
        finally:
            os.close(btf)


def each_over_the_others(types, name, of, size, count):
    return types.struct(name, size, [(f"{name}{n}", of, 0) for n in range(count)])


def exploding(types, size):
    """A struct whose fields are all at its start. Each is an array of such structs, and so on."""
    yield "fields of all bytes", each_over_the_others(types, "a", types.array(types.array(types.u64, 1), size // 8), size, 16000)
    inner = types.u64
    for name in "bcd":
        inner = each_over_the_others(types, name, inner, 8, 40)
    yield "structs in structs", types.array(inner, size // 8)
    yield "arrays of structs", each_over_the_others(types, "g", types.array(inner, size // 8), size, 40)
    yield "names", each_over_the_others(types, "h" * 120, types.u64, size, 16000)
    deep = types.array(types.char, size)
    for _ in range(30):
        deep = types.array(deep, 1)
    yield "arrays in arrays", deep
    bits = [word for n in range(16000) for word in (types.name(f"i{n}"), types.u64, 64 << 24 | n)]
    yield "bit fields", types.add(types.STRUCT, "i", size, bits, 1 << 31 | 16000)
    values = [word for n in range(65000) for word in (types.name(f"E{n}"), n)]
    enum = types.add(types.ENUM, "many", 4, values, 65000)
    yield "a union of enums", types.struct("u", size, [(f"u{n}", enum, 0) for n in range(65000)], types.UNION)
    yield "no bytes", types.struct("z", size, [(f"z{n}", types.array(types.struct("", 0, []), 1 << 31), 0) for n in range(3)])


def test_types_that_explode(memory, loaded):
    size = 16000
    forged = Memory(memory, f"Cells {size} 4 1")
    tried = []
    types = Types()
    for what, record in exploding(types, size):
        fd = types.cells(forged, record)
        with mmap.mmap(fd, len(forged.words) * 8) as words:
            words[: PREAMBLE * 8] = forged.preamble.tobytes()
        cells = mapring.open(fd)
        value = cells[3]
        assert value.raw == bytes(size) and cells.dtype.itemsize == size
        assert len(repr(value)) < 64 << 20 and sum(sys.getsizeof(part) for part in dict(value).values()) < 64 << 20, what
        assert mapring.to_arrow(cells.read_numpy()).nbytes < 64 << 20 and len(cells.read_numpy()) == 4
        os.close(fd)
        tried.append(what)
    assert len(tried) == 8
    os.close(forged.fd)


@pytest.mark.parametrize("what", ["itself", "beyond", "escapes", "void"])
def test_types_that_the_kernel_refuses(memory, loaded, what):
    # So no reader gets them.
    forged, types = Memory(memory, "Cells 24 4 1"), Types()
    record = types.struct("r", 24, {
        "itself": [("next", types.last + 1, 0)],
        "beyond": [("n", types.u64, 20)],
        "escapes": [("\x1b[2J", types.u64, 0)],
        "void": [("n", 0, 0)],
    }[what])
    with pytest.raises(OSError):
        types.cells(forged, record)
    os.close(forged.fd)


def test_global_variables_that_lie(loaded):
    types = Types()
    inner = types.u64
    for name in "bcd":
        inner = each_over_the_others(types, name, inner, 8, 40)
    guarded = [("seq", types.u64, 0), ("record", types.array(inner, 500), 8)]
    huge = [("seq", types.u64, 0), ("record", types.array(types.u64, 2500), 8)]
    fd = types.section([
        ("number", types.u64, 8),
        ("cell", types.struct("mapring_global_cell__a", 4016, guarded), 4016),
        ("latch", types.struct("mapring_global_latch__b", 8008, guarded), 8008),
        ("one_copy", types.struct("mapring_global_latch__c", 4008, guarded), 4008),
        ("too_large", types.struct("mapring_global_cell__d", 20008, huge), 20008),
        ("no_record", types.struct("mapring_global_cell__e", 8, [("seq", types.u64, 0)]), 8),
        ("plain", types.struct("f", 8, [("n", types.u64, 0)]), 8),
    ])
    with mmap.mmap(fd, 36864) as words:
        words[:36064] = numpy.random.default_rng(11).bytes(36064)
        words[8:16] = words[4024:4032] = bytes(8)
        found = mapring.open(fd)
        assert list(found) == ["number", "cell", "latch", "one_copy", "too_large", "no_record", "plain"]
        assert found["number"] == int.from_bytes(words[:8], "little") and len(repr(found["cell"])) + len(repr(found["latch"])) < 64 << 20
        words[8] = 1  # a writer that has died in it
        for name, kind in [("cell", "Busy"), ("one_copy", "Layout"), ("too_large", "Layout"), ("no_record", "Layout"), ("plain", "Layout")]:
            with pytest.raises(mapring.Error) as refused:
                found[name]
            assert refused.value.kind == kind and "\n" not in str(refused.value)
    os.close(fd)
