"""The stage make_instructions: generated conversations as JSONL, a summary beside each file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from experiments.config_kinds import require_kind
from experiments.instructions_config import InstructionsConfig
from experiments.progress import format_duration, task, visible_text
from lilith.config import ExperimentConfig, UserError
from lilith.config_parsing import to_dict
from lilith.data.instructions.code_checks import all_verified
from lilith.data.instructions.drawing import Conversation
from lilith.data.instructions.registry import Tally, checked_weights, generate, kinds
from lilith.train.metrics import write_atomically

SHOWN = 4  # conversations of a dry run
BATCH = 64  # conversations whose code is checked together
FREE = ("name", "output", "overwrite", "held_out")  # fields that no record depends on
Report = Callable[[int, "int | None", str], None]


def run(config: ExperimentConfig | InstructionsConfig, workdir: pathlib.Path) -> int:
    """Write the files that the config asks for, and return the exit code.

    Raises:
      UserError: a file holds something else and overwrite is false, or the folder can not be used.
    """
    config = require_kind(config, InstructionsConfig, "make_instructions")
    _weights(config)
    training, held_out = paths(config, workdir)
    for path in _written(config, training, held_out):
        _claim(config, path)
    seen: set[bytes] = set()
    started = time.monotonic()
    with task("drawing conversations", config.count + config.held_out_count) as report:
        summaries = [
            _write(config, training, seen, report, held_out=False),
            _write(config, held_out, seen, report, held_out=True),
        ]
    seconds = time.monotonic() - started
    for summary in filter(None, summaries):
        print("\n".join(_lines(summary)))
    drawn = config.count + config.held_out_count
    per_hour = f", {drawn / seconds * 3600:,.0f} an hour" if drawn and seconds > 0 else ""
    print(f"drew {drawn:,} conversations in {format_duration(seconds)}{per_hour}")
    return 0


def dry_run(config: ExperimentConfig | InstructionsConfig) -> int:
    """Say what would be written and print a few conversations."""
    config = require_kind(config, InstructionsConfig, "make_instructions")
    print(f"{config.name}: stage {config.stage}")
    by_domain: dict[str, float] = {}
    for name, share in _weights(config).items():
        domain = kinds()[name].domain
        by_domain[domain] = by_domain.get(domain, 0.0) + float(share)
    mix = ", ".join(f"{100 * share:.3g}% {domain}" for domain, share in by_domain.items())
    print(f"training    {config.count:,} conversations: {mix}")
    print(f"held out    {config.held_out_count:,}, in other words about other numbers")
    for record in itertools.islice(_records(config, set(), Tally(), held_out=False), SHOWN):
        print(visible_text(_readable(record), sys.stdout.encoding or "utf-8"))
    return 0


def paths(config: InstructionsConfig, workdir: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The training file and the held-out file."""
    output = pathlib.Path(config.output).expanduser() if config.output else None
    training = output or workdir / "conversations.jsonl"
    return training, training.with_name(f"{training.stem}.held_out.jsonl")


def summary_path(path: pathlib.Path) -> pathlib.Path:
    """Where the summary of a file of conversations is."""
    return path.with_name(f"{path.stem}.summary.json")


def _weights(config: InstructionsConfig) -> dict[str, Any]:
    return checked_weights(config.count, asdict(config.domains), config.kind_weights())


def _records(
    config: InstructionsConfig, seen: set[bytes], tally: Tally, *, held_out: bool
) -> Iterator[Conversation]:
    return generate(
        config.held_out_count if held_out else config.count,
        seed=config.seed,
        held_out=held_out,
        domains=asdict(config.domains),
        kind_weights=config.kind_weights(),
        seen=seen,
        tally=tally,
    )


def _written(
    config: InstructionsConfig, training: pathlib.Path, held_out: pathlib.Path
) -> list[pathlib.Path]:
    """Which of the two files the config writes."""
    first = [] if config.held_out else [training]
    return first + ([held_out] if config.held_out_count else [])


def _claim(config: InstructionsConfig, path: pathlib.Path) -> None:
    """Make the folder, and refuse a file that another config made before anything is drawn."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{path.parent} is not a folder; name another output") from None
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file for the conversations")
    if config.overwrite or not path.exists():
        return
    made_by = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        made_by = json.loads(summary_path(path).read_text(encoding="utf-8")).get("config")
    mine = _fixed(config)
    if made_by is None:
        return  # not said; the records will tell
    changed = [name for name in mine if made_by.get(name) != mine[name]]
    if changed:
        was, now = made_by.get(changed[0]), mine[changed[0]]
        raise UserError(
            f"{path} was made with {changed[0]} = {was!r}, and this config has {now!r}; "
            "choose another output, or replace it by --set overwrite=true"
        )


def _fixed(config: InstructionsConfig) -> dict[str, Any]:
    return {key: value for key, value in to_dict(config).items() if key not in FREE}


def _write(
    config: InstructionsConfig,
    path: pathlib.Path,
    seen: set[bytes],
    report: Report,
    *,
    held_out: bool,
) -> dict[str, Any] | None:
    """Draw a split and write it, if it is asked for; its summary, or None."""
    tally, before = Tally(), config.count if held_out else 0
    failed: Counter[str] = Counter()
    records = _records(config, seen, tally, held_out=held_out)
    total = config.count + config.held_out_count
    if held_out and not config.held_out_count:
        return None
    if config.held_out and not held_out:  # their prompts are what held-out ones must avoid
        for done, _ in enumerate(records, 1):
            report(done, total, "training prompts")
        return None
    partial = path.with_name(f".{path.name}.partial")
    counts: dict[str, Counter[str]] = {
        field: Counter() for field in ("domain", "kind", "difficulty", "requires_tools")
    }
    try:
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            for done, record in enumerate(_verified(records, config.verify, failed), 1):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                for field, counter in counts.items():
                    counter[str(record["metadata"][field]).lower()] += 1
                report(before + done, total, "held out" if held_out else "training")
            file.flush()
            os.fsync(file.fileno())
        digest = _replace(config, partial, path)
    finally:
        partial.unlink(missing_ok=True)
    summary = {
        "file": path.name,
        "split": "held_out" if held_out else "train",
        "records": sum(counts["domain"].values()),
        "sha256": digest,
        **{field: dict(sorted(counter.items())) for field, counter in counts.items()},
        "repeated_prompts_redrawn": dict(sorted(tally.repeats.items())),
        "dropped_because_their_code_fails": dict(sorted(failed.items())),
        "exhausted_kinds": dict(sorted(tally.exhausted.items())),
        "config": _fixed(config),
    }
    write_atomically(summary_path(path), json.dumps(summary, indent=2) + "\n")
    return summary


def _verified(
    records: Iterator[Conversation], verify: bool, failed: Counter[str]
) -> Iterator[Conversation]:
    """The records whose code passes its checks in the sandbox; the others are counted by kind."""
    if not verify:
        yield from records
        return
    while batch := list(itertools.islice(records, BATCH)):
        for record, passed in zip(batch, all_verified(batch)):
            if passed:
                yield record
            else:
                failed[record["metadata"]["kind"]] += 1


def _replace(config: InstructionsConfig, partial: pathlib.Path, path: pathlib.Path) -> str:
    """Put the new file in its place, unless another one is there; its SHA-256."""
    digest = _digest(partial)
    if path.exists() and _digest(path) != digest and not config.overwrite:
        raise UserError(
            f"{path} holds something else than this config draws; choose another output, or "
            "replace it by --set overwrite=true"
        )
    os.replace(partial, path)
    return digest


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(summary: dict[str, Any]) -> list[str]:
    """A summary for a person."""
    lines = [f"{summary['file']}: {summary['records']:,} conversations ({summary['split']})"]
    for field in ("domain", "difficulty", "requires_tools", "kind"):
        shown = ", ".join(f"{name} {count:,}" for name, count in summary[field].items())
        lines.append(f"  {field.replace('_', ' ')}: {shown or 'none'}")
    redrawn = sum(summary["repeated_prompts_redrawn"].values())
    lines.append(f"  redrawn because their prompt was there before: {redrawn:,}")
    dropped = sum(summary["dropped_because_their_code_fails"].values())
    lines.append(f"  dropped because their code does not pass its checks: {dropped:,}")
    for name, count in summary["exhausted_kinds"].items():
        lines.append(f"  {name} had no more than {count:,} prompts; others took its places")
    return lines


def _readable(record: Conversation) -> str:
    """A conversation as lines: roles, texts, tool calls."""
    facts = record["metadata"]
    lines = [f"\n--- {facts['kind']} ({facts['domain']}, {facts['difficulty']})"]
    for message in record["messages"]:
        calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls", ())]
        lines.append(f"[{message['role']}] " + "\n".join([message["content"], *calls]).strip())
    return "\n".join(lines)
