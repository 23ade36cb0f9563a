"""Pickles read as data: an interpreter of their opcodes that calls nothing they name.

A pickle is a program that builds its value by calling what it imports. Here nothing is imported: a name that a pickle
asks for is looked up in a table of functions of ours that make plain values and inert records, and a name that is not
there is refused.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from styletryon.errors import CheckpointError

MAX_OPCODES = 2_000_000
"""The largest checkpoints have some ten thousands; more would only fill the memory."""

_OPCODES = {code.code.encode("latin-1"): code for code in pickletools.opcodes}
_LENGTHS = {"BINBYTES": "<I", "BINBYTES8": "<Q", "BYTEARRAY8": "<Q"}
_MARK = object()


@dataclass
class Record:
    """An object of which only the name and the state are kept; nothing of its class is run.

    Attributes:
        name: The class, such as "argparse.Namespace".
        state: What the object was made of.
    """

    name: str
    state: Any = None


@dataclass(frozen=True)
class Global:
    """A name that a pickle asked for and that the table knows.

    Attributes:
        name: Module and name, joined by a dot.
        meaning: What stands for it here: a function of ours that makes values, or a constant.
    """

    name: str
    meaning: Any = field(compare=False)


@dataclass(frozen=True)
class Span:
    """A run of bytes of a file that is read when it is needed.

    Attributes:
        file: The file.
        start: Where it begins.
        length: How many bytes it has.
    """

    file: BinaryIO
    start: int
    length: int

    def read(self) -> bytes:
        """Read it."""
        self.file.seek(self.start)
        return self.file.read(self.length)


class Window:
    """A part of a file, read from its beginning; nothing beyond its end is read or allocated.

    Args:
        file: The file.
        start: Where the part begins.
        end: Where it ends.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.position, self.end = file, start, end

    def read(self, length: int) -> bytes:
        """Read so many bytes, or raise `CheckpointError`."""
        span = self.take(length)
        return span.read()

    def readline(self) -> bytes:
        """Read up to the end of a line, as the text opcodes of old pickles do."""
        self.file.seek(self.position)
        line = self.file.readline(self.end - self.position)
        self.position += len(line)
        return line

    def take(self, length: int) -> Span:
        """Pass over so many bytes and return where they are."""
        if not 0 <= length <= self.end - self.position:
            raise CheckpointError(
                f"damaged: {length} bytes are announced where {self.end - self.position} are left; get the file anew"
            )
        span = Span(self.file, self.position, length)
        self.position += length
        return span


def interpret(
    window: Window,
    table: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle from a window; afterwards the window stands behind it.

    Args:
        window: What to read.
        table: What each name that a pickle may ask for stands for: a function of ours, or a constant.
        persistent: Makes the value of a persistent identifier; None if there may be none.

    Returns:
        Plain values, and what the table's functions returned. Long bytes are a `Span`.

    Raises:
        CheckpointError: If the pickle asks for a name that is not in the table, or is damaged, or none.
    """
    machine = _Machine(window, table, persistent)
    try:
        return machine.run()
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error, OverflowError) as error:
        raise CheckpointError(f"no pickle that can be read ({type(error).__name__}: {error})") from error


class _Machine:
    """The stack and the memory of one pickle."""

    def __init__(
        self, window: Window, table: Mapping[str, Any], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.window, self.table, self.persistent = window, table, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            code = _OPCODES.get(self.window.read(1))
            if code is None:
                raise CheckpointError("no pickle: an unknown opcode")
            argument = self._argument(code)
            if code.name == "STOP":
                return self.stack.pop()
            if code.name in _PUSHED:
                self.stack.append(argument)
            elif code.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[code.name])
            elif code.name in _FACTORIES:
                self.stack.append(_FACTORIES[code.name]())
            else:
                step = getattr(self, f"_do_{code.name.lower()}", None)
                if step is None:
                    raise CheckpointError(f"the opcode {code.name}, which no checkpoint of a network needs, is refused")
                step(argument)
        raise CheckpointError(f"refused: more than {MAX_OPCODES} opcodes")

    def _argument(self, code: pickletools.OpcodeInfo) -> Any:
        if code.name in _LENGTHS:
            (length,) = struct.unpack(_LENGTHS[code.name], self.window.read(struct.calcsize(_LENGTHS[code.name])))
            return self.window.take(length)
        # The window has all that the readers call: `read`, which never returns less, and `readline`.
        return None if code.arg is None else code.arg.reader(self.window)  # type: ignore[arg-type]

    def _since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise CheckpointError("no pickle: a mark is missing")

    def _find(self, module: Any, name: Any) -> Global:
        full = f"{module}.{name}"
        if full not in self.table:
            raise CheckpointError(
                f"refused: it asks for {full!r}, which may run code; only tensors, arrays and plain values are read"
            )
        return Global(full, self.table[full])

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or not callable(function.meaning):
            name = function.name if isinstance(function, Global) else type(function).__name__
            raise CheckpointError(f"refused: it calls {name!r}")
        if not isinstance(arguments, tuple):
            raise CheckpointError(f"no pickle: {function.name!r} is called with no tuple")
        return function.meaning(*arguments)

    def _do_proto(self, version: int) -> None:
        if version > 5:
            raise CheckpointError(f"a pickle of protocol {version}, of which only 0 to 5 are known")

    def _do_frame(self, _: int) -> None:
        """Frames say how much to read at once."""

    def _do_mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _do_pop(self, _: None) -> None:
        self.stack.pop()

    def _do_pop_mark(self, _: None) -> None:
        self._since_mark()

    def _do_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _do_tuple1(self, _: None) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _do_tuple2(self, _: None) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _do_tuple3(self, _: None) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _do_list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _do_dict(self, _: None) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set_items(items)

    def _do_frozenset(self, _: None) -> None:
        self.stack.append(frozenset(_key(item) for item in self._since_mark()))

    def _do_append(self, _: None) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _do_appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise CheckpointError("no pickle: items are appended to what is no list")
        self.stack[-1].extend(items)

    def _do_additems(self, _: None) -> None:
        items = self._since_mark()
        self.stack[-1].update(_key(item) for item in items)

    def _do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _do_setitems(self, _: None) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise CheckpointError("no pickle: items are set in what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    def _do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _do_binget = _do_long_binget = _do_get

    def _do_global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self.stack.append(self._find(module, name))

    def _do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._find(module, name))

    def _do_inst(self, names: str) -> None:
        arguments = tuple(self._since_mark())
        module, _, name = names.partition(" ")
        self.stack.append(self._call(self._find(module, name), arguments))

    def _do_obj(self, _: None) -> None:
        function, *arguments = self._since_mark()
        self.stack.append(self._call(function, tuple(arguments)))

    def _do_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._call(function, arguments))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self, _: None) -> None:
        keywords, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if keywords:
            raise CheckpointError(f"refused: a class is called with keywords {sorted(keywords)}")
        self.stack.append(self._call(function, arguments))

    def _do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):  # attributes of a dictionary, such as versions of modules, are of no use
            raise CheckpointError(f"refused: it sets the state of {type(target).__name__}")

    def _do_persid(self, identifier: Any) -> None:
        if self.persistent is None:
            raise CheckpointError(f"refused: it refers to {identifier!r}, which is not in this file")
        self.stack.append(self.persistent(identifier))

    def _do_binpersid(self, _: None) -> None:
        self._do_persid(self.stack.pop())


_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_FACTORIES: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_PLAIN = (str, int, float, bytes, type(None))


def _key(value: Any) -> Any:
    """Return a key of a dictionary or a member of a set: plain, because hashing deep nests may take for ever."""
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, _PLAIN) for part in parts):
        raise CheckpointError(f"refused: a key of a dictionary is of type {type(value).__name__}")
    return value
