"""The prompts of a run of self-improvement: read, cleaned, drawn, some of them held out."""

from __future__ import annotations

import csv
import io
import pathlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.constitutional_config import ConstitutionalConfig
from lilith.config import ConfigError
from lilith.data.chat_readers import read_conversations
from lilith.data.chat_report import ChatReport
from lilith.data.files import expand, find_files, open_lines
from lilith.data.report import DataError
from lilith.reasoning.prompt_sets import PROMPT_SETS, load_prompts
from lilith.reasoning.self_improvement import HARMFUL, AskedPrompt

COLUMNS = ("prompt", "goal", "question", "text")  # of a .csv, the first that it has
# What a record may say of its own prompt; those of the other side are left out.
LABELS = {"safe": False, "unsafe": True}


@dataclass(frozen=True)
class Prompts:
    """What is learnt from, in an order of their own, and what is held out.

    Attributes:
      lines: what was read and left out, for the log.
    """

    learnt: tuple[AskedPrompt, ...]
    held_out: tuple[AskedPrompt, ...]
    lines: tuple[str, ...]


def gather_prompts(config: ConstitutionalConfig) -> Prompts:
    """Read the prompts of each kind and draw the run's.

    Raises:
      ConfigError: there are fewer than are asked for.
      DataError: a file is missing or can not be read.
    """
    learnt: list[AskedPrompt] = []
    held_out: list[AskedPrompt] = []
    lines = []
    seen: set[str] = set()  # over all kinds: a prompt is of one kind
    for kind in PROMPT_SETS:
        own, left_out = prompts_of_kind(config, kind, seen)
        wanted = getattr(config.prompts, kind)
        if wanted + config.prompts.held_out > len(own):
            raise ConfigError(
                f"prompts.{kind} is {wanted} and prompts.held_out is {config.prompts.held_out}, "
                f"but there are only {len(own)} {kind} prompts; lower one, or name more files"
            )
        random.Random(f"{config.seed} {kind}").shuffle(own)
        learnt += own[:wanted]
        held_out += own[wanted : wanted + config.prompts.held_out]
        words = "".join(f", {count} {why}" for why, count in left_out.items())
        lines.append(f"{kind}: {wanted} of {len(own)} prompts, {config.prompts.held_out} held out"
                     f"{words}")  # fmt: skip
    random.Random(f"{config.seed}").shuffle(learnt)
    return Prompts(tuple(learnt), tuple(held_out), tuple(lines))


def prompts_of_kind(
    config: ConstitutionalConfig, kind: str, seen: set[str]
) -> tuple[list[AskedPrompt], Counter[str]]:
    """The usable prompts of a kind, and how many were left out, by reason.

    Args:
      seen: prompts that count as repeated, in lower case; those found are added.

    Raises:
      DataError: a file is missing or can not be read.
    """
    files: tuple[str, ...] = getattr(config.prompts, f"{kind}_files")
    left_out: Counter[str] = Counter()
    found = []
    for text, label, category in _read(files, left_out) if files else _own(kind):
        key = " ".join(text.lower().split())
        if not key:
            left_out["empty"] += 1
        elif label in LABELS and LABELS[label] != (kind == HARMFUL):
            left_out[f"labelled {label}"] += 1
        elif key in seen:
            left_out["repeated"] += 1
        else:
            seen.add(key)
            found.append(AskedPrompt(text.strip(), kind, category))
    return found, left_out


def _own(kind: str) -> Iterator[tuple[str, str, str]]:
    for one in load_prompts(kind):
        yield one.prompt, "", one.category


def _read(files: tuple[str, ...], left_out: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Prompt, label and category of each record; records that hold none are counted."""
    for name in files:
        tables = find_files(expand(name), _is_table)
        if tables and all(_is_table(path.name) for path in tables):
            for path in tables:
                yield from _read_table(path)
            continue
        report = ChatReport()
        found = read_conversations(name, unanswered=True, on_error="skip", report=report)
        for record in found:
            first = next((m for m in record.messages if m["role"] == "user"), None)
            text = first.get("content") if first else ""
            yield str(text or ""), str(record.metadata.get("label", "")), ""
        left_out.update(report.skipped)


def _is_table(name: str) -> bool:
    return name.removesuffix(".gz").endswith(".csv")


def _read_table(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    try:
        with open_lines(path) as file:
            rows = csv.DictReader(io.StringIO(file.read().decode("utf-8-sig")))
            known = rows.fieldnames or ()
            column = next((name for name in COLUMNS if name in known), None)
            if column is None:
                raise DataError(
                    f"{path} has no column {', '.join(COLUMNS)}; its first line must name one"
                )
            for row in rows:
                yield row[column] or "", row.get("label") or "", ""
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can not be read as a table of prompts: {error}") from None
