"""The story of the whole path on one self-contained page, from the files of its folder alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.pipeline_config import STAGES, PipelineConfig
from experiments.pipeline_cost import Hardware, Prices, estimate
from experiments.pipeline_stages import Chain
from experiments.progress import format_duration
from experiments.report import ReportError, charts, page_template, table_of
from lilith.config import UserError
from lilith.config_parsing import to_json
from lilith.model.params import count_params
from lilith.train.metrics import read_metrics, write_atomically

SIZES = ("1b", "7b", "13b")  # of the configs whose costs are estimated on the page
TRAINED = ("pretrain", "sft", "constitution", "reward", "ppo")
REWARD_CURVES = ("reward", "validation_reward", "kl", "answer_tokens", "entropy")
NOT_YET = "Not in this run yet: {}."
SAFETY_NOTE = (
    "Likeliest answers to held-out prompts, judged by rules that see wording alone. Harmlessness: "
    "harmful prompts that were declined with nothing against the rules in the answer. Helpfulness: "
    "harmless prompts that were answered and not refused, right or wrong. A model that refuses "
    "everything has 0% of the second, and one that writes nonsense may have 100% of it: the lower "
    "of the two counts, and the answers above say what either is worth."
)
CALLS_NOTE = (
    "Questions about held-out numbers: after each stage in words of training, at the end in words "
    "that no training has, too, and in whole turns with real tools. Right: the right tool with "
    "every argument right. The reward model writes no text, so nothing is asked after its stage."
)
COST_NOTE = (
    "From our own count of FLOPs (forward and backward of every trained token, causal attention; "
    "a forward pass of every token read or written in generation), the shares of the peak that the "
    "price table states, and its prices. Rows are counted whole, so tuning and rewards are upper "
    "bounds; evaluations, restarts and idle chips are not in it."
)


@dataclass(frozen=True)
class Part:
    """A section of the page; ``runs`` are folded, each with a title, charts and named texts."""

    id: str
    title: str
    note: str = ""
    tables: Sequence[Any] = ()
    charts: Sequence[Any] = ()
    runs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    absent: str = ""


def write_pipeline_report(chain: Chain, prices: Prices) -> pathlib.Path:
    """Write ``report.html`` of a pipeline, as far as it has come; its path.

    Raises:
      ReportError: it can not be written.
    """
    done = {stage: found for stage in STAGES if (found := chain.after(stage)) is not None}
    config = chain.config
    parts = [
        _corpus(chain), _stages(chain, done), _curves(chain), _answers(done), _calls(done),
        _rewards(chain), _safety(done), _talk(done), *_costs(prices),
    ]  # fmt: skip
    page = page_template("pipeline.html.jinja").render(
        title=config.name,
        stage=config.stage,
        description=_description(config, done),
        facts=_facts(config, done),
        missing=_missing(done),
        parts=parts,
        config=to_json(config),
    )
    path = chain.workdir / "report.html"
    try:
        write_atomically(path, page)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _description(config: PipelineConfig, done: Mapping[str, Any]) -> str:
    model = config.pretrain.model
    return (
        f"A model of {count_params(model):,} parameters ({model.layers} layers, width "
        f"{model.d_model}, {model.vocab:,} tokens), from raw text to an agent that calls tools: "
        f"{', '.join(STAGES)}. Done: {', '.join(done) or 'nothing yet'}."
    )


def _facts(config: PipelineConfig, done: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("parameters", f"{count_params(config.pretrain.model):,}")]
    seconds = sum(one["seconds"] + one.get("measured_seconds", 0.0) for one in done.values())
    facts.append(("time", format_duration(seconds)))
    calls = [one["tool_calls"]["right"] for one in done.values() if "tool_calls" in one]
    lower = [one["safety"]["lower"] for one in done.values() if "safety" in one]
    for name, shares in (("tool calls right", calls), ("harmless and helpful", lower)):
        if shares:  # of the last stage that was asked
            facts.append((name, _percent(shares[-1])))
    return facts


def _missing(done: Mapping[str, Any]) -> list[str]:
    lines = [f"stage {name}: not run yet" for name in STAGES if name not in done]
    notes = [f"stage {name}: {one['note']}" for name, one in done.items() if one.get("note")]
    return lines + notes


def _summary(chain: Chain, stage: str) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((chain.folder(stage) / "summary.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _corpus(chain: Chain) -> Part:
    data, tokenizer = _summary(chain, "data"), _summary(chain, "tokenizer")
    sizes = data.get("bytes", {})
    files = [
        {"generated": name, "records": count, "bytes": sizes.get(name)}
        for name, count in data.get("files", {}).items()
    ]
    kinds = [{"kind of conversation": k, "records": n} for k, n in data.get("kinds", {}).items()]
    tables = [_summary(chain, "pretrain").get("corpus"), files, [tokenizer] if tokenizer else None]
    return Part(
        "corpus", "The corpus",
        "What pretraining read, and what the data stage generated.",
        [made for rows in (*tables, kinds) if (made := table_of(rows))],
        absent="" if files else NOT_YET.format("the data"),
    )  # fmt: skip


def _stages(chain: Chain, done: Mapping[str, Any]) -> Part:
    config = dataclasses.replace(chain.config, stages=STAGES)
    every = estimate(config, Hardware("", 1.0, 0.0, 1.0, 1.0))  # its work alone
    planned = {own.stage: own for own in every}
    rows = [
        {
            "stage": stage,
            "time": format_duration(one["seconds"]),
            "starts": one.get("starts", 1),
            "tokens learnt": planned[stage].trained,
            "tokens generated, at most": planned[stage].generated,
            "FLOPs": f"{planned[stage].flops:.3g}",
            "time to measure": format_duration(one.get("measured_seconds", 0.0)),
        }
        for stage, one in done.items()
    ]
    table = table_of(rows)
    return Part(
        "stages", "Time and tokens a stage",
        "The time is that of the last start; a stage that was stopped has more than one.",
        [table] if table else [], absent="" if table else NOT_YET.format("any stage"),
    )  # fmt: skip


def _metrics(chain: Chain, stage: str) -> dict[str, list[dict[str, Any]]]:
    """The metrics of a stage's runs, by a title."""
    folders = {stage: chain.folder(stage)}
    if stage == "constitution":
        found = sorted(chain.folder(stage).glob("iteration_*/tuning"))
        folders = {f"{stage}, {folder.parent.name.replace('_', ' ')}": folder for folder in found}
    read = {}
    for title, folder in folders.items():
        with contextlib.suppress(UserError, OSError):
            if records := read_metrics(folder / "metrics.jsonl"):
                read[title] = records
    return read


def _curves(chain: Chain) -> Part:
    runs = [
        {"title": title, "charts": charts(records, f"{number}-{stage}-"), "parts": []}
        for stage in TRAINED
        for number, (title, records) in enumerate(_metrics(chain, stage).items())
    ]
    return Part(
        "curves", "Curves of every stage", runs=runs,
        absent="" if runs else NOT_YET.format("a stage that trains"),
    )  # fmt: skip


def _answers(done: Mapping[str, Any]) -> Part:
    asked: dict[str, list[tuple[str, str]]] = {}
    for stage, one in done.items():
        for answer in one.get("answers", ()):
            text = answer["text"] or "(no text)"
            asked.setdefault(answer["prompt"], []).append((f"after {stage}", text))
    runs = [{"title": prompt, "charts": [], "parts": parts} for prompt, parts in asked.items()]
    return Part(
        "answers", "The same prompts after every stage",
        "Likeliest answers, with the agent's tools described to the model, which has seen no "
        "conversation yet after pretraining.",
        runs=runs, absent="" if runs else NOT_YET.format("an answer"),
    )  # fmt: skip


def _calls(done: Mapping[str, Any]) -> Part:
    rows = []
    for stage, one in done.items():
        found = one.get("tool_calls")
        if found:
            rows.append(
                {"after": stage, "right": _percent(found["right"]),
                 "right tool": _percent(found["right_tool"]),
                 "well formed": _percent(found["well_formed"]),
                 **{kind: _percent(share) for kind, share in found["by_kind"].items()},
                 "questions": found["questions"]}
            )  # fmt: skip
    turns = [
        {"words": words.replace("_", " "), "questions": own["kind"], "asked": own["prompts"],
         "every argument right": _percent(own["right_call"] / own["prompts"]),
         "answer says the tool's number": _percent(own["right_answer"] / own["prompts"]),
         "95% interval": f"{own['low']:.0%} to {own['high']:.0%}",
         "numbers from nowhere": own["unverified"]}
        for words, rows_of in done.get("evaluation", {}).get("turns", {}).items()
        for own in rows_of
    ]  # fmt: skip
    tables = [table for own in (rows, turns) if (table := table_of(own))]
    return Part(
        "calls", "Held-out tool calls after every stage", CALLS_NOTE, tables,
        absent="" if tables else NOT_YET.format("a stage that writes"),
    )  # fmt: skip


def _rewards(chain: Chain) -> Part:
    shown = [
        chart
        for records in _metrics(chain, "ppo").values()
        for chart in charts(records, "rewards-")
        if chart["name"] in REWARD_CURVES or chart["name"].startswith("reward_")
    ]
    judged = _summary(chain, "reward").get("preferences", {})
    table = table_of([{"reward model, held out": k, "value": v} for k, v in judged.items()])
    return Part(
        "rewards", "Reward and KL",
        "What PPO's answers were worth, and how far the policy went from what it started as.",
        [table] if table else [], shown, absent="" if shown else NOT_YET.format("PPO"),
    )  # fmt: skip


def _safety(done: Mapping[str, Any]) -> Part:
    rows = [
        {"after": stage, "harmlessness": _percent(found["harmlessness"]),
         "helpfulness": _percent(found["helpfulness"]), "the lower": _percent(found["lower"]),
         "refused, harmful": _percent(found["refused_harmful"]),
         "refused, harmless": _percent(found["refused_harmless"]),
         "no answer": _percent(found["empty"]), "prompts": found["prompts"]}
        for stage, one in done.items()
        if (found := one.get("safety"))
    ]  # fmt: skip
    table = table_of(rows)
    return Part(
        "safety", "Harmlessness beside helpfulness", SAFETY_NOTE, [table] if table else [],
        absent="" if table else NOT_YET.format("held-out prompts of the constitution"),
    )  # fmt: skip


def _talk(done: Mapping[str, Any]) -> Part:
    runs = []
    for turn in done.get("agent", {}).get("turns", ()):
        parts = [("user", turn["message"])]
        for call in turn["calls"]:
            parts.append((f"calls {call['name']}", json.dumps(call["arguments"])))
            parts.append(("tool", call["shown"]))
        ended = "" if turn["ended"] == "answer" else f" ({turn['ended']})"
        parts.append((f"agent{ended}", turn["answer"] or "(no text)"))
        runs.append({"title": turn["message"], "charts": [], "parts": parts})
    return Part(
        "agent", "A first conversation with the agent's tools", runs=runs,
        absent="" if runs else NOT_YET.format("the agent"),
    )  # fmt: skip


def _costs(prices: Prices) -> list[Part]:
    """What each stage would cost at larger sizes: on its config's hardware, and on every other."""
    from experiments.run import load_config

    configs = {size: load_config(f"pipeline_{size}") for size in SIZES}
    by_stage: dict[str, dict[str, str]] = {stage: {"stage": stage} for stage in STAGES}
    totals = []
    for size, config in configs.items():
        assert isinstance(config, PipelineConfig)
        own = prices.hardware(config.hardware)
        costs = estimate(config, own)
        for one in costs:
            by_stage[one.stage][f"{size}: hours on {own.name}"] = (
                f"{one.seconds / 3600:,.2f} on {one.chips}"
            )
            by_stage[one.stage][f"{size}: {prices.currency}"] = f"{one.price:,.0f}"
            by_stage[one.stage][f"{size}: FLOPs"] = f"{one.flops:.2g}"
        by_hardware = {
            each.name: sum(one.price for one in estimate(config, each)) for each in prices.table
        }
        totals.append(
            {"size": size, "trained tokens": sum(one.trained for one in costs),
             **{f"{name}, {prices.currency}": f"{price:,.0f}"
                for name, price in by_hardware.items() if price}}
        )  # fmt: skip
    shares = [
        {"hardware": own.name, f"{prices.currency} a chip and hour": own.price,
         "peak FLOP/s": f"{own.peak_flops:.3g}", "MFU in training": own.training_mfu,
         "MFU in generation": own.generation_mfu, "price": own.note}
        for own in prices.table
    ]  # fmt: skip
    tables = [list(by_stage.values()), totals, shares]
    made = [table for rows in tables if (table := table_of(rows))]
    note = f"{COST_NOTE} {prices.words()}"
    return [Part("costs", "What each stage would cost at 1b, 7b and 13b", note, made)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
