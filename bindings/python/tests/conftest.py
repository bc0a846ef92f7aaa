"""What the tests read: a memory file of another process, and BPF programs on this kernel, which tests run by hand.

`cargo xtask wheel` sets MAPRING_PRODUCER, the program of `producer`. Tests of BPF need root, clang and the repository; if they are
skipped they say so, and with MAPRING_REQUIRE_BPF=1 they fail."""

import ctypes
import os
import pathlib
import platform
import shutil
import struct
import subprocess
import tempfile

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]


def not_tested(why, of_bpf=True):
    if of_bpf and os.environ.get("MAPRING_REQUIRE_BPF") == "1":
        pytest.fail(why)
    pytest.skip("NOT TESTED: " + why)


def program():
    return os.environ.get("MAPRING_PRODUCER") or not_tested("MAPRING_PRODUCER is not set: run `cargo xtask wheel`", False)


class Producer:
    """A process that writes what a test reads."""

    def __init__(self, *args):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program(), *map(str, args)], stdin=pipe, stdout=pipe, text=True)
        self.line = self.process.stdout.readline().strip()
        assert self.line, "the producer ended"

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def memory():
    """Makes memory files with a ring of 56-byte records: by their slots. A line with a number makes as many."""
    made = []

    def make(*args):
        made.append(Producer(*args))
        return made[-1]

    yield make
    for producer in made:
        producer.stop()


def bpf(command, attr):
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    buffer = ctypes.create_string_buffer(attr.ljust(144, b"\0"), 144)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, command, buffer, 144)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return result, buffer.raw


class Programs:
    """Pinned maps, and the programs that write them."""

    def __init__(self, directory, producer):
        self.directory, self.producer = directory, producer

    def pin(self, name):
        return str(self.directory / name)

    def both(self, name):
        """The pin, and a descriptor that the kernel refuses to map."""
        path = ctypes.create_string_buffer(os.fsencode(self.pin(name)))
        yield self.pin(name)
        fd, _ = bpf(7, struct.pack("=QII", ctypes.addressof(path), 0, 8))
        try:
            yield fd
        finally:
            os.close(fd)

    def run(self, name, n=0, count=1):
        path = ctypes.create_string_buffer(os.fsencode(self.directory / "programs" / name))
        fd, _ = bpf(7, struct.pack("=QII", ctypes.addressof(path), 0, 0))
        try:
            context = ctypes.create_string_buffer(struct.pack("=QQ", n, count), 16)
            attr = struct.pack("=IIIIQQIIIIQQ", fd, 0, 0, 0, 0, 0, 0, 0, 16, 0, ctypes.addressof(context), 0)
            return struct.unpack_from("=I", bpf(10, attr)[1], 4)[0]
        finally:
            os.close(fd)


def compiled(directory):
    clang = os.environ.get("CLANG", "clang")
    if not shutil.which(clang) or not (ROOT / "ring/include").exists():
        not_tested("the BPF programs need clang and the repository")
    arch = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]
    headers = [f for f in os.environ.get("MAPRING_BPF_HEADERS", "").split(":") if f]  # instead of the package libbpf-dev
    line = [clang, "-g", "-O2", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{arch}", "-I", str(ROOT / "ring/include")]
    line += [part for folder in headers for part in ("-isystem", folder)]
    line += ["-idirafter", f"/usr/include/{platform.machine()}-linux-gnu", "-c", str(HERE / "regions.bpf.c")]
    subprocess.run([*line, "-o", str(directory / "regions.bpf.o")], check=True)
    return directory / "regions.bpf.o"


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    if os.geteuid() != 0:
        not_tested("BPF programs are loaded by root")
    program()
    compiled_object = compiled(tmp_path_factory.mktemp("bpf"))
    try:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="mapring-python-", dir="/sys/fs/bpf"))
        (directory / "programs").mkdir()
    except OSError as e:
        not_tested(f"no pins: {e}")
    try:
        producer = Producer(compiled_object, directory)
        yield Programs(directory, producer)
        producer.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def programs(loaded):
    """The programs, on one CPU."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield loaded
    os.sched_setaffinity(0, cpus)
