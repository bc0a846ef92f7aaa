"""Rings in memory files: no privilege, no BPF."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest

import mapring

ROW = numpy.dtype([("n", "u8"), ("words", "u8", 5), ("twice", "u8")])


def test_records_come_whole_and_once(memory):
    producer = memory(1024)
    ring = mapring.open(producer.line, dtype=ROW)
    assert (ring.shards, ring.slots, ring.record_size, ring.access) == (1, 1024, 56, "mapped")
    producer.do("300")
    first = ring.read(100)
    assert [(event.shard, event.ticket, event.n, event.twice) for event in first] == [(0, n, n, 2 * n) for n in range(100)]
    assert first[7].words == (0,) * 5 and first[7]["n"] == 7 and len(first[7].raw) == 56 and first[7].tail == b""
    assert dict(first[7]) == {"n": 7, "words": (0,) * 5, "twice": 14}
    array = ring.read_numpy()
    assert array.dtype == ROW and array["n"].tolist() == list(range(100, 300)) and (array["twice"] == 2 * array["n"]).all()
    array["n"] = 0  # it is the caller's
    assert ring.read() == [] and len(ring.read_numpy()) == 0 and ring.read(0) == []
    assert ring.stats().delivered == 300 and ring.stats().lost == 0


def test_what_an_iterator_reads_ahead_is_not_lost(memory):
    producer = memory(1024)
    ring = mapring.open(producer.line, dtype=ROW)
    producer.do("600")
    for event in ring:
        if event.n == 9:
            break
    assert [event.n for event in ring.read(5)] == list(range(10, 15))
    assert ring.read_numpy(300)["n"].tolist() == list(range(15, 315))
    assert ring.wait(0)
    assert [event.n for event in ring.events(timeout=0)] == list(range(315, 600))


def test_losses_are_counted(memory):
    producer = memory(64)
    ring = mapring.open(producer.line, dtype=ROW)
    assert ring.losses() == []
    producer.do("1000")
    found = ring.read_numpy()
    assert found["n"].tolist() == list(range(1000 - len(found), 1000))
    stats = ring.stats()
    assert stats.delivered + stats.lost == 1000 and stats.lost == stats.lapped
    (loss,) = ring.losses()
    assert (loss.count, loss.tickets, loss.cause, loss.dropped) == (stats.lost, (0, stats.lost), "overwritten", False)
    assert mapring.open(producer.line, start="first", dtype=ROW).read() != []
    assert mapring.open(producer.line, start="now", dtype=ROW).read() == []


def test_descriptors(memory):
    producer = memory(64)
    producer.do("3")
    with open(producer.line, "rb") as file:
        rings = [mapring.open(file, dtype=ROW), mapring.open(file.fileno(), dtype=ROW)]
    assert [[event.n for event in ring.read()] for ring in rings] == [[0, 1, 2]] * 2


def test_without_types_records_are_bytes(memory):
    producer = memory(64)
    producer.do("2")
    ring = mapring.open(producer.line)
    assert ring.dtype == numpy.dtype("V56") and "no BTF" in ring.types and "untyped" in repr(ring)
    assert ring.read(1)[0].raw == bytes(56)
    with pytest.raises(AttributeError):
        ring.read(1)[0].n
    with pytest.raises(ValueError, match="no field 'n'"):
        ring.merged("n")
    with pytest.raises(ValueError, match="records of 56 bytes, but"):
        mapring.open(producer.line, dtype="u8")


def test_events_need_no_numpy(memory):
    producer = memory(64)
    producer.do("2")
    script = f"""if 1:
        import sys
        sys.modules["numpy"] = None
        import mapring
        ring = mapring.open({producer.line!r})
        assert len(ring.read(1)) == 1
        ring.read_numpy()
    """
    child = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert "ModuleNotFoundError: this needs numpy: pip install numpy" in child.stderr, child.stderr


def test_merged(memory):
    producer = memory(64)
    producer.do("20")
    ring = mapring.open(producer.line, dtype=ROW).merged("n")
    assert [event.n for event in ring.read()] == list(range(20))
    with pytest.raises(ValueError, match="8 bytes"):
        ring.merged("words")


def test_two_rings_in_one_order(memory):
    few, many = memory(64), memory(4096)
    for _ in range(10):
        few.do("1"), many.do("3")
    few, many = (mapring.open(ring.line, dtype=ROW) for ring in (few, many))
    with mapring.Merged(few.merged("n"), many.merged("n")) as both:
        assert both.wait() and repr(both) == "<Merged of 2 rings>"
        found = both.read(5) + list(both.events(timeout=0.01))
        # Both are numbered from 0: of equal stamps, the first ring comes first.
        expected = sorted([(n, 0) for n in range(10)] + [(n, 1) for n in range(30)])
        assert [(event.n, ring) for ring, event in found] == expected
        assert [both.stats(ring).delivered for ring in (0, 1)] == [10, 30]
        assert (both.losses(0), both.unended(1), both.wait(0), both.read()) == ([], [], False, [])
        with pytest.raises(IndexError, match="no ring 2: there are 2"):
            both.stats(2)
    with pytest.raises(ValueError, match="closed"):
        both.read()
    with pytest.raises(ValueError, match="ring 1 is not in the order of stamps"):
        mapring.Merged(few.merged("n"), many)
    with pytest.raises(ValueError, match="different clocks"):
        mapring.Merged(few.merged("n"), few.merged("n", "boottime"))
    moved = few.merged("n")
    with mapring.Merged(moved) as alone:
        assert len(list(alone.events(timeout=0))) == 10
    with pytest.raises(ValueError, match="closed"):
        moved.read()


def test_others_run_during_a_wait(memory):
    producer = memory(64)
    ring = mapring.open(producer.line, dtype=ROW)
    assert not ring.wait(0) and not ring.wait(0.01)
    pushes = threading.Thread(target=lambda: (time.sleep(0.05), producer.do("1")))
    pushes.start()
    assert ring.wait() and ring.read()[0].n == 0
    pushes.join()
    with ring:
        pass
    with pytest.raises(ValueError, match="closed"):
        ring.read()


def test_threads_take_turns(memory):
    producer = memory(4096)
    ring = mapring.open(producer.line, dtype=ROW)
    producer.do("4000")
    found = []
    threads = [threading.Thread(target=lambda: [found.extend(ring.read(7)) for _ in range(200)]) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(event.n for event in found) == list(range(4000))


def test_signals_end_a_wait(memory):
    producer = memory(64)
    script = f"import mapring; print(1, flush=True); mapring.open({producer.line!r}).wait()"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.readline()
    child.send_signal(2)
    assert "KeyboardInterrupt" in child.communicate(timeout=60)[1]


def test_asyncio(memory):
    producer = memory(1024)
    ring = mapring.open(producer.line, dtype=ROW)

    async def read(count):
        found = []
        async for event in ring:
            found.append(event.n)
            if len(found) == count:
                return found

    async def both():
        task = asyncio.create_task(read(500))
        for _ in range(5):
            await asyncio.to_thread(producer.do, "100")
        return await asyncio.wait_for(task, 60)

    assert asyncio.run(both()) == list(range(500))


def test_what_is_no_region_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(bytes(8192))
    os.mkfifo(tmp_path / "fifo")
    for path in [tmp_path, tmp_path / "file", tmp_path / "fifo", tmp_path / "missing", "/dev/null", "/dev/tty", "/sys/fs/bpf/missing"]:
        with pytest.raises(mapring.Error) as refused:
            mapring.open(path)
        assert refused.value.kind in ("Open", "WrongType", "Untrusted", "Preamble", "System") and "\n" not in str(refused.value)
    with pytest.raises(OSError):
        mapring.open(987)
    for wrong in [None, 1.5, b""[0:0]]:
        with pytest.raises((TypeError, mapring.Error)):
            mapring.open(wrong)
    with pytest.raises(TypeError):
        mapring.open("x", id=1)


def test_texts_end_at_their_zero_in_arrays_too(memory):
    producer = memory(1024)
    row = numpy.dtype([("text", "S8"), ("rest", "u8", 6)])
    ring = mapring.open(producer.line, dtype=row)
    producer.do("600")  # from 256 on, a byte follows the zero
    events = ring.reader().read(600)
    next(iter(ring))
    array = ring.read_numpy()
    assert [event.text for event in events][1:] == array["text"].tolist() and array["text"][255] == b""  # 256


def test_events_are_pickled(memory):
    producer = memory(64)
    producer.do("2")
    ring = mapring.open(producer.line, dtype=ROW)
    event = ring.read()[1]
    again = pickle.loads(pickle.dumps(event))
    assert again == event and (again.n, again.twice, again.ticket, again.shard) == (1, 2, 1, 0) and repr(again) == repr(event)
    untyped = mapring.open(producer.line).read(1)[0]
    assert pickle.loads(pickle.dumps(untyped)).raw == untyped.raw


def test_threads_that_share_a_ring_get_each_event_once(memory):
    producer = memory(1024)
    ring, given = mapring.open(producer.line, dtype=ROW), []
    done = threading.Event()

    def work():
        while not done.is_set() or ring.wait(0):
            given.extend(event.n for event in ring.read(7))
            for count, event in enumerate(ring.events(timeout=0)):
                given.append(event.n)
                if count == 5:
                    break

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        producer.do("500")
    done.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    stats = ring.stats()
    assert len(given) == stats.delivered == len(set(given)) and stats.delivered + stats.lost == 50_000


def test_a_handler_that_raises_loses_no_event_that_was_read(memory):
    class Alarm(Exception):
        pass

    def raises(*_):
        raise Alarm

    producer = memory(65536)
    ring, seen, alarms = mapring.open(producer.line, dtype=ROW), [], 0
    producer.do("60000")
    before = signal.signal(signal.SIGALRM, raises)
    try:
        while len(seen) + alarms < 60_000:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                for event in ring.events(timeout=0):
                    seen.append(event.n)
                break
            except Alarm:
                alarms += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # A handler can raise in the loop itself, before it has noted the event.
    assert alarms > 0 and len(seen) >= 60_000 - alarms and seen == sorted(set(seen)), (alarms, len(seen))


def test_a_thread_that_waits_lets_others_have_their_turn_and_ends_with_the_ring(memory):
    producer = memory(64)
    ring, ended = mapring.open(producer.line, dtype=ROW), []

    def work():
        try:
            ring.wait()
        except ValueError as e:
            ended.append(str(e))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(5):
        assert ring.stats().delivered == 0
    ring.close()
    thread.join()
    assert ended == ["the ring is closed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
def test_the_child_of_a_fork_does_not_wait_for_a_thread_of_its_parent(memory):
    producer = memory(64)
    producer.do("1")
    ring = mapring.open(producer.line, dtype=ROW)
    ring.read()
    thread = threading.Thread(target=ring.wait, args=(3600,), daemon=True)
    thread.start()
    time.sleep(0.05)  # until it waits
    for use in (ring.stats, ring.read, ring.close):
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # else it hangs
            try:
                use()
            except RuntimeError as e:
                fresh = mapring.open(producer.line, dtype=ROW)
                os._exit(0 if "forked" in str(e) and fresh.read()[0].n == 0 else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] in (0, 2 << 8), use  # 2: the thread was between two waits
    producer.do("1")
    thread.join()
