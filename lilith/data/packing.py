"""Documents of any length into rows of one length, wasting little and dropping nothing.

A document is stored as ``[bos] tokens [eos]`` and is learnt as pairs of an input and the token
after it. Its pairs are cut into pieces of at most one row; the pieces that are shorter are packed
by best fit, longest first (best-fit decreasing; Johnson, 1974). A row's pieces are its segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_NAMES = ("starts", "lengths", "row_offsets")


@dataclass(frozen=True)
class Packing:
    """Which pieces make up each row.

    Attributes:
      starts: int64 [pieces], index of a piece's first input in the stream of tokens.
      lengths: int32 [pieces], how many inputs it has.
      row_offsets: int64 [rows + 1]; row i holds pieces row_offsets[i] up to row_offsets[i + 1].
    """

    starts: np.ndarray
    lengths: np.ndarray
    row_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    def save(self, folder: Path) -> None:
        """Write the three arrays into an existing folder."""
        for name in _NAMES:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Packing:
        """Map what :meth:`save` wrote into memory."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES))


def pack(offsets: np.ndarray, length: int) -> Packing:
    """Pack documents into rows of ``length`` inputs.

    Args:
      offsets: int64 [documents + 1]; document d is tokens offsets[d] up to offsets[d + 1] of the
        stream, bos and eos included, so it has one pair fewer than tokens.
      length: inputs a row.

    Returns:
      First the rows that one long document fills alone, in order, then the packed ones.
    """
    offsets = np.asarray(offsets, np.int64)
    pairs = np.maximum(np.diff(offsets) - 1, 0)
    whole = pairs // length
    documents = np.repeat(np.arange(len(pairs)), whole)
    first = np.repeat(np.cumsum(whole) - whole, whole)
    full_starts = offsets[documents] + (np.arange(len(documents)) - first) * length

    rest = pairs % length
    rest_starts = offsets[:-1] + whole * length
    order = np.argsort(-rest, kind="stable")
    order = order[rest[order] > 0]
    rows = _best_fit(rest[order].tolist(), length)
    packed = order[np.array([piece for row in rows for piece in row], np.int64)]
    sizes = np.array([len(row) for row in rows], np.int64)

    return Packing(
        starts=np.concatenate([full_starts, rest_starts[packed]]),
        lengths=np.concatenate([np.full(len(full_starts), length), rest[packed]]).astype(np.int32),
        row_offsets=np.concatenate(
            [np.arange(len(full_starts) + 1), len(full_starts) + np.cumsum(sizes)]
        ).astype(np.int64),
    )


def _best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Put each length, in order, into the fullest row with room for it, or open a new row.

    Rows are kept by the room they have left; one bit a size in ``open_sizes`` says where rows are,
    so that a row is found without a search.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    open_sizes = 0
    for piece, length in enumerate(lengths):
        fitting = open_sizes >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                open_sizes &= ~(1 << room)
            rows[row].append(piece)
        else:
            room, row = capacity, len(rows)
            rows.append([piece])
        left = room - length
        if left:
            by_room[left].append(row)
            open_sizes |= 1 << left
    return rows


class Rows:
    """Rows by index, made from a stream of tokens as a packing says.

    Args:
      tokens: [tokens] of any integer type, documents one after another.
      packing: which pieces of it make up each row.
      length: tokens a row.
      pad_id: fills the inputs and targets of padding.
    """

    def __init__(self, tokens: np.ndarray, packing: Packing, length: int, pad_id: int) -> None:
        self._tokens, self.packing, self.length, self._pad_id = tokens, packing, length, pad_id
        self._count = np.arange(length, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.packing)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Row ``index``: arrays of shape [length].

        int32 ``tokens``, ``targets`` (the next token of the same document), ``segment_ids`` (from
        1; 0 is padding) and ``positions`` (from 0 in each segment); float32 ``loss_mask``.
        """
        length = self.length
        tokens = np.full(length, self._pad_id, np.int32)
        targets = np.full(length, self._pad_id, np.int32)
        segment_ids = np.zeros(length, np.int32)
        positions = np.zeros(length, np.int32)
        loss_mask = np.zeros(length, np.float32)
        at = 0
        first, last = self.packing.row_offsets[index], self.packing.row_offsets[index + 1]
        for segment, piece in enumerate(range(first, last), 1):
            start, size = int(self.packing.starts[piece]), int(self.packing.lengths[piece])
            end = at + size
            stream = self._tokens[start : start + size + 1]
            tokens[at:end] = stream[:-1]
            targets[at:end] = stream[1:]
            segment_ids[at:end] = segment
            positions[at:end] = self._count[:size]
            at = end
        loss_mask[:at] = 1.0
        return {
            "tokens": tokens,
            "targets": targets,
            "segment_ids": segment_ids,
            "positions": positions,
            "loss_mask": loss_mask,
        }

    def padding(self) -> dict[str, np.ndarray]:
        """A row of nothing but padding, like :meth:`__getitem__`'s."""
        pad = np.full(self.length, self._pad_id, np.int32)
        zero = np.zeros(self.length, np.int32)
        return {
            "tokens": pad,
            "targets": pad,
            "segment_ids": zero,
            "positions": zero,
            "loss_mask": np.zeros(self.length, np.float32),
        }


class PackedRows(Rows):
    """Rows by index, read from a stream of tokens on disk. Small to pickle: it sends only paths.

    Args:
      tokens: file of the stream, uint16 or uint32 without header.
      dtype: which of the two.
      packing: folder of a saved :class:`Packing`.
      length: tokens a row.
      pad_id: fills the inputs and targets of padding.
    """

    def __init__(self, tokens: Path, dtype: str, packing: Path, length: int, pad_id: int) -> None:
        self._arguments = (tokens, dtype, packing, length, pad_id)
        empty = tokens.stat().st_size == 0  # an empty file can not be mapped
        stream = np.zeros(0, dtype) if empty else np.memmap(tokens, np.dtype(dtype), mode="r")
        super().__init__(stream, Packing.load(packing), length, pad_id)

    def __reduce__(self) -> tuple[type[PackedRows], tuple[Path, str, Path, int, int]]:
        return type(self), self._arguments
