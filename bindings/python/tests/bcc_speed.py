"""What bcc's ring buffer costs for each 56-byte record, with a callback that reads one field, as bcc's examples do. No test: it needs
the packages python3-bpfcc and, to load programs, root. MAPRING_PRODUCER is the program that `cargo xtask wheel` has built."""

import ctypes
import os
import pathlib
import shutil
import tempfile
import time

import bcc
from bcc.table import RingBuf
from conftest import Producer, Programs, bpf, compiled

ROUNDS, BATCH = 100, 4096


class Row(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ulonglong), ("words", ctypes.c_ulonglong * 6)]


def main():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mapring-python-", dir="/sys/fs/bpf"))
    (directory / "programs").mkdir()
    with tempfile.TemporaryDirectory() as objects:
        producer = Producer(compiled(pathlib.Path(objects)), directory)
    programs, times = Programs(directory, producer), []
    try:
        path = ctypes.create_string_buffer(os.fsencode(directory / "ringbuf"))
        # bcc finds maps only in programs that it has compiled. This is its ring buffer, over another map.
        owner, ring = bcc.BPF.__new__(bcc.BPF), RingBuf.__new__(RingBuf)
        owner._ringbuf_manager = None
        ring.map_fd, _ = bpf(7, bytes(ctypes.c_uint64(ctypes.addressof(path))))
        ring.bpf, ring._ringbuf, ring._event_class, ring._cbs = owner, None, Row, {}
        found = []
        ring.open_ring_buffer(lambda context, data, size: found.append(ring.event(data).n))
        for _ in range(ROUNDS):
            for first in range(0, BATCH, 256):
                assert programs.run("push_ringbuf", first, 256) == 0
            found.clear()
            begin = time.perf_counter_ns()
            owner.ring_buffer_consume()
            times.append((time.perf_counter_ns() - begin) / BATCH)
            assert found == list(range(BATCH))
    finally:
        producer.stop()
        shutil.rmtree(directory)
    print(f"a record: bcc {bcc.__version__} {sorted(times)[ROUNDS // 2]:.0f} ns", flush=True)
    os._exit(0)  # bcc would free what it has not compiled


main()
