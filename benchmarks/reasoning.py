"""Reasoning with SmolLM2-135M: right answers, tokens, seconds and calibration of each strategy.

On the first items of GSM8K's test set (LILITH_DATA holds gsm8k/test.jsonl.gz) and as many of the
project's own word problems. Confidence is calibrated on other items of the same kinds: those of
GSM8K's test set that follow, and word problems of another seed; with `--calibration 0` by
cross-fitting in five folds. Every trace is kept in `--out` as soon as it is there, so the same
command goes on where it was stopped.

    python -m benchmarks.reasoning [--items 100] [--strategies direct,program] [--out FOLDER]
        [--checkpoint NAME] [--only table|time]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks import harness
from lilith.config import UserError
from lilith.evals.reasoning import (
    FOLDS,
    TABLE_HEAD,
    Figures,
    Reason,
    Result,
    answer_all,
    figures_by_kind,
    fitted_monitor,
    markdown_row,
    read_gsm8k,
)
from lilith.evals.word_problems import Item, word_problems
from lilith.inference.language_model import LanguageModel
from lilith.interop import load_checkpoint
from lilith.reasoning.calibration import CalibrationError
from lilith.reasoning.chain_of_thought import ChainOfThought
from lilith.reasoning.reasoner import create_advanced_reasoner
from lilith.reasoning.sampler import Budget

ADVANCED = "advanced"
STRATEGIES = ("direct", "chain_of_thought", "self_consistency", "program", ADVANCED)
SAMPLES = 8
ROWS = 16  # texts generated together
MEASURED_SEED, CALIBRATION_SEED = 0, 1  # of the word problems
TIMED = 5  # problems
MOST_RATIO = 3.0


def items_of(arguments: argparse.Namespace) -> tuple[list[Item], list[Item]]:
    """The items to measure and those to calibrate on; none is among both."""
    count, more = arguments.items, arguments.calibration
    measured, calibration = [], []
    if "gsm8k" in arguments.kinds:
        data = os.environ.get("LILITH_DATA")
        if not data:
            raise UserError("LILITH_DATA is unset: it names the folder that holds gsm8k; "
                            "--kinds own measures without it")  # fmt: skip
        measured += read_gsm8k(data, "test", 0, count)
        calibration += read_gsm8k(data, "test", count, more)
    if "own" in arguments.kinds:
        measured += word_problems(count, MEASURED_SEED)
        calibration += word_problems(more, CALIBRATION_SEED)
    return measured, calibration


def reasoner(model: LanguageModel, strategy: str, arguments: argparse.Namespace) -> Reason:
    """What answers problems by a strategy."""
    settings: dict[str, Any] = {
        "max_tokens": arguments.max_tokens, "samples": SAMPLES, "seed": arguments.seed,
    }  # fmt: skip
    if strategy == ADVANCED:
        budget = Budget(arguments.budget)
        return create_advanced_reasoner(model, budget=budget, **settings).reason_batch
    return ChainOfThought(model, strategy=strategy, batch_size=ROWS, **settings).reason_batch


def measure(
    model: LanguageModel, strategy: str, arguments: argparse.Namespace
) -> tuple[list[Result], list[Result]]:
    """Results on the items to measure and on those to calibrate on; the latter come first, so that
    what has to be compiled is compiled before anything is measured."""
    measured, calibration = items_of(arguments)
    reason = reasoner(model, strategy, arguments)
    together = {"self_consistency": ROWS // SAMPLES, ADVANCED: 1}.get(strategy, ROWS)
    found = []
    for name, items in (("calibration", calibration), ("measured", measured)):

        def report(done: int, total: int, what: str, name: str = name) -> None:
            print(f"{strategy}, {name}: {done}/{total}, {what}", flush=True)

        path = arguments.out / f"{strategy}_{name}.jsonl"
        found.append(answer_all(reason, items, path, together=together, progress=report))
    return found[1], found[0]


def keep_monitor(strategy: str, results: Sequence[Result], out: pathlib.Path) -> str:
    """Write the calibrated monitor, for `--set calibrator=...`; its place, or why there is none."""
    path = out / f"monitor_{strategy}.json"
    try:
        fitted_monitor(results).save(path)
    except CalibrationError as error:
        return f"none: {error}"
    return str(path)


def table(model: LanguageModel, arguments: argparse.Namespace) -> tuple[list[list[Any]], Any]:
    """The rows of every strategy; the Markdown table is printed."""
    found: dict[str, dict[str, Figures]] = {}
    facts: dict[str, Any] = {}
    for strategy in arguments.strategies:
        measured, calibration = measure(model, strategy, arguments)
        found[strategy] = figures_by_kind(measured, calibration)
        facts[f"monitor_{strategy}"] = keep_monitor(
            strategy, calibration or measured, arguments.out
        )
        whole = list(found[strategy].values())[-1]
        for name, report in (("stated", whole.raw), ("calibrated", whole.calibrated)):
            if report is not None:
                report.plot(arguments.out / f"reliability_{strategy}_{name}.png")
        if whole.note:
            facts[f"calibration_{strategy}"] = f"none: {whole.note}"
    split = f"cross-fitted in {FOLDS} folds of the measured items"
    if arguments.calibration:
        split = f"fitted on {arguments.calibration} other items of each kind"
    facts["calibration"] = split
    print(f"\n{TABLE_HEAD}")
    rows = []
    for strategy, kinds in found.items():
        for kind, own in kinds.items():
            print(markdown_row(strategy, kind, own))
            rows.append(row(strategy, kind, own))
    print()
    return rows, facts


COLUMNS = (
    "strategy", "items", "count", "right", "accuracy", "low", "high", "unanswered", "tokens",
    "seconds", "ece", "ece_calibrated", "brier", "brier_calibrated", "auroc", "auroc_calibrated",
)  # fmt: skip


def row(strategy: str, kind: str, own: Figures) -> list[Any]:
    """The figures in the order of COLUMNS."""
    after = own.calibrated
    return [
        strategy, kind, own.items, own.right, own.accuracy, own.low, own.high, own.unanswered,
        own.tokens, own.seconds, own.raw.ece, None if after is None else after.ece, own.raw.brier,
        None if after is None else after.brier, own.raw.auroc,
        None if after is None else after.auroc,
    ]  # fmt: skip


def time_ratio(model: LanguageModel, arguments: argparse.Namespace) -> dict[str, Any]:
    """What eight samples take beside one, in turn; the first of the eight is that one."""
    problems = [item.problem for item in items_of(arguments)[0][:TIMED]]
    tokens: dict[int, list[int]] = {}

    def side(samples: int) -> Callable[[], None]:
        chain = ChainOfThought(
            model, strategy="self_consistency", samples=samples, ask_p_true=False,
            max_tokens=arguments.max_tokens, seed=arguments.seed,
        )  # fmt: skip

        def call() -> None:
            tokens[samples] = []
            for problem in problems:
                model.engine.forget()  # so that each time the prompt is read
                tokens[samples].append(chain.reason(problem).tokens)

        return call

    sides = {"one": side(1), "eight": side(SAMPLES)}
    seconds = {
        name: harness.median(own)
        for name, own in harness.interleaved(sides, arguments.repeats).items()
    }
    ratio = seconds["eight"] / seconds["one"]
    return {
        "one_sample_s": seconds["one"] / len(problems),
        "eight_samples_s": seconds["eight"] / len(problems),
        "ratio": ratio, "target_ratio": MOST_RATIO,
        "one_sample_tokens": sum(tokens[1]) / len(problems),
        "eight_samples_tokens": sum(tokens[SAMPLES]) / len(problems),
        "problems": len(problems),
    }  # fmt: skip


def claim(out: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Make the folder; traces of another model or other settings do not mix with these."""
    names = ("checkpoint", "max_tokens", "seed", "budget")
    harness.claim(out, {name: getattr(arguments, name) for name in names})


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=100, help="of each kind")
    parser.add_argument("--calibration", type=int, default=100, help="of each kind; 0: cross-fit")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--kinds", default="gsm8k,own")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/reasoning"))
    parser.add_argument("--checkpoint", default="smollm2-135m-instruct")
    parser.add_argument("--max-tokens", type=int, default=320, help="of one text")
    parser.add_argument("--budget", type=int, default=6_000, help="tokens an item, of advanced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("table", "time"))
    arguments = parser.parse_args(words)
    for name, known in (("strategies", STRATEGIES), ("kinds", ("gsm8k", "own"))):
        chosen = getattr(arguments, name).split(",")
        for word in chosen:
            if word not in known:
                parser.error(f"--{name} has {word!r}; known: {', '.join(known)}")
        setattr(arguments, name, chosen)
    if arguments.items < 1 or arguments.calibration < 0:
        parser.error("--items must be at least 1 and --calibration at least 0")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    arguments = parsed(words)
    try:
        items_of(arguments)  # what is missing is said before a long load
        claim(arguments.out, arguments)
        model, _, info = load_checkpoint(arguments.checkpoint)
        print(info, flush=True)
        rows: list[list[Any]] = []
        facts: dict[str, Any] = {"model": str(info), "max_tokens": arguments.max_tokens}
        if arguments.only != "time":
            rows, more = table(model, arguments)
            facts |= more
        if arguments.only != "table":
            facts |= time_ratio(model, arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts |= harness.machine("jax")
    name = "reasoning" if arguments.only is None else f"reasoning_{arguments.only}"
    print(f"written: {harness.report(name, COLUMNS, rows, facts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
