"""Bytes that a compiled step moves to and from a device's memory, counted in its schedule.

Each instruction reads its operands and writes its result, except what stays in on-chip memory; a
fusion that slices a stacked array reads the slice, and one that updates an array in place writes
the update. Loops count as often as they turn, which XLA's own cost analysis leaves out. A kernel is
counted as if it read each operand once.
"""

from __future__ import annotations

from collections.abc import Sequence

from lilith.pods.collectives import (
    KINDS,
    channel,
    inner_collective,
    kind_of_fusion,
    split_tuple,
)
from lilith.pods.hlo import Computation, Instruction, Module, array_bytes

# These name or pass on arrays, wait for what another instruction moves, or make nothing of size.
_FREE = frozenset(
    (
        "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional",
        "call", "after-all", "partition-id", "replica-id", "opt-barrier", "domain",
    )
)  # fmt: skip
_FREE_TARGETS = ("ConcatBitcast", "AllocateBuffer", "Sharding")


def hbm_traffic(module: Module, turns: Sequence[int] = ()) -> float:
    """Bytes that one device reads from and writes to its memory in one step.

    Args:
      turns: of loops of unknown length, see :meth:`Module.scheduled`.
    """
    return sum(
        times * _of_schedule(module, computation) for computation, times in module.scheduled(turns)
    )


def _of_schedule(module: Module, computation: Computation) -> float:
    total = 0.0
    carried: set[str] = set()  # channels of collectives that several fusions carry on
    for own in computation.instructions:
        if own.opcode in _FREE or own.opcode.endswith(("-done", "-update")):
            continue
        if own.opcode == "custom-call" and any(name in own.attributes for name in _FREE_TARGETS):
            continue
        if own.opcode == "fusion":
            total += _of_fusion(module, own)
            inner = inner_collective(module, own)
            if inner is not None:
                name = channel(inner) or own.name
                total += 0.0 if name in carried else _of_inner_collective(module, own, inner)
                carried.add(name)
        else:
            total += _of_instruction(computation, own)
    return total


def _of_inner_collective(module: Module, fusion: Instruction, inner: Instruction) -> float:
    """What the collective of a fusion reads and, unless the fusion keeps a slice of it, writes."""
    called = module.computations[fusion.called("calls") or ""]
    read = _reads([called.by_name[name] for name in inner.operands if name in called.by_name])
    kept = kind_of_fusion(inner, fusion) != inner.opcode
    return read if kept else read + array_bytes(inner.shape, hbm_only=True)


def _of_instruction(computation: Computation, own: Instruction) -> float:
    written = array_bytes(own.shape, hbm_only=True)
    operands = [computation.by_name[name] for name in own.operands if name in computation.by_name]
    if own.opcode in ("copy-start", "async-start") or own.opcode.removesuffix("-start") in KINDS:
        # The result of a start is a tuple of what is read and what is written.
        return written if own.opcode.endswith("-start") else written + _reads(operands)
    if own.opcode == "slice-start":
        source, result = split_tuple(own.shape)[:2]
        in_hbm = array_bytes(source, hbm_only=True) > 0
        return array_bytes(result, hbm_only=True) + (array_bytes(result) if in_hbm else 0.0)
    if own.opcode in ("dynamic-slice", "slice", "gather"):
        return written + (array_bytes(own.shape) if _reads(operands[:1]) else 0.0)
    if own.opcode == "dynamic-update-slice":
        return 2 * _reads(operands[1:2])
    return written + _reads(operands)


def _reads(operands: list[Instruction]) -> float:
    return sum(array_bytes(own.shape, hbm_only=True) for own in operands)


def _of_fusion(module: Module, fusion: Instruction) -> float:
    called = module.computations[fusion.called("calls") or ""]
    parameters = [own for own in called.instructions if own.opcode == "parameter"]
    reads = sum(_read_of(module, called, own) for own in parameters)
    root = called.root
    results = [called.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
    return reads + sum(_write_of(called, own) for own in results)


def _read_of(module: Module, called: Computation, array: Instruction) -> float:
    """What a fusion reads of one of its parameters (or of a bitcast of it)."""
    whole = array_bytes(array.shape, hbm_only=True)
    if not whole:
        return 0.0
    total = 0.0
    for user in called.instructions:
        if array.name not in user.operands:
            continue
        first = user.operands[0] == array.name
        if user.opcode in ("dynamic-slice", "slice", "gather") and first:
            total += array_bytes(user.shape)
        elif user.opcode == "bitcast":
            total += _read_of(module, called, user)
        elif user.opcode == "fusion":
            inner = module.computations[user.called("calls") or ""]
            for place, name in enumerate(user.operands):
                if name == array.name:
                    total += _read_of(module, inner, _parameter(inner, place))
        elif user.opcode == "tuple" or _carries(user):
            continue  # passed on; what a collective reads is counted with it
        elif user.opcode == "dynamic-update-slice" and first:
            continue  # updated in place
        else:
            return whole
    return min(total, whole)


def _carries(own: Instruction) -> bool:
    """A collective, or what hands one on to the next fusion."""
    return own.opcode.removesuffix("-start") in KINDS or "AsyncCollective" in own.attributes


def _parameter(computation: Computation, number: int) -> Instruction:
    return next(
        own
        for own in computation.instructions
        if own.opcode == "parameter" and own.arguments == str(number)
    )


def _write_of(called: Computation, result: Instruction) -> float:
    if result.opcode == "bitcast":
        return _write_of(called, called.by_name[result.operands[0]])
    if result.opcode == "parameter" or _carries(result):
        return 0.0
    if result.opcode == "dynamic-update-slice":
        if not array_bytes(result.shape, hbm_only=True):
            return 0.0
        return array_bytes(called.by_name[result.operands[1]].shape)
    return array_bytes(result.shape, hbm_only=True)
