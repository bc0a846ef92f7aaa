"""Types of records: numpy dtypes, and records with their fields as attributes. Events need no numpy."""

from __future__ import annotations

import importlib
import struct
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple, Type, Union

if TYPE_CHECKING:
    from ._mapring import Opened

#: What `Opened.types` returns: a code such as "u4", or a tuple.
Node = Union[str, Tuple[Any, ...]]

_STRUCT = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "f4": "f", "f8": "d", "?": "?"}


def _package(name: str) -> Any:
    """numpy or pyarrow, which only some methods need."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(f"this needs {name}: pip install {name}", name=name) from e


class Record:
    """Bytes with fields: ``record.name`` or ``record["name"]``. The values are made when they are asked for.

    Integers, enums and pointers are ints; a char array is the bytes before its first zero byte; other arrays of bytes are bytes;
    arrays are tuples; structs are records; bit fields are ints. A record that is no struct has one field, ``value``.
    """

    __slots__ = ("raw",)
    _fields: Dict[str, Callable[[bytes], Any]] = {}
    _made_from: Tuple[Any, Optional[Node]]

    def __init__(self, raw: bytes) -> None:
        #: All bytes of the record.
        self.raw = raw

    def __getitem__(self, name: str) -> Any:
        return self._fields[name](self.raw)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def keys(self) -> Iterator[str]:
        """The names of the fields: ``dict(record)`` has them all."""
        return iter(self._fields)

    def _shown(self) -> str:
        return ", ".join(f"{name}={read(self.raw)!r}" for name, read in self._fields.items()) or repr(self.raw)

    def __repr__(self) -> str:
        return f"<{self._shown()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.raw, self._fields.keys()) == (other.raw, other._fields.keys())

    __hash__ = None  # type: ignore[assignment]

    def _parts(self) -> Tuple[Any, ...]:
        return (self.raw,)

    def __reduce__(self) -> Tuple[Any, ...]:
        # Its class is made anew where it is unpickled.
        base, node = getattr(self, "_made_from", (type(self), None))
        return _restored, (base, node, self._parts())


_classes: Dict[str, Type[Any]] = {}


def _restored(base: Type[Record], node: Optional[Node], parts: Tuple[Any, ...]) -> Any:
    """A record that was pickled."""
    name = f"{base.__module__}.{base.__qualname__} {node!r}"
    if name not in _classes:
        _classes[name] = record_class(base, node)
    return _classes[name](*parts)


def record_class(base: Type[Record], node: Optional[Node]) -> Type[Any]:
    """A class whose attributes are the fields of the type. An attribute that `base` has keeps its meaning."""
    if node is None:
        return base
    if isinstance(node, str) or node[0] == "array":
        node = ("struct", 0, [("value", 0, node)], [])
    _, _, fields, bits = node
    readers = {name: _reader(at, part) for name, at, part in fields}
    readers.update((name, _bits(*rest)) for name, *rest in bits)

    def getter(read: Callable[[bytes], Any]) -> property:
        return property(lambda record: read(record.raw))

    own = [name for name in readers if not hasattr(base, name) and not name.startswith("__")]
    attributes = {name: getter(readers[name]) for name in own}
    made = {"__slots__": (), "_fields": readers, "_made_from": (base, node), "__module__": base.__module__}
    return type(base.__name__, (base,), {**attributes, **made})


def _reader(at: int, node: Node) -> Callable[[bytes], Any]:
    """What makes the value at this offset."""
    if isinstance(node, str):
        if node in _STRUCT:
            unpack = struct.Struct("=" + _STRUCT[node]).unpack_from
            return lambda raw: unpack(raw, at)[0]
        end = at + int(node[1:])
        if node[0] == "S":
            return lambda raw: raw[at:end].split(b"\0", 1)[0]
        return lambda raw: raw[at:end]
    if node[0] == "struct":
        inner, end = record_class(Record, node), at + node[1]
        return lambda raw: inner(raw[at:end])
    _, of, count = node
    if of == "u1":
        return lambda raw: raw[at : at + count]
    if isinstance(of, str) and of in _STRUCT:
        unpack = struct.Struct(f"={count}{_STRUCT[of]}").unpack_from
        return lambda raw: unpack(raw, at)
    readers, size = _reader(0, of), _size(of)
    return lambda raw: tuple(readers(raw[from_ : from_ + size]) for from_ in range(at, at + count * size, size))


def value(node: Node, raw: bytes) -> Any:
    """A value of a type: a number, bytes, a tuple, or a record."""
    return _reader(0, node)(raw)


def _put(raw: bytearray, at: int, node: Node, new: Any) -> None:
    """Puts a value into bytes, at this offset."""
    if isinstance(node, str) and node in _STRUCT:
        struct.pack_into("=" + _STRUCT[node], raw, at, new)
    elif isinstance(node, tuple) and node[0] == "struct" and isinstance(new, dict):
        places = {name: (offset, part) for name, offset, part in node[2]}
        for name, part in new.items():
            if name not in places:
                raise TypeError(f"there is no field {name!r} of bytes; there are {', '.join(places)}")
            _put(raw, at + places[name][0], places[name][1], part)
    elif isinstance(node, tuple) and node[0] == "array" and not isinstance(new, (bytes, bytearray)):
        if len(new) > node[2]:
            raise ValueError(f"an array has {node[2]} elements, not {len(new)}")
        for index, part in enumerate(new):
            _put(raw, at + index * _size(node[1]), node[1], part)
    else:
        new = bytes(getattr(new, "raw", new))
        if len(new) > _size(node):
            raise ValueError(f"it has {_size(node)} bytes, not {len(new)}")
        raw[at : at + len(new)] = new


def _bits(first: int, count: int, signed: bool) -> Callable[[bytes], int]:
    start, end = first // 8, (first + count + 7) // 8

    def read(raw: bytes) -> int:
        value = int.from_bytes(raw[start:end], "little") >> first % 8 & (1 << count) - 1
        return value - (1 << count) if signed and value >> count - 1 else value

    return read


def _size(node: Node) -> int:
    if isinstance(node, str):
        return 1 if node == "?" else int(node[1:])
    return int(node[1]) if node[0] == "struct" else _size(node[1]) * int(node[2])


def _dtype(node: Node) -> Any:
    """The dtype of a type. numpy has no bit fields, and a byte that should be a bool can have any value."""
    numpy = _package("numpy")

    if isinstance(node, str):
        return numpy.dtype("u1" if node == "?" else node)
    if node[0] == "array":
        return numpy.dtype((_dtype(node[1]), (node[2],)))
    _, size, fields, _ = node
    if not fields:
        return numpy.dtype(f"V{size}")
    names, offsets, parts = zip(*fields)
    formats = [_dtype(part) for part in parts]
    return numpy.dtype({"names": list(names), "formats": formats, "offsets": list(offsets), "itemsize": size})


def _node(dtype: Any) -> Node:
    """The type of a dtype."""
    if dtype.subdtype is not None:
        of, shape = dtype.subdtype
        node = _node(of)
        for count in reversed(shape):
            node = ("array", node, count)
        return node
    if dtype.fields is not None:
        return ("struct", dtype.itemsize, [(name, dtype.fields[name][1], _node(dtype.fields[name][0])) for name in dtype.names], [])
    code = "?" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize}"
    native = dtype.isnative and code in _STRUCT or dtype.kind in "SV"
    return code if native else f"V{dtype.itemsize}"


class Layout:
    """The type of a region's records, if it is known."""

    def __init__(self, size: int, node: Optional[Node], why: str, dtype: Any = None) -> None:
        self.size, self.node, self.why, self._dtype = size, node, why, dtype

    @classmethod
    def of(cls, opened: Opened, dtype: Any, what: str) -> Layout:
        size = opened.record_size
        if dtype is None:
            return cls(size, *opened.types())
        numpy = _package("numpy")

        dtype = numpy.dtype(dtype)
        if dtype.itemsize != size or dtype.hasobject:
            raise ValueError(
                f"{what} has records of {size} bytes, but the dtype has {dtype.itemsize}: use align=True for a C struct with padding"
            )
        return cls(size, _node(dtype), "by dtype=", dtype)

    @property
    def dtype(self) -> Any:
        if self._dtype is None:
            self._dtype = _dtype(f"V{self.size}" if self.node is None else self.node)
        return self._dtype

    def stamp(self, name: str) -> int:
        """The offset of a field of 8 bytes, such as ``"ns"`` or ``"head.ns"``."""
        at, node = 0, self.node
        for part in name.split("."):
            fields = node[2] if isinstance(node, tuple) and node[0] == "struct" else []
            found = [(offset, inner) for field, offset, inner in fields if field == part]
            if not found:
                raise ValueError(f"the records have no field {name!r}; their types are known {self.why!r}")
            at, node = at + found[0][0], found[0][1]
        if node not in ("u8", "i8"):
            raise ValueError(f"the field {name!r} is no integer of 8 bytes")
        return at

    def put(self, raw: bytearray, fields: Dict[str, Any]) -> None:
        """Puts fields into a record."""
        if fields and not (isinstance(self.node, tuple) and self.node[0] == "struct"):
            raise TypeError(f"no field can be named, since types are known {self.why!r}: pass bytes, or open it with dtype=")
        for name, new in fields.items():
            try:
                _put(raw, 0, self.node or "", {name: new})
            except struct.error as e:
                raise ValueError(f"{name}={new!r}: {e}") from None

    @property
    def texts(self) -> List[Tuple[int, int]]:
        """Where a record has char arrays, with their bytes."""
        return list(_texts(0, self.node or ""))

    def array(self, buffer: bytearray) -> Any:
        """An array over these bytes, which are not copied."""
        numpy = _package("numpy")

        return numpy.frombuffer(buffer, self.dtype)


def _texts(at: int, node: Node) -> Iterator[Tuple[int, int]]:
    if isinstance(node, str):
        if node.startswith("S"):
            yield at, int(node[1:])
    elif node[0] == "struct":
        for _, offset, part in node[2]:
            yield from _texts(at + offset, part)
    else:
        for index in range(node[2]):
            yield from _texts(at + index * _size(node[1]), node[1])


def to_arrow(records: Any) -> Any:
    """A structured array as a ``pyarrow.Table``: a column for each field. Char arrays become binary, up to their trailing zeros."""
    pyarrow = _package("pyarrow")

    if records.dtype.names is None:
        return pyarrow.table({"value": _column(records)})
    return pyarrow.table({name: _column(records[name]) for name in records.dtype.names})


def _column(values: Any) -> Any:
    numpy = _package("numpy")
    pyarrow = _package("pyarrow")

    if values.ndim > 1:
        flat = _column(values.reshape(-1, *values.shape[2:]) if values.ndim > 2 else values.reshape(-1))
        return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype.names:
        names = list(values.dtype.names)
        return pyarrow.StructArray.from_arrays([_column(values[name]) for name in names], names)
    if values.dtype.kind == "V":
        return pyarrow.array([bytes(value) for value in values], pyarrow.binary(values.dtype.itemsize))
    return pyarrow.array(numpy.ascontiguousarray(values))
