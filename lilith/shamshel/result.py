"""What a run hands back."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

from .steps import REMEDIES

PROCESS_LEVEL_WARNING = (
    "level 'process': resource limits and a process group only; the program could read and write "
    "whatever its user can, and use the network"
)
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(raw: bytes, errors: str = "replace") -> str:
    """Return text that is safe to print: control characters and text directions are spelt out.

    New lines and tabs stay. Bytes that are not UTF-8 become the replacement character, or what
    `errors` says, as in `bytes.decode`.
    """
    text = raw.decode("utf-8", errors).replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        _shown(c)
        if c not in "\n\t" and (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI)
        else c
        for c in text
    )


@dataclass(frozen=True)
class Run:
    """The outcome of one run or of one cell.

    status: "ok"; "error" (ended with an exit code other than 0); "timeout" (wall or processor
    time); "memory"; "output" (printed more than allowed); "killed" (by a signal); "refused" (not
    run; see `reason`). stdout, stderr: safe to print; the exact bytes are `raw_stdout` and
    `raw_stderr`. exit_code: None when a signal ended it. signal: its number, or None. wall_s,
    cpu_s: seconds. peak_mb: MiB over all processes. files: what was written, by name. cut: which
    of "stdout", "stderr" and "files" were shortened. level: the isolation that was in force.
    warning: what that level leaves open. state_lost: a session began anew for this cell, or will
    for the next.
    """

    status: str
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    signal: int | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    files: dict[str, bytes] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    reason: str = ""
    level: str = "default"
    warning: str = ""
    raw_stdout: bytes = b""
    raw_stderr: bytes = b""
    state_lost: bool = False


def _captured(message: dict[str, Any], name: str, limit_kb: int) -> str:
    text = printable(message[name])
    return text + f"\n[{name} cut at {limit_kb} KiB]" if name in message["cut"] else text


def warning_of(level: str) -> str:
    """What a level leaves open, in words; "" for the default."""
    return PROCESS_LEVEL_WARNING if level == "process" else ""


def refusal(mechanism: str, reason: str, level: str) -> Run:
    """A run that did not start because `mechanism` is lacking."""
    remedy = REMEDIES.get(mechanism, "")
    remedy = f" Remedy: {remedy}." if remedy else ""
    text = f"{mechanism}: {reason}.{remedy} Limits(level='process') runs without isolation."
    return Run("refused", reason=text, level=level, warning=warning_of(level))


def from_message(message: dict[str, Any], level: str, output_kb: int) -> Run:
    """Turn a supervisor's message into a result."""
    if message.get("failure"):
        mechanism, reason = message["failure"]
        return refusal(mechanism, reason, level)
    files = {
        printable(name.replace(b"\n", b"\\n").replace(b"\t", b"\\t"), "backslashreplace"): raw
        for name, raw in message["files"].items()
    }
    return Run(
        status=message["status"],
        stdout=_captured(message, "stdout", output_kb),
        stderr=_captured(message, "stderr", output_kb),
        exit_code=message["exit_code"],
        signal=message["signal"],
        wall_s=message["wall_s"],
        cpu_s=message["cpu_s"],
        peak_mb=message["peak_bytes"] / (1 << 20),
        files=files,
        cut=tuple(message["cut"]),
        level=level,
        warning=warning_of(level),
        raw_stdout=message["stdout"],
        raw_stderr=message["stderr"],
    )
