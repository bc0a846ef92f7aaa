"""Global variables of BPF programs."""

from __future__ import annotations

from typing import Any, Iterator

from ._mapring import Section
from ._types import value


class Globals:
    """The global variables of a BPF object: a section such as ``.bss``. ``variables["name"]`` is the latest value, whole.

    Numbers of up to 8 bytes are read as they are. Larger values must be declared by MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH; `Error`
    says so of others. Needs CAP_SYS_ADMIN, for the names and types. Reading a mapped section makes no system call.
    """

    def __init__(self, section: Section) -> None:
        self._section = section

    def __getitem__(self, name: str) -> Any:
        return value(*self._section.read(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._section.names())

    def __len__(self) -> int:
        return len(self._section.names())

    def __contains__(self, name: object) -> bool:
        return name in self._section.names()

    def __repr__(self) -> str:
        return f"<Globals of {self._section.name}: {', '.join(self)}; read {self._section.access}>"
