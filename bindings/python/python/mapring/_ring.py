"""Rings: every record in order, with exact counts of what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, List, NamedTuple, Optional, Tuple

from ._ahead import BATCH, Ahead
from ._mapring import Error, Opened, Reader
from ._types import Layout, Record, record_class, to_arrow

class Event(Record):
    """A record with its place. Its fields are attributes; a field that is called as one of these is ``event["name"]``."""

    __slots__ = ("shard", "ticket", "tail")

    def __init__(self, shard: int, ticket: int, raw: bytes, tail: bytes) -> None:
        super().__init__(raw)
        #: The CPU, if BPF programs write the ring.
        self.shard = shard
        #: The number of the record in its shard, from 0.
        self.ticket = ticket
        #: The bytes that the program wrote beside the record; empty in a ring without tails.
        self.tail = tail

    def _parts(self) -> Tuple[Any, ...]:
        return self.shard, self.ticket, self.raw, self.tail

    def __repr__(self) -> str:
        return f"<Event shard={self.shard} ticket={self.ticket}: {self._shown()}>"


class Stats(NamedTuple):
    """What a reader delivered, and what is missing, by cause. ``delivered + lost + discarded + stepped_over`` is all it passed."""

    delivered: int
    #: lapped, skipped and tail_lost together: what this reader missed.
    lost: int
    #: no_slot, full, no_shard, no_tail and too_long together: what programs dropped, and no reader gets.
    dropped: int
    lapped: int
    skipped: int
    tail_lost: int
    discarded: int
    stepped_over: int
    no_slot: int
    full: int
    no_shard: int
    no_tail: int
    too_long: int
    torn: int
    #: Of a merged reader: delivered after a record with a later stamp; with a stamp ahead of the clock; not delivered yet.
    late: int
    ahead: int
    held: int


@dataclass(frozen=True)
class Loss:
    """Records that are missing, all for one cause. Times are nanoseconds of ``time.monotonic_ns()``. ``str()`` says it."""

    shard: Optional[int]
    cause: str
    #: Whether programs dropped them, so that no reader gets them.
    dropped: bool
    #: The first ticket, and the one after the last.
    tickets: Optional[Tuple[int, int]]
    count: int
    since: Optional[int]
    until: int
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


class Unended(NamedTuple):
    """A record that a program reserved and has not ended, although later ones have. Either the program was interrupted for that
    long, or nothing ends the record: then its slot is unusable for good. ``str()`` says it."""

    shard: int
    ticket: int
    #: For how many seconds the reader has known it.
    noticed: float
    text: str

    def __str__(self) -> str:
        return self.text


class Liveness(NamedTuple):
    """What is known of the writers of a ring. ``str()`` says it."""

    #: How many seconds this reader has found nothing.
    idle: float
    loader: Optional[int]
    loader_lives: bool
    #: Id, name and number of links of each program that can write the ring; None without CAP_SYS_ADMIN.
    programs: Optional[List[Tuple[int, str, int]]]
    text: str

    def __str__(self) -> str:
        return self.text


class Ring(Ahead[Event]):
    """A ring, and a position in it. Iterating waits for records, for ever; `events` has a timeout.

    Reading a mapped ring makes no system call, and has no effect on programs. Threads that share a ring take turns: give each its
    own `reader`. Records of different CPUs have no order, unless the ring is `merged`.
    """

    _reader: Reader

    def __init__(self, opened: Opened, layout: Layout, start: str, reader: Optional[Reader] = None) -> None:
        super().__init__()
        self._opened, self._layout, self._start = opened, layout, start
        self._reader = opened.reader(start) if reader is None else reader
        self._event = record_class(Event, layout.node)

    def reader(self, start: str = "oldest") -> Ring:
        """Another reader of the same ring, independent of this one."""
        return Ring(self._opened, self._layout, start)

    def merged(
        self, stamp: str, clock: str = "monotonic", *, delay: Optional[float] = None, ticket_order: bool = False
    ) -> Ring:
        """Another reader, which delivers the records of all CPUs in the order of a field of 8 bytes: nanoseconds of the clock
        ``"monotonic"`` (``bpf_ktime_get_ns``) or ``"boottime"``. It starts where this one did.

        A record that is still being written holds back later ones for ``delay`` seconds: 0.01, if it is None. With
        ``ticket_order``, the records of each CPU keep the order in which they were reserved."""
        reader = self._opened.merged(self._start, self._layout.stamp(stamp), clock, delay, ticket_order)
        return Ring(self._opened, self._layout, self._start, reader)

    # Reading

    def _event_of(self, parts: Tuple[Any, ...]) -> Event:
        event: Event = self._event(*parts)
        return event

    def _ended(self) -> bool:
        return self._reader.ended()

    def newest(self) -> List[Event]:
        """The newest event of each CPU, without its tail. Changes nothing that the reader reads next."""
        return [self._event(*parts) for parts in self._reader.newest()]

    def skip_before(self, time: int, stamp: str) -> None:
        """Passes over records whose field ``stamp``, of 8 bytes, is less than ``time``, without reading them all. They count as if
        the reader had begun later. A few records just before ``time`` may still be delivered, and what an iterator has read ahead
        is."""
        self._reader.skip_before(time, self._layout.stamp(stamp))

    def read_numpy(self, limit: int = 65536) -> Any:
        """Up to ``limit`` records that are present, as a structured array, without an object for each. Does not wait.

        The array is the caller's, and has no tails. Char arrays are ``S``, and end at their first zero byte. Bit fields are not in the dtype, but their bytes are in
        the array: ``array.view("u1")``. Without types, the dtype is ``V`` and the size of a record.
        """
        taken: List[Tuple[Any, ...]] = []
        try:
            ahead = b"".join([raw for _, _, raw, _ in self._taken(taken, limit)])
            return self._layout.array(self._reader.read_bytes(limit - len(taken), ahead, self._layout.texts))
        except BaseException:
            self._ahead.extendleft(reversed(taken))
            raise

    def read_arrow(self, limit: int = 65536) -> Any:
        """The same as a ``pyarrow.Table``."""
        return to_arrow(self.read_numpy(limit))

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they come, for ``async for``. Sleeps until a program rings, if the ring is WAKEABLE; else looks once in a
        millisecond, at least."""
        while True:
            while self._ahead:
                try:
                    parts = self._ahead.popleft()
                except IndexError:  # another thread took it
                    break
                yield self._event_of(parts)
            self._reader.read_ahead(self._ahead, BATCH)
            if self._ahead:
                await asyncio.sleep(0)  # a ring that never ends must not keep other tasks waiting
            elif self._ended():
                return
            else:
                await self._armed()

    async def _armed(self) -> None:
        """Sleeps until there may be records."""
        seconds = self.arm()
        if seconds is None:
            await asyncio.sleep(0)
            return
        try:
            bell = self.fileno()
        except Error:  # naps
            await asyncio.sleep(seconds)
            return
        loop = asyncio.get_running_loop()
        rung = loop.create_future()

        def ring() -> None:
            if not rung.done():
                rung.set_result(None)

        loop.add_reader(bell, ring)
        try:
            await asyncio.wait([rung], timeout=seconds)
        finally:
            loop.remove_reader(bell)

    def fileno(self) -> int:
        """The descriptor that is readable once a program has rung for this reader: for ``select`` and event loops. Call `arm` before each
        sleep. The reader owns it. Raises `Error` with the reason if no program rings for this reader; `wait` naps then."""
        return self._reader.bell()

    def arm(self) -> Optional[float]:
        """Asks programs to ring, and looks for records. None if there are some: read them now. Else for how many seconds the caller may
        sleep, at most."""
        return None if self._ahead else self._reader.arm()

    def set_patience(self, seconds: float) -> None:
        """How long the reader waits for a record that was reserved and not ended, while later ones are present: 0.01 seconds if it is
        not called. Then it counts the record as skipped."""
        self._reader.set_patience(seconds)

    def set_watermark(self, records: int, age: float = 1.0) -> None:
        """Of a WAKEABLE ring: `wait` and ``async for`` return only once a CPU has so many unread records, or up to a quarter more, or
        after ``age`` seconds (at most 1) if there are any. Fewer wakeups, for readers that may be late. Signals interrupt `wait`
        after ``age`` seconds then."""
        self._reader.set_watermark(records, age)

    def require(self, lease: float) -> None:
        """Of a KEEP_OLDEST ring: programs drop new records rather than overwrite what this reader has not read, until it holds them
        back for ``lease`` seconds. Needs write access to the map of the ring's readers."""
        self._reader.require(lease)

    # What is known

    def stats(self, shard: Optional[int] = None) -> Stats:
        """What this reader delivered, and what is missing: of all CPUs, or of one."""
        return Stats(**self._reader.stats(shard))

    def losses(self) -> List[Loss]:
        """What is missing since the last call: how many, for which cause, between which tickets, and when."""
        return [Loss(*parts) for parts in self._reader.losses()]

    def unended(self) -> List[Unended]:
        """Records that programs reserved and have not ended: at most one for each CPU, of those that this reader passed, or whose
        slots it found taken."""
        return [Unended(*parts) for parts in self._reader.unended()]

    def liveness(self) -> Liveness:
        """Whether anybody still writes the ring. Makes many system calls."""
        return Liveness(*self._reader.liveness())

    @property
    def dtype(self) -> Any:
        """The numpy dtype of the records."""
        return self._layout.dtype

    @property
    def types(self) -> str:
        """How the types are known, or why they are not."""
        return self._layout.why

    @property
    def shards(self) -> int:
        """The number of shards: one for each possible CPU, if BPF programs write the ring."""
        return self._opened.shards

    @property
    def slots(self) -> int:
        """How many records a shard holds."""
        return self._opened.capacity

    @property
    def record_size(self) -> int:
        """The bytes of a record."""
        return self._layout.size

    @property
    def options(self) -> str:
        """The options with which the ring was declared, such as ``"WAKEABLE, TAILS"``."""
        return self._opened.options

    @property
    def access(self) -> str:
        """``"mapped"``, or why it is read by system call."""
        return self._opened.access

    def close(self) -> None:
        """Gives up the reader's seat in the ring. Further reads raise ValueError."""
        self._ahead.clear()
        self._reader.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        types = "untyped: " + self.types if self._layout.node is None else "types " + self.types
        return f"<Ring of {self.record_size} bytes, {self.shards} × {self.slots} slots, {types}; read {self.access}>"
