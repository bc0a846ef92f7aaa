"""Commands, from this process to BPF programs."""

from __future__ import annotations

import time
from typing import Any, Optional

from ._mapring import CommandRing
from ._types import Layout


class Commands:
    """A ring of commands. The next event of a program carries each out, once and in order, and counts it as acknowledged.

    One process pushes at a time: from its first `push` until it calls `close` or ends.
    """

    def __init__(self, ring: CommandRing, layout: Layout, slots: int) -> None:
        self._ring, self._layout = ring, layout
        #: How many commands can wait for programs.
        self.slots = slots

    def push(self, raw: Any = None, /, **fields: Any) -> int:
        """Pushes a command, and returns its number: 1 for the first one. ``raw`` is all its bytes; without it they are zeros.
        ``fields`` are then put in: ints, floats, bytes, sequences for arrays, dicts for structs. Makes no system call, but the first
        time.

        Raises `Error` with the kind ``"Full"`` if all slots are taken, ``"OtherWriters"`` if another process pushes, and
        ``"NotWritable"`` if this process may not.
        """
        command = bytearray(self._layout.size if raw is None else bytes(raw))
        if len(command) != self._layout.size:
            raise ValueError(f"a command has {self._layout.size} bytes, not {len(command)}")
        self._layout.put(command, fields)
        return self._ring.push(bytes(command))

    def wait(self, number: int, timeout: Optional[float] = None) -> bool:
        """Waits until programs have carried out the command with this number, at most for ``timeout`` seconds. Returns whether they
        have. It looks once in a millisecond: a program carries commands out at its next event."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.acknowledged < number:
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.001)
        return True

    @property
    def pushed(self) -> int:
        """How many commands were pushed."""
        return self._ring.counts()[0]

    @property
    def acknowledged(self) -> int:
        """How many commands programs carried out, or skipped."""
        return self._ring.counts()[1]

    @property
    def skipped(self) -> int:
        """How often programs skipped words that are no command: something else writes this memory."""
        return self._ring.counts()[2]

    @property
    def owner(self) -> Optional[int]:
        """The pid of the process that pushes, or did when it died."""
        return self._ring.counts()[3]

    def close(self) -> None:
        """Lets another process push."""
        self._ring.close()

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Commands of {self._layout.size} bytes, {self.slots} slots, {self._layout.why}>"
