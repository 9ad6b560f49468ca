"""Conversations of an agent in files: whole or not at all, with their version."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lilith.agent.roles import SYSTEM_PROMPTS
from lilith.agent.tool_results import References
from lilith.agent.turn import AgentTurn
from lilith.config import UserError
from lilith.reasoning.trace import TraceError, read_record, written_record

FORMAT = "lilith-agent-conversation-1"
MOST_BYTES = 256 << 20  # of a file
MOST_OF_REFERENCES = 16 << 20  # characters; the oldest are left out of a file


@dataclass(frozen=True)
class Saved:
    """A conversation as a file holds it.

    Attributes:
      role, system_prompt: of the agent.
      tools: names of those that it was granted; loading grants none.
      turns: oldest first.
      references: as :meth:`lilith.agent.tool_results.References.to_json` gives them.
    """

    role: str | None
    system_prompt: str
    tools: tuple[str, ...]
    turns: tuple[AgentTurn, ...]
    references: Mapping[str, Any]

    def kept(self) -> References:
        """The values that were kept by reference."""
        return References.from_json(self.references)


def save(path: Path, saved: Saved) -> Path:
    """Write a conversation; returns where.

    Raises:
      UserError: the file can not be written, or exists and is no conversation.
    """
    path = path.expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    if path.exists() and not _is_conversation(path):
        raise UserError(f"{path} exists and is no saved conversation; choose another name")
    small = Saved(
        saved.role, saved.system_prompt, saved.tools, saved.turns, _bounded(saved.references)
    )
    try:
        text = written_record(small, "conversation", FORMAT)
    except TraceError as error:
        raise UserError(f"the conversation can not be saved: {error}") from None
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path} can not be written: {error.strerror or error}") from None
    return path


def load(path: Path) -> Saved:
    """Read a conversation.

    Raises:
      UserError: the file can not be read, is no conversation, or one of another version.
    """
    path = path.expanduser()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB, and no conversation")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} can not be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text, and so no saved conversation") from None
    version = _format_of(text)
    if version != FORMAT and version.startswith(FORMAT.rpartition("-")[0]):
        raise UserError(
            f"{path} was saved by another version of LILITH: its format is {version[:60]!r}, and "
            f"this version reads {FORMAT!r}"
        )
    try:
        saved: Saved = read_record(Saved, text, "conversation", FORMAT)
        saved.kept()
    except TraceError as error:
        raise UserError(f"{path} is no saved conversation: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no saved conversation: its references can not be read ({error})"
        ) from None
    for call in (call for turn in saved.turns for call in turn.calls):
        if not isinstance(_json_of(call.shown), dict):
            raise UserError(f"{path} is no saved conversation: a result in it is no JSON object")
    if saved.role is not None and saved.role not in SYSTEM_PROMPTS:
        raise UserError(f"{path} is of the role {saved.role[:60]!r}, which there is none of")
    return saved


def _is_conversation(path: Path) -> bool:
    try:
        start = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return _format_of(start).startswith(FORMAT.rpartition("-")[0])


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _format_of(text: str) -> str:
    content = _json_of(text)
    version = content.get("format") if isinstance(content, dict) else None
    return version if isinstance(version, str) else ""


def _bounded(references: Mapping[str, Any]) -> dict[str, Any]:
    """References whose newest values together are not too much for a file."""
    left, kept = MOST_OF_REFERENCES, {}
    for name, value in reversed(references["values"].items()):
        left -= len(json.dumps(value))
        if left < 0:
            break
        kept[name] = value
    return {"count": references["count"], "values": dict(reversed(kept.items()))}
