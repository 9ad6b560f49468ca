"""Reads the text of a compiled and scheduled XLA module.

The text is what ``compiled.as_text()`` gives: computations of instructions in the order in which
they run. Only what the reports need is read: names, shapes, operands and calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Bits of one element. A type that is not here (token, opaque) has no size.
BITS = {
    "pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
    "s32": 32, "u32": 32, "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64,
    "c64": 64, "c128": 128, "f4e2m1fn": 4, "f8e3m4": 8, "f8e4m3": 8, "f8e4m3fn": 8,
    "f8e4m3b11fnuz": 8, "f8e4m3fnuz": 8, "f8e5m2": 8, "f8e5m2fnuz": 8, "f8e8m0fnu": 8,
}  # fmt: skip

_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      shape: as printed, layouts and memory spaces in it.
      operands: names of instructions of the same computation.
      arguments: the text between the parentheses.
      attributes: the text after them.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool = False

    def called(self, kind: str) -> str | None:
        """The computation named by ``kind``: calls, to_apply, body, condition."""
        return next((name for k, name in _CALLED.findall(self.attributes) if k == kind), None)

    @property
    def op_name(self) -> str:
        """What of the traced function it comes from, named scopes in it; empty if not noted."""
        found = _OP_NAME.search(self.attributes)
        return found[1] if found else ""

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        found = _BRANCHES.search(self.attributes)
        if found:
            return _NAME.findall(found[1])
        kinds = ("true_computation", "false_computation")
        return [name for kind, name in _CALLED.findall(self.attributes) if kind in kinds]


@dataclass
class Computation:
    """Instructions in their order, and by name."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    by_name: dict[str, Instruction] = field(default_factory=dict)

    def add(self, instruction: Instruction) -> None:
        """Append an instruction."""
        self.instructions.append(instruction)
        self.by_name[instruction.name] = instruction

    @property
    def root(self) -> Instruction:
        """The instruction whose value is the computation's."""
        return next((own for own in self.instructions if own.is_root), self.instructions[-1])


@dataclass
class Module:
    """The computations of a program, and the one that it begins with."""

    computations: dict[str, Computation]
    entry: str

    def scheduled(self, turns: Sequence[int] = ()) -> Iterator[tuple[Computation, int]]:
        """Every computation that runs as a sequence of instructions, and how often in one step.

        Loops count as often as they turn. Each branch of a conditional counts once.

        Args:
          turns: of loops whose length the program does not fix, the outermost first and then those
            inside such a loop; 1 where there are none left.
        """
        queue = [(self.entry, 1, 0)]
        while queue:
            name, times, depth = queue.pop()
            computation = self.computations[name]
            yield computation, times
            for own in computation.instructions:
                if own.opcode == "while":
                    body, condition = own.called("body"), own.called("condition")
                    if body is not None and condition is not None:
                        count, inside = self.trip_count(own, condition), depth
                        if count is None:
                            count, inside = (*turns[depth:], 1)[0], depth + 1
                        queue.append((body, times * count, inside))
                elif own.opcode == "conditional":
                    queue += [(branch, times, depth) for branch in own.branches]
                elif own.opcode == "call":
                    called = own.called("to_apply")
                    queue += [] if called is None else [(called, times, depth)]

    def trip_count(self, loop: Instruction, condition: str) -> int | None:
        """How often a loop turns: as noted, or from its ``counter < constant``; None if unknown."""
        noted = _TRIPS.search(loop.attributes)
        if noted:
            return int(noted[1])
        computation = self.computations[condition]
        root = computation.root
        if root.opcode != "compare" or "direction=LT" not in root.attributes:
            return None
        limit = computation.by_name.get(root.operands[1])
        if limit is None or limit.opcode != "constant" or not limit.arguments.isdigit():
            return None
        return int(limit.arguments)

    def within(self, instruction: Instruction) -> Iterator[Instruction]:
        """The instructions of what a fusion or call contains, through all levels."""
        for kind in ("calls", "to_apply"):
            name = instruction.called(kind)
            if name in self.computations and instruction.opcode != "while":
                for own in self.computations[name].instructions:
                    yield own
                    yield from self.within(own)


def parse(text: str) -> Module:
    """Read the text of a module.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    pending: list[str] = []  # an instruction's lines: the attributes of a kernel run over several
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header:
                current = Computation(header[2])
                computations[current.name] = current
                entry = current.name if header[1] else entry
            continue
        begins = _INSTRUCTION.match(line) is not None
        if pending and (begins or line == "}"):
            current.add(_instruction(" ".join(pending)))
            pending = []
        if line == "}":
            current = None
        elif begins or pending:
            pending.append(line)
    if not entry:
        raise ValueError("the text of the module has no ENTRY computation")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction:
    found = _INSTRUCTION.match(line)
    assert found is not None
    is_root, name, text = bool(found[1]), found[2], found[3]
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    close = _closing(rest, len(opcode))
    arguments = rest[len(opcode) + 1 : close]
    operands = tuple(_NAME.findall(arguments))
    return Instruction(name, shape, opcode, operands, arguments, rest[close + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """The place of the parenthesis that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "(":
            depth += 1
        elif text[place] == ")":
            depth -= 1
            if depth == 0:
                return place
    return len(text)


def array_bytes(shape: str, *, hbm_only: bool = False) -> float:
    """Bytes of an array or of all arrays of a tuple, without padding.

    Args:
      hbm_only: leave out arrays in another memory space than the first, such as on-chip memory.
    """
    total = 0.0
    for kind, sizes, layout in _ARRAY.findall(shape):
        space = _SPACE.search(layout)
        if hbm_only and space is not None and space[1] != "0":
            continue
        count = 1
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += count * BITS.get(kind, 0) / 8
    return total
