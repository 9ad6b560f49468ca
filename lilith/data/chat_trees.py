"""Conversations in OASST's trees: the best-ranked path from the first message of each.

A tree holds several replies to a message. Of each the one with the lowest ``rank`` (0 is the best;
replies without a rank come last, in the order of the file) goes on; deleted replies are passed by.
One path a tree, so that no answer is learnt twice and no tree lies on both sides of the split. The
path ends with its last answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lilith.data.chat_report import RecordError
from lilith.data.chat_shapes import Parsed, parse_oasst, text_of, wrong_type

Record = Mapping[str, Any]


def parse_tree(record: Record) -> Parsed:
    """The best path of a nested tree: ``{"prompt": {...}}`` of the export, or its first message.

    Raises:
      RecordError: the tree is not well formed.
    """
    root = record.get("prompt", record)
    if not isinstance(root, Mapping):
        raise wrong_type("prompt", root, "a JSON object")
    rest = {k: v for k, v in record.items() if k in ("message_tree_id", "tree_state", "metadata")}
    metadata = rest.pop("metadata", None) or {}
    if not isinstance(metadata, Mapping):
        raise wrong_type("metadata", metadata, "a JSON object")
    return parse_oasst(_best_path(root), rest | dict(metadata))


def trees_of(rows: Iterable[tuple[str, Record]]) -> tuple[list[tuple[str, dict[str, Any]]],
                                                          list[RecordError]]:  # fmt: skip
    """Nested trees from rows that name their parent, and the rows that have no place in any.

    Args:
      rows: of each message where it stands, and ``{"message_id", "parent_id", "text", "role"}``.

    Returns:
      Of each tree where its first message stands, and the message with its ``replies``.
    """
    nodes: dict[str, tuple[str, dict[str, Any]]] = {}
    errors: list[RecordError] = []
    for where, row in rows:
        try:
            name = text_of(row, "message_id")
            if name in nodes:
                raise RecordError("duplicate message", f"message_id {name!r} is there twice")
            nodes[name] = (where, {**row, "replies": []})
        except RecordError as error:
            errors.append(RecordError(error.reason, f"{where}: {error}"))
    roots = [(where, node) for where, node in nodes.values() if node.get("parent_id") is None]
    for _, node in nodes.values():
        parent = node.get("parent_id")
        if isinstance(parent, str) and parent in nodes:
            nodes[parent][1]["replies"].append(node)
    placed: set[str] = set()
    queue = [node for _, node in roots]
    while queue:
        node = queue.pop()
        placed.add(node["message_id"])
        queue += node["replies"]
    errors += [
        RecordError(
            "outside every tree",
            f"{where}: parent_id {node['parent_id']!r} leads to no first message of the file",
        )
        for name, (where, node) in nodes.items()
        if name not in placed
    ]
    return roots, errors


def _best_path(root: Record) -> list[Record]:
    path = [root]
    while replies := _replies(path[-1]):
        path.append(min(replies, key=_rank))
    while len(path) > 1 and path[-1].get("role") == "prompter":
        path.pop()
    return path


def _replies(node: Record) -> list[Record]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise wrong_type("replies", replies, "a list of JSON objects")
    return [reply for reply in replies if not reply.get("deleted")]


def _rank(reply: Record) -> float:
    rank = reply.get("rank")
    return rank if isinstance(rank, (int, float)) else math.inf
