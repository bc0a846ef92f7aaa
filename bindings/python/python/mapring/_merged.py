"""Several rings, read in the order of their records' stamps."""

from __future__ import annotations

from typing import Any, List, Tuple

from ._ahead import Ahead
from ._mapring import MergedReader
from ._ring import Event, Loss, Ring, Stats, Unended


class Merged(Ahead[Tuple[int, Event]]):
    """Several rings, which may have different record types, read in the order of their records' stamps. So important records can
    have a ring of their own, which a flood of others does not overwrite.

    >>> both = mapring.Merged(switches.merged("ns"), alerts.merged("ns"))
    >>> for ring, event in both:
    ...     print("alert" if ring == 1 else "switch", event)

    Each ring is one that `Ring.merged` returned, all with the same clock. Its reader moves here: the ring that was passed is
    closed then. Each event comes with the number of its ring, in the order of the arguments. A record that comes after a later
    stamp, of whichever ring, is counted by ``stats(ring).late``.
    """

    _reader: MergedReader

    def __init__(self, *rings: Ring) -> None:
        super().__init__()
        self._reader = MergedReader([ring._reader for ring in rings])
        self._events = [ring._event for ring in rings]

    def _event_of(self, parts: Tuple[Any, ...]) -> Tuple[int, Event]:
        ring, *rest = parts
        return ring, self._events[ring](*rest)

    def stats(self, ring: int) -> Stats:
        """What was delivered of a ring, and what is missing."""
        return Stats(**self._reader.stats(ring))

    def losses(self, ring: int) -> List[Loss]:
        """What is missing of a ring since the last call."""
        return [Loss(*parts) for parts in self._reader.losses(ring)]

    def unended(self, ring: int) -> List[Unended]:
        """Records of a ring that programs reserved and have not ended: see `Ring.unended`."""
        return [Unended(*parts) for parts in self._reader.unended(ring)]

    def close(self) -> None:
        """Gives up the seats in the rings. Further reads raise ValueError."""
        self._ahead.clear()
        self._reader.close()

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Merged of {len(self._events)} rings>"
