"""Every kind of region, written by BPF programs on this kernel, with types from BTF."""

import asyncio
import json
import os
import select
import subprocess
import sys
import time

import numpy
import pytest

import mapring
from conftest import ROOT


def test_every_sort_of_field(programs):
    before = time.monotonic_ns()
    ring = mapring.open(programs.pin("samples"))
    assert ring.types == "by BTF" and ring.access == "mapped"
    programs.run("push_samples", 7, 2)
    odd, even = ring.read()
    assert before <= odd.ns <= time.monotonic_ns() and odd.pid == 7 and (odd.state, even.state) == (-1, 1)
    name = open("/proc/self/comm", "rb").read().rstrip(b"\n")
    assert odd.comm == name and odd.address == bytes([0, 0, 0, 0, 0, 7]) and (odd.flag, even.flag) == (True, False)
    assert (odd.points[1].x, odd.points[1].y, odd.points[0].x) == (7, (0, 0, -7), 0)
    assert odd.grid == ((0, 0), (7, 0)) and (odd.low, odd.high, even.low, even.high) == (7, -7, 0, 0)
    assert odd.half == (0, 7) and odd.whole == 7 << 16 and odd.where == 7
    assert "comm=" in repr(odd) and set(dict(odd)) >= {"ns", "half", "whole", "low"}

    programs.run("push_samples", 100, 50)
    array = ring.read_numpy()
    assert array["pid"].tolist() == list(range(100, 150)) and set(array["comm"]) == {name}
    assert array["points"]["y"].shape == (50, 2, 3) and array["points"]["y"][3, 1, 2] == -103
    assert array["grid"].shape == (50, 2, 2) and array["state"].dtype == numpy.dtype("i4") and array["half"][1, 1] == 101
    assert array.dtype.itemsize == ring.record_size == len(odd.raw) and "low" not in array.dtype.names
    assert ring.stats().delivered == 52 and ring.stats().lost == ring.stats().dropped == 0


def test_arrow_and_polars(programs):
    import polars

    ring = mapring.open(programs.pin("samples"), start="now")
    programs.run("push_samples", 5, 3)
    array = ring.read_numpy()
    table = mapring.to_arrow(array)
    assert table["pid"].to_pylist() == [5, 6, 7] and table["points"][0][1]["x"].as_py() == 5
    assert table["grid"][0].as_py() == [[0, 0], [5, 0]] and table["comm"][0].as_py() == array["comm"][0]
    frame = polars.DataFrame({name: array[name] for name in ("ns", "pid", "state")})
    assert frame["pid"].to_list() == [5, 6, 7] and frame["ns"].is_sorted()


def test_variants_and_numbers(programs):
    ring = mapring.open(programs.pin("events"))
    programs.run("push_events", 9)
    pushed, popped = ring.read()
    assert (pushed.tag, pushed.pushed.pid, popped.tag, popped.popped.ns) == (1, 9, 2, 9)
    assert ring.dtype.names == ("tag", "pushed", "popped")
    ring = mapring.open(programs.pin("numbers"))
    programs.run("push_numbers", 12)
    programs.run("push_numbers", 13)
    assert ring.read(1)[0].value == 12 and ring.read_numpy().tolist() == [13] and ring.dtype == numpy.dtype("u8")


def test_tails(programs):
    ring = mapring.open(programs.pin("tailed"))
    programs.run("push_tailed", 5)
    programs.run("push_tailed", 6)
    assert ring.options == "TAILS" and [(event.n, event.tail) for event in ring.read()] == [(5, b"t\x05"), (6, b"t\x06")]
    programs.run("push_tailed", 7)
    assert ring.read_numpy()["n"].tolist() == [7]


def test_programs_wake_readers(programs):
    ring = mapring.open(programs.pin("woken"))
    assert ring.options == "WAKEABLE" and not ring.wait(0.01)

    async def both():
        found = []

        async def read():
            async for event in ring:
                found.append(event.n)
                if len(found) == 6:
                    return

        task = asyncio.create_task(read())
        for n in range(6):
            await asyncio.sleep(0.01)
            programs.run("push_woken", n)
        await asyncio.wait_for(task, 60)
        return found

    assert asyncio.run(both()) == list(range(6))
    assert ring.fileno() >= 0
    programs.run("push_woken", 6)
    assert ring.wait(60) and ring.read()[0].words[5] == 12


def test_a_watermark_wakes_once_so_many_are_unread(programs):
    ring = mapring.open(programs.pin("woken"), start="now")
    ring.set_watermark(16, 1.0)
    for _ in range(3):
        assert ring.arm() > 0
        pushed = 0
        while pushed < 64 and not select.select([ring], [], [], 0)[0]:
            programs.run("push_woken", pushed)
            pushed += 1
        assert 16 <= pushed <= 20 and ring.wait(0) and len(ring.read()) == pushed
    begin = time.monotonic()
    programs.run("push_woken", 0)
    assert ring.wait() and len(ring.read()) == 1 and time.monotonic() - begin > 0.5, "it woke before the age"
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="number of seconds"):
            ring.set_watermark(16, wrong)


def test_records_that_no_program_ends(programs):
    for source in programs.both("left"):
        ring = mapring.open(source, start="now")
        assert ("mapped" == ring.access) == isinstance(source, str) and ring.unended() == []
        ring.set_patience(0)
        programs.run("leave")
        for n in range(3):
            programs.run("push_left", n)
        assert [event.value for event in ring.events(timeout=0.1)] == [0, 1, 2]
        (left,) = ring.unended()
        assert left.shard == min(os.sched_getaffinity(0)) and left.noticed >= 0 and ring.stats().skipped == 1
        assert f"the record of ticket {left.ticket} has been reserved" in str(left)
        (loss,) = ring.losses()
        assert loss.tickets == (left.ticket, left.ticket + 1) and not loss.dropped and f"1 {loss.cause}, tickets" in str(loss)


def test_older_records_are_passed_over(programs):
    mine = min(os.sched_getaffinity(0))
    programs.run("push_samples", 0, 30)
    begin = time.monotonic_ns()
    programs.run("push_samples", 100, 20)
    for source in programs.both("samples"):
        for ring in (mapring.open(source), mapring.open(source).merged("ns", delay=0.1, ticket_order=True)):
            assert [event.pid for event in ring.newest()] == [119]
            ring.skip_before(begin, "ns")
            found = [event.pid for event in ring.events(timeout=0.1)]
            assert found[-20:] == list(range(100, 120)) and len(found) < 25, found
            assert ring.stats().lost == 0 and ring.stats(mine).delivered == len(found)
            with pytest.raises(ValueError, match="no integer of 8 bytes"):
                ring.skip_before(begin, "pid")
            with pytest.raises(IndexError):
                ring.stats(99999)


def test_required_readers_lose_nothing(programs):
    ring = mapring.open(programs.pin("kept"))
    ring.require(60)
    assert programs.run("push_kept", 0, 200) == 1, "a program was refused"
    assert [event.n for event in ring.read()] == list(range(64))
    stats = ring.stats()
    assert stats.lost == 0 and stats.full == stats.dropped == 1
    assert [(loss.cause, loss.dropped, loss.count) for loss in ring.losses()] == [("held back by a reader", True, 1)]
    ring.close()

    # A reader whose lease has ended says so, once.
    ring = mapring.open(programs.pin("kept"), start="now")
    ring.require(0.001)
    programs.run("push_kept", 0, 64)
    for _ in range(3):
        time.sleep(0.01)
        programs.run("push_kept", 64, 1)
    assert ring.read() != []
    with pytest.raises(mapring.Error) as ended:
        ring.read(), ring.read()
    assert ended.value.kind == "LeaseEnded" and ring.read() == []
    ring.close()
    with pytest.raises(mapring.Error) as refused:
        mapring.open(programs.pin("woken")).require(1)
    assert refused.value.kind == "NotKeepOldest"
    with pytest.raises(mapring.Error) as refused:
        mapring.open(programs.pin("samples")).fileno()
    assert refused.value.kind == "NotWakeable"


def test_a_map_for_each_cpu(programs):
    ring = mapring.open(programs.pin("spread"))
    for cpu in os.sched_getaffinity(1):
        os.sched_setaffinity(0, {cpu})
        programs.run("push_spread", cpu, 1)
    assert "PER_CPU_MAPS" in ring.options
    assert sorted((event.shard, event.n) for event in ring.read()) == [(cpu, cpu) for cpu in sorted(os.sched_getaffinity(1))]


def test_readers_go_on_in_the_ring_that_replaces_theirs(programs):
    ring, found = mapring.open(programs.pin("grows")), []
    for n in range(10):
        assert programs.run("push_grows", n) == 0
        if n in (3, 6):
            assert programs.producer.do("128" if n == 3 else "32") == "resized"
        if n == 5:  # once in each ring
            found += [event.value for event in ring.events(timeout=0.1)]
    found += [event.value for event in ring.events(timeout=0.1)]
    assert "RESIZABLE" in ring.options and found == list(range(10))
    assert ring.stats().delivered == 10 and ring.stats().lost == 0


def test_values(programs):
    for n in (5, 300):
        programs.run("change", n)
    cells, copies, latches = (mapring.open(programs.pin(name)) for name in ("cells", "copies", "latches"))
    assert (len(cells), cells[3].x, cells[-1].y, cells[0].x) == (4, 300, (1, 2, -3), 0)
    assert cells.snapshots(3)[0].version == 2 and cells.read_numpy()["x"].tolist() == [0, 0, 0, 300]
    assert (latches.kind, latches[1].x) == ("Latches", 300) and latches.read_numpy()["y"][1].tolist() == [1, 2, -3]
    cpu = min(os.sched_getaffinity(0))
    assert copies[1][cpu].x == 300 and copies.read_numpy()[1, list(copies[1]).index(cpu)]["x"] == 300
    for index in (4, -5):
        with pytest.raises(IndexError):
            cells[index]

    counters = mapring.open(programs.pin("counters"))
    assert (list(counters), counters.sums(), counters.get(cpu, 2), counters[-1]) == ([0, 0, 305], [0, 0, 305], 305, 305)
    histogram = mapring.open(programs.pin("histograms"))[1]
    assert histogram.count == 2 and histogram.percentile(50) == (5, 5) and "#" in str(histogram)
    low, high = histogram.percentile(100)
    assert low <= 300 <= high and histogram.buckets() == [(5, 5, 1), (low, high, 1)] and histogram.since(histogram).count == 0
    windows = mapring.open(programs.pin("gauges"))[1]
    assert max(most for _, _, most in windows) == 300
    top = mapring.open(programs.pin("top"))
    assert {(key, count) for key, count, _ in top.largest(5)} == {(5, 10), (300, 10)} and top.ranking(1)[1:] == (10, 20)


def test_commands_and_the_global_variables_that_they_change(programs):
    variables = mapring.open(programs.pin("bss"))
    assert {"carried_out", "below", "torn", "newest", "tuning"} <= set(variables) and "mapped" in repr(variables)
    before = variables["carried_out"]
    with mapring.open(programs.pin("tunes")) as tunes:
        assert (tunes.slots, tunes.owner) == (4, None)
        number = tunes.push(every=7, by=[1, -2], at={"x": 5, "y": (3, 2, 1)}, name=b"seven")
        assert tunes.owner == os.getpid() and tunes.pushed == number and not tunes.wait(number, 0)
        programs.run("carry_out_all")
        assert tunes.wait(number, 60) and (tunes.acknowledged, tunes.skipped) == (number, 0)
        assert (variables["carried_out"], variables["below"]) == (before + 1, -7)
        for name in ("tuning", "newest"):
            tune = variables[name]
            assert (tune.every, tune.by, tune.at.x, tune.at.y, tune.name) == (7, (1, -2), 5, (3, 2, 1), b"seven")
        assert tunes.push(tune.raw, every=8) == number + 1
        programs.run("carry_out_all")
        assert (variables["tuning"].every, variables["newest"].name) == (8, b"seven")
        for wrong in ({"none": 1}, {"every": -1}, {"every": "x"}, {"by": [1, 2, 3]}, {"name": b"123456789"}, {"at": {"z": 1}}):
            with pytest.raises((TypeError, ValueError)):
                tunes.push(**wrong)
        with pytest.raises(ValueError, match="has 28 bytes, not 1"):
            tunes.push(b"x")
        for _ in range(4):
            tunes.push()
        with pytest.raises(mapring.Error) as full:
            tunes.push()
        assert full.value.kind == "Full" and "push it again" in str(full.value)
        programs.run("carry_out_all")
        other = f"import mapring; mapring.open({programs.pin('tunes')!r}).push()"
        refused = subprocess.run([sys.executable, "-c", other], stderr=subprocess.PIPE, text=True)
        assert f"{os.getpid()}" in refused.stderr and "mapring.Error" in refused.stderr
    assert tunes.owner is None

    with pytest.raises(mapring.Error, match="MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH") as refused:
        variables["torn"]
    assert refused.value.kind == "Layout"
    with pytest.raises(KeyError):
        variables["none"]
    for source in programs.both("bss"):
        assert mapring.open(source)["newest"].at.x == 0 == mapring.open(source)["tuning"].every


def test_ids_and_liveness(programs):
    ring = mapring.open(programs.pin("samples"))
    listed = subprocess.run(["bpftool", "-j", "map", "show", "pinned", programs.pin("samples")], stdout=subprocess.PIPE, text=True)
    again = mapring.open(id=json.loads(listed.stdout)["id"])
    assert again.dtype == ring.dtype
    liveness = ring.liveness()
    assert liveness.loader_lives and "push_samples" in [name for _, name, _ in liveness.programs] and "lives" in str(liveness)


def test_readers_without_privilege(programs):
    programs.run("push_frozen", 3, 4)
    script = f"""if 1:
        import os, mapring, numpy
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        path = {programs.pin("frozen")!r}
        ring = mapring.open(path)
        assert ring.access == "mapped" and "CAP_SYS_ADMIN" in ring.types, repr(ring)
        assert ring.dtype == numpy.dtype(f"V{{ring.record_size}}") and len(ring.read()) == 4
        named = numpy.dtype({{"names": ["ns", "pid"], "formats": ["u8", "u4"], "offsets": [0, 8], "itemsize": ring.record_size}})
        ring = mapring.open(path, dtype=named)
        assert [event.pid for event in ring.merged("ns").read()] == [3, 4, 5, 6] == ring.read_numpy()["pid"].tolist()
        try:
            mapring.open({programs.pin("samples")!r})
            raise SystemExit("opened")
        except mapring.Error as e:
            assert e.kind == "Open" and e.errno == 13, e
    """
    os.chmod(programs.directory, 0o755)
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd="/")
    assert child.returncode == 0, child.stderr


def test_the_program_of_the_manual(programs):
    blocks = (ROOT / "docs/python.md").read_text().split("```python\n")[1:]
    (program,) = [block.split("```")[0] for block in blocks if block.startswith("import sys")]
    programs.run("push_samples", 1, 3)
    output = subprocess.run([sys.executable, "-c", program, programs.pin("samples")], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert " cpu " in output and "[3]" in output and " 0 dropped; idle for " in output, output
