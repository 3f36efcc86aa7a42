"""What an ONNX file says of itself, read without the package ``onnx``: its inputs and outputs, and its notes.

The format is Protocol Buffers: fields with a number, a wire type and a value. Only the few that are needed here are
looked at; weights are stepped over. Nothing of a file is ever executed, and nothing outside of it is opened.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FLOAT = 1
"""Number of the element type float32."""
_MOST_NOTES, _LONGEST_NOTE = 1000, 1_000_000  # number, bytes
_EXTERNAL = 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output.

    Attributes:
        name: in the graph.
        element: number of its type, 0 where it is not said.
        shape: its sides; 0 for one that the file leaves open.
    """

    name: str
    element: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in the file.

    Attributes:
        inputs, outputs: in their order; weights are no inputs.
        notes: by key, such as ``names`` and ``task`` of Ultralytics' exports.
        external: whether weights lie in another file.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    notes: dict[str, str]
    external: bool = False

    def class_names(self) -> dict[int, str]:
        """The names of the classes by number, where the notes have them; else empty."""
        try:
            value = ast.literal_eval(self.notes.get("names", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return {}
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {number: name for number, name in pairs if isinstance(number, int) and isinstance(name, str)}


def read(data: bytes) -> Header:
    """Reads a file's bytes.

    Raises:
        ValueError: it is no ONNX file, or is damaged.
    """
    graph: memoryview | None = None
    notes: dict[str, str] = {}
    for number, value in _fields(memoryview(data)):
        if number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 14 and isinstance(value, memoryview) and len(notes) < _MOST_NOTES:
            pair = dict(_fields(value))
            notes[_text(pair.get(1))] = _text(pair.get(2))
    if graph is None:
        raise ValueError("it has no network in it")
    weights, inputs, outputs, external = set(), [], [], False
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 5:
            weight = dict(_fields(value))
            weights.add(_text(weight.get(8)))
            external = external or weight.get(14) == _EXTERNAL
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_tensor(value))
    return Header(tuple(one for one in inputs if one.name not in weights), tuple(outputs), notes, external)


def _tensor(data: memoryview) -> Tensor:
    """A ValueInfoProto."""
    value = dict(_fields(data))
    tensor = dict(_fields(_part(dict(_fields(_part(value.get(2)))).get(1))))
    element = tensor.get(1)
    shape = []
    for number, dimension in _fields(_part(tensor.get(2))):
        if number == 1:
            side = dict(_fields(_part(dimension))).get(1, 0)
            shape.append(side if isinstance(side, int) and 0 < side < 2**31 else 0)
    return Tensor(_text(value.get(1)), element if isinstance(element, int) else 0, tuple(shape))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field of a message: a whole number, or bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _whole(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _whole(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _whole(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is no ONNX file, or is damaged")
        if not number or at + length > end:
            raise ValueError("it is no ONNX file, or its end is missing")
        yield number, data[at:at + length]
        at += length


def _whole(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number of up to ten bytes, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file, or its end is missing")


def _part(value: int | memoryview | None) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def _text(value: int | memoryview | None) -> str:
    return bytes(_part(value)[:_LONGEST_NOTE]).decode("utf-8", "replace")
