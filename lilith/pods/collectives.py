"""The collectives of a compiled step: what moves, over which mesh axis, beside which compute."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lilith.pods.hlo import Computation, Instruction, Module, array_bytes

KINDS = (
    "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute",
    "ragged-all-to-all", "collective-broadcast",
)  # fmt: skip
UNKNOWN_AXES = "?"

_CHANNEL = re.compile(r"channel_id=(\d+)")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}")
_DEVICE_IDS = re.compile(r"device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\)")
_MESH_AXIS = re.compile(r"'([^']+)'(?:=(\d+)|:\((\d+)\)(\d+))?")


@dataclass(frozen=True)
class Collective:
    """One collective of the schedule.

    Attributes:
      kind: one of :data:`KINDS`.
      axes: mesh axes it runs over, joined by ``+``; ``?`` if its groups are no product of axes.
      group: devices that take part together.
      array_bytes: the whole array, as each device would hold it unsplit (once).
      wire_bytes: what a device sends (once), in the fewest bytes that a ring can do it with.
      times: how often it runs in one step.
      asynchronous: it is started and awaited in two places of the schedule.
      overlapped: and a matrix product or kernel runs in between.
      source: what of the program asked for it.
    """

    kind: str
    axes: str
    group: int
    array_bytes: float
    wire_bytes: float
    times: int
    asynchronous: bool
    overlapped: bool
    source: str


def collectives(
    module: Module, mesh: Mapping[str, int], turns: Sequence[int] = ()
) -> list[Collective]:
    """Every collective of the step, in no order.

    Args:
      mesh: sizes of the mesh axes, outermost first; device ids count through them in that order.
      turns: of loops of unknown length, see :meth:`Module.scheduled`.
    """
    found = []
    for computation, times in module.scheduled(turns):
        found += _of_schedule(module, computation, times, mesh)
    return [own for own in found if own.group > 1]


def _of_schedule(
    module: Module, computation: Computation, times: int, mesh: Mapping[str, int]
) -> list[Collective]:
    """Collectives of one sequence of instructions.

    A collective appears as one instruction; as a pair ``-start`` and ``-done``; as ``async-start``
    around a computation; or, on TPUs, as several fusions that carry it on beside their own compute
    (the "async collective fusion"), which share its channel.
    """
    compute = [_is_compute(module, own) for own in computation.instructions]
    found: list[Collective] = []
    fused: dict[str, tuple[Instruction, Instruction, list[int]]] = {}
    for place, own in enumerate(computation.instructions):
        kind = own.opcode.removesuffix("-start")
        if kind in KINDS and own.opcode == kind:
            found.append(_collective(kind, own, mesh, times))
        elif kind in KINDS or own.opcode == "async-start":
            inner = own if kind in KINDS else inner_collective(module, own)
            if inner is not None:
                end = _done(computation, place)
                kind = _kind_inside(module, own, inner).removesuffix("-start")
                overlapped = any(compute[place + 1 : end])
                found.append(_collective(kind, inner, mesh, times, True, overlapped))
        elif own.opcode == "fusion":
            inner = inner_collective(module, own)
            if inner is not None:
                key = channel(inner) or own.name
                fused.setdefault(key, (inner, own, []))[2].append(place)
    for inner, fusion, places in fused.values():
        first, last = places[0], places[-1]
        overlapped = any(compute[place] for place in places[1:]) or any(compute[first + 1 : last])
        kind = kind_of_fusion(inner, fusion)
        found.append(_collective(kind, inner, mesh, times, last > first, overlapped))
    return found


def inner_collective(module: Module, outer: Instruction) -> Instruction | None:
    """The collective inside a fusion or an asynchronous call."""
    for own in module.within(outer):
        if own.opcode.removesuffix("-start") in KINDS:
            return own
    return None


def kind_of_fusion(inner: Instruction, fusion: Instruction) -> str:
    """On TPUs a sum of which each device keeps a part is a fusion of an all-reduce and a slice."""
    scatters = "reduce-scatter" in (fusion.called("calls") or "")
    return "reduce-scatter" if inner.opcode == "all-reduce" and scatters else inner.opcode


def _kind_inside(module: Module, outer: Instruction, inner: Instruction) -> str:
    """The kind of an asynchronous call's collective, which may be in a fusion of its own."""
    kinds = {kind_of_fusion(inner, own) for own in (outer, *module.within(outer))}
    return next(iter(kinds - {inner.opcode}), inner.opcode)


def _is_compute(module: Module, instruction: Instruction) -> bool:
    """A matrix product, a kernel, a loop, or a fusion that has one of them."""
    own = (instruction, *module.within(instruction)) if instruction.opcode == "fusion" else (
        instruction,
    )  # fmt: skip
    return any(
        inner.opcode in ("convolution", "dot", "while")
        or (inner.opcode == "custom-call" and "tpu_custom_call" in inner.attributes)
        for inner in own
    )


def _done(computation: Computation, start: int) -> int:
    """The place where an asynchronous instruction is awaited."""
    names = {computation.instructions[start].name}
    for place in range(start + 1, len(computation.instructions)):
        own = computation.instructions[place]
        if names.intersection(own.operands):
            if own.opcode.endswith("-done"):
                return place
            if own.opcode.endswith("-update"):
                names.add(own.name)
    return start + 1


def channel(instruction: Instruction) -> str | None:
    """The number that the parts of one collective share."""
    found = _CHANNEL.search(instruction.attributes)
    return None if found is None else found[1]


def _collective(
    kind: str,
    inner: Instruction,
    mesh: Mapping[str, int],
    times: int,
    asynchronous: bool = False,
    overlapped: bool = False,
) -> Collective:
    groups = device_groups(inner.attributes, math.prod(mesh.values()))
    axes = mesh_axes(groups, mesh, pairs=kind == "collective-permute")
    # Groups that can not be read may be all devices: better shown with a "?" than left out.
    size = len(groups[0]) if groups else math.prod(mesh.values())
    whole = _whole_bytes(kind, inner, size)
    return Collective(
        kind, axes, size, whole, whole * ring_share(kind, size), times, asynchronous, overlapped,
        inner.op_name,
    )  # fmt: skip


def _whole_bytes(kind: str, inner: Instruction, size: int) -> float:
    shape = inner.shape
    if inner.opcode.endswith("-start"):  # a tuple of operands, results and what the pair shares
        parts = [own for own in split_tuple(shape) if array_bytes(own) > 8]
        return max(map(array_bytes, parts), default=0.0)
    result = array_bytes(shape)
    return result * size if inner.opcode == "reduce-scatter" else result


def split_tuple(shape: str) -> list[str]:
    """The top-level parts of a printed tuple shape."""
    parts, depth, last = [], 0, 1
    for place, letter in enumerate(shape):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        if (depth == 1 and letter == ",") or depth == 0:
            parts.append(shape[last:place])
            last = place + 1
    return parts


def ring_share(kind: str, size: int) -> float:
    """Bytes that each of ``size`` devices must send for each byte of the whole array."""
    rest = (size - 1) / size
    return {"all-reduce": 2 * rest, "collective-permute": 1.0, "collective-broadcast": 1.0}.get(
        kind, rest
    )


def device_groups(attributes: str, devices: int) -> list[list[int]] | None:
    """The device ids that take part together, or the pairs of a permutation; None if unreadable.

    Three ways of printing are read: lists, ``[groups,size]<=[sizes]T(order)``, and
    ``mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}``, whose device order may be absent and
    where ``'b':(1)2`` is the outer part, of two, of an axis.
    """
    listed = _LISTED.search(attributes)
    if listed:
        return [
            [int(number) for number in group.split(",")]
            for group in re.findall(r"\{([\d, ]+)\}", listed[1])
        ]
    iota = _IOTA.search(attributes)
    if iota:
        shape, sizes = _numbers(iota[1]), _numbers(iota[2])
        ids = np.arange(math.prod(sizes)).reshape(sizes)
        ids = ids.transpose(_numbers(iota[3])) if iota[3] else ids
        return ids.reshape(shape).tolist()
    found = _MESH.search(attributes)
    if found:
        return _groups_of_mesh(found[1], found[2], found[3])
    if "replica_groups={}" in attributes:
        return [list(range(devices))]
    return None


def _groups_of_mesh(mesh: str, order: str, chosen: str) -> list[list[int]]:
    names = [(name, int(size)) for name, size, _, _ in _MESH_AXIS.findall(mesh)]
    parts = {name: (before, size) for name, _, before, size in _MESH_AXIS.findall(chosen)}
    sizes: list[int] = []
    inside: list[int] = []  # dimensions of the split mesh that a group spans
    for name, size in names:
        if name in parts and parts[name][1]:
            before, own = int(parts[name][0]), int(parts[name][1])
            inside.append(len(sizes) + 1)
            sizes += [before, own, size // (before * own)]
        else:
            if name in parts:
                inside.append(len(sizes))
            sizes.append(size)
    outside = [place for place in range(len(sizes)) if place not in inside]
    ids = np.arange(math.prod(sizes))
    permuted = _DEVICE_IDS.search(order)
    if permuted:
        ids = ids.reshape(_numbers(permuted[1])).transpose(_numbers(permuted[2]))
    ids = ids.reshape(sizes).transpose(outside + inside)
    return ids.reshape(-1, math.prod(sizes[place] for place in inside)).tolist()


def mesh_axes(
    groups: Sequence[Sequence[int]] | None, mesh: Mapping[str, int], *, pairs: bool = False
) -> str:
    """The mesh axes along which the devices of a group differ.

    Args:
      pairs: the groups are sources and targets, which need not fill an axis.
    """
    if not groups:
        return UNKNOWN_AXES
    if max(map(max, groups)) >= math.prod(mesh.values()):
        return UNKNOWN_AXES
    places = np.stack([np.unravel_index(np.asarray(group), tuple(mesh.values()))
                       for group in groups])  # fmt: skip
    varies = (places != places[:, :, :1]).any(axis=(0, 2))
    names = [name for name, own in zip(mesh, varies) if own]
    whole = math.prod(mesh[name] for name in names)
    if not pairs and whole != len(groups[0]):
        return UNKNOWN_AXES
    return "+".join(names) or "none"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
