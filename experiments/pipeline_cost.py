"""What the whole path would cost: FLOPs by our own count, hours by a stated MFU, a price table.

Training counts forward and backward once each (:func:`lilith.model.estimates.flops_per_token`,
causal attention), which is what MFU is a share of; generation counts a forward pass of every token
read or written. Where the real length is not known, a whole row is counted: the figures of tuning
and rewards are upper bounds. What is measured after the stages, evaluations during training and
the time to start and compile are not in them.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.pipeline_config import PipelineConfig
from experiments.progress import format_duration
from lilith.config import MeshConfig, ModelConfig, UserError, nearest
from lilith.model.estimates import flops_per_token
from lilith.train.metrics import bfloat16_peak

OWN_PRICES = pathlib.Path(__file__).resolve().parent.parent / "configs" / "prices.toml"
SCORED = 4  # forward passes of an answer in PPO: policy, reference, critic, reward model
UPDATED = 2  # models that PPO trains: policy and critic
NUMBERS = ("price", "training_mfu", "generation_mfu")


class PriceError(UserError):
    """A price table that can not be read, or hardware that is not in it."""


@dataclass(frozen=True)
class Hardware:
    """One kind of chip: FLOP/s at its peak, its price an hour, and the shares of the peak."""

    name: str
    peak_flops: float
    price: float
    training_mfu: float
    generation_mfu: float
    note: str = ""


@dataclass(frozen=True)
class Prices:
    """The table: ``date`` and ``note`` say how far it can be trusted."""

    date: str
    currency: str
    note: str
    table: tuple[Hardware, ...]

    def hardware(self, name: str) -> Hardware:
        """The entry of that name.

        Raises:
          PriceError: there is none; the nearest is named.
        """
        known = {own.name: own for own in self.table}
        if name not in known:
            raise PriceError(
                f"hardware is {name!r}{nearest(name, known)}; the price table has "
                f"{', '.join(known)}"
            )
        return known[name]

    def words(self) -> str:
        """How far the prices can be trusted."""
        return f"Prices in {self.currency} as of {self.date}. {self.note}"


@dataclass(frozen=True)
class StageCost:
    """What one stage would take.

    Attributes:
      trained: tokens that are learnt from, every pass; generated: tokens that are read or written
        in generation.
      flops: all of them; seconds, price: on ``chips`` chips.
    """

    stage: str
    trained: int
    generated: int
    flops: float
    seconds: float
    chips: int
    price: float


def load_prices(path: str) -> Prices:
    """The price table of a file; of an empty name the project's own.

    Raises:
      PriceError: it can not be read, or an entry lacks a field or has an impossible value.
    """
    file = pathlib.Path(path).expanduser() if path else OWN_PRICES
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PriceError(f"the price table {file} can not be read: {error}") from None
    texts: dict[str, str] = {}
    for name in ("date", "currency", "note"):
        text = found.get(name)
        if not isinstance(text, str) or not text:
            raise PriceError(f"the price table {file} has no text under {name!r}; write one")
        texts[name] = text
    entries = found.get("hardware")
    if not isinstance(entries, list) or not entries:
        raise PriceError(f"the price table {file} has no [[hardware]]; write at least one")
    table = tuple(
        _entry(one, f"[[hardware]] number {number} of {file}")
        for number, one in enumerate(entries, 1)
    )
    return Prices(texts["date"], texts["currency"], texts["note"], table)


def _entry(one: Any, where: str) -> Hardware:
    name = one.get("name") if isinstance(one, dict) else None
    if not isinstance(name, str) or not name:
        raise PriceError(f"{where} has no name")
    values = {}
    for key in NUMBERS:
        value = one.get(key)
        least = 0.0 if key == "price" else 1e-9
        most = 1.0 if key.endswith("mfu") else math.inf
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not least <= value <= most or not math.isfinite(value):
            limits = "a number above 0, at most 1" if most == 1 else "a number of 0 or more"
            raise PriceError(f"{where} ({name}): {key} is {value!r}; expected {limits}")
        values[key] = float(value)
    device, peak = one.get("device"), one.get("peak_flops")
    if device is not None:
        peak = bfloat16_peak(str(device))
    if not isinstance(peak, (int, float)) or not 0 < peak < math.inf:
        raise PriceError(
            f"{where} ({name}): neither device ({device!r}) is a known device kind nor peak_flops "
            f"({one.get('peak_flops')!r}) a positive number; give one of them"
        )
    return Hardware(name, float(peak), note=str(one.get("note", "")), **values)


def estimate(
    config: PipelineConfig, hardware: Hardware, chips: int | None = None
) -> list[StageCost]:
    """The cost of every stage that is run, in their order.

    Args:
      chips: how many every stage gets; None: as many as its mesh has (an axis of -1 counts as 1).
    """
    work = _work(config)
    found = []
    for stage in config.chosen:
        trained, generated, training, generation = work[stage]
        section = getattr(config, stage, None)
        mesh = getattr(section, "mesh", config.ppo.mesh)
        count = chips or mesh_chips(mesh)
        peak = hardware.peak_flops * count
        seconds = (training / hardware.training_mfu + generation / hardware.generation_mfu) / peak
        price = seconds / 3600 * count * hardware.price
        found.append(
            StageCost(stage, trained, generated, training + generation, seconds, count, price)
        )
    return found


def mesh_chips(mesh: MeshConfig) -> int:
    """How many chips a mesh has; an axis that takes what is left counts as one."""
    return math.prod(max(1, size) for size in dataclasses.asdict(mesh).values())


def _work(config: PipelineConfig) -> dict[str, tuple[int, int, float, float]]:
    """Of each stage: tokens trained and generated, FLOPs of training and of generation."""
    model = config.pretrain.model
    found: dict[str, tuple[int, int, float, float]] = {
        "data": (0, 0, 0.0, 0.0), "tokenizer": (0, 0, 0.0, 0.0),
    }  # fmt: skip
    for stage, sides in (("pretrain", 1), ("sft", 1), ("reward", 2)):
        section = getattr(config, stage)
        tokens = sides * section.train.steps * section.train.batch * section.data.length
        found[stage] = (tokens, 0, tokens * _training(model, section), 0.0)
    found["constitution"] = _constitution(config, model)
    found["ppo"] = _ppo(config, model)
    length = config.sft.data.length
    read = config.evaluation.count * length
    found["evaluation"] = (0, read, 0.0, read * _forward(model, length))
    said = len(config.talk.messages) * config.talk.tokens
    found["agent"] = (0, said, 0.0, said * _forward(model, length))
    return found


def _training(model: ModelConfig, section: Any) -> float:
    """FLOPs of a trained token; weights below an adapter have no gradients of their own."""
    lora = getattr(section, "lora", None)
    share = 2 / 3 if lora is not None and lora.rank else 1.0
    return share * flops_per_token(model, section.data.length).causal


def _forward(model: ModelConfig, length: int) -> float:
    return flops_per_token(model, length).causal / 3


def _constitution(config: PipelineConfig, model: ModelConfig) -> tuple[int, int, float, float]:
    section = config.constitution
    prompts, length = section.prompts, section.data.length
    revised = prompts.harmful + prompts.frightening
    texts = revised * (1 + 2 * section.revision.rounds) + prompts.plain
    texts = section.iterations * texts + (section.iterations + 1) * 3 * prompts.held_out
    texts += 12 * section.preference.prompts  # two answers, five principles in both orders
    trained = section.iterations * section.train.steps * section.train.batch * length
    generated = texts * length
    return (
        trained, generated, trained * _training(model, section),
        generated * _forward(model, length),
    )  # fmt: skip


def _ppo(config: PipelineConfig, model: ModelConfig) -> tuple[int, int, float, float]:
    section = config.ppo
    tokens = section.train.steps * section.answers * section.data.length
    forward, training = _forward(model, section.data.length), _training(model, section)
    learnt = tokens * section.update.epochs
    return (
        learnt, tokens, SCORED * tokens * forward + UPDATED * learnt * training,
        tokens * forward,
    )  # fmt: skip


def stage_lines(config: PipelineConfig, costs: Sequence[StageCost], prices: Prices) -> list[str]:
    """What each stage reads, how far it goes, and what it would cost, for the terminal."""
    lines = []
    for own in costs:
        lines.append(f"{own.stage:<14} {plan_words(config, own.stage)}")
        if own.flops:
            lines.append(
                f"{'':<14} {own.flops:.3g} FLOPs, {format_duration(own.seconds)} on {own.chips} x "
                f"{config.hardware}, {own.price:,.2f} {prices.currency}"
            )
    return lines


def plan_words(config: PipelineConfig, stage: str) -> str:
    """What a stage reads and how far it goes, in words."""
    made = config.made
    if stage == "data":
        return (
            f"{config.instructions.count:,} conversations, {made.lessons:,} lessons, "
            f"{made.pairs:,} pairs and {made.prompts:,} prompts are generated"
        )
    if stage == "tokenizer":
        wanted = config.pretrain.tokenizer
        return f"{wanted.kind}, {wanted.vocab:,} tokens, from {wanted.train_megabytes:g} MB"
    if stage == "agent":
        return f"{len(config.talk.messages)} messages, tools {', '.join(config.talk.tools)}"
    if stage == "evaluation":
        return f"{config.evaluation.count:,} held-out questions"
    section = getattr(config, stage)
    rows = f"{section.train.steps:,} steps of {section.train.batch} rows of {section.data.length}"
    if stage == "pretrain":
        names = [source.name for source in section.data.sources]
        names += ["generated conversations"] if made.text_weight else []
        return f"{rows} tokens of {', '.join(names)}"
    if stage == "sft":
        return f"{rows} tokens of {_files(section) or 'the conversations and lessons'}"
    if stage == "reward":
        return f"{rows} tokens and two sides of {_files(section) or 'the pairs'}"
    if stage == "constitution":
        prompts = section.prompts
        return (
            f"{section.iterations} iterations of {prompts.harmful} harmful, {prompts.frightening} "
            f"frightening and {prompts.plain} plain prompts, then {rows} tokens"
        )
    return (
        f"{section.train.steps:,} iterations of {section.answers} answers to "
        f"{_files(section) or 'the prompts'}, rewards "
        f"{', '.join(config.rewards('the reward model').sources)}"
    )


def _files(section: Any) -> str:
    return ", ".join(section.data.files)
