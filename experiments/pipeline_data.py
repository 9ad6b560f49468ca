"""The data of the whole path, all of it generated: conversations, lessons, pairs, prompts, texts.

Nothing is read but the project's own generators and constitution. Each file depends on the config
and the seed alone, so that a stage that was killed writes the same bytes again.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import make_instructions
from experiments.constitutional_data import write_records
from experiments.pipeline_config import PipelineConfig
from experiments.pipeline_talks import AgentTalks, Counts, agent_talks, in_agent_form
from lilith.data.instructions.drawing import Conversation
from lilith.data.instructions.registry import make, prompt_digest
from lilith.reasoning.constitution import (
    Principle,
    critique_prompt,
    load_constitution,
    revision_prompt,
)
from lilith.train.metrics import write_atomically

CONVERSATIONS = "conversations.jsonl"  # as the generators draw them
TALKS = "talks.jsonl"  # those that are learnt, some as the agent of the pipeline has them
LESSONS, PAIRS, PROMPTS, TEXTS = "lessons.jsonl", "pairs.jsonl", "prompts.jsonl", "texts.jsonl"
SUMMARY = "summary.json"
# Answers as they should not be; no harm is spelt out in them.
COMPLIES = (
    "Sure, I will help you with that. Start today and tell nobody.",
    "Of course. It is easy if you are careful, and nobody will notice.",
    "Happy to help. Do it in small steps so that it stays hidden.",
)
REFUSES = (
    "Sorry, I can not help with that.",
    "I will not answer this request.",
    "No. I have to decline.",
)
GUESSES = ("It is about {}.", "The answer is {}.", "I would say {}.")
HARM_CRITIQUE = "The answer helps with {topic}, which is wrong, and it should decline and say why."
REFUSAL_CRITIQUE = "The request is harmless, and the answer refuses it without need."
# Seeds that draw other records than the conversations that are learnt have.
PAIR_SEED, PROMPT_SEED, LESSON_SEED = 1_000_001, 2_000_003, 3_000_017


def write_data(config: PipelineConfig, folder: pathlib.Path) -> dict[str, Any]:
    """Write every file of the data stage; what they hold, as the summary says it."""
    instructions = dataclasses.replace(
        config.instructions, output=str(folder / CONVERSATIONS), seed=config.seed, held_out=False
    )
    make_instructions.run(instructions, folder)
    made, kinds, seed = config.made, config.measure.kinds, config.seed
    counts = {}
    told = Counts()
    with agent_talks(config.talk) as talks:
        asks = Asks(talks, made.agent_share, seed)
        files = {
            TALKS: in_agent_form(_read(folder / CONVERSATIONS), talks, share=made.agent_share,
                                 turns=made.turns, verbatim=made.verbatim, seed=seed,
                                 counts=told),
            LESSONS: itertools.islice(lessons(seed, config.constitution.constitution),
                                      made.lessons),
            PAIRS: pairs(asks, seed, made.pairs, made.refusal_share, kinds),
            PROMPTS: itertools.islice(prompts(asks, seed, kinds), made.prompts),
            TEXTS: texts(folder / TALKS),
        }  # fmt: skip
        for name, records in files.items():
            written = list(records)
            write_records(folder / name, written)
            counts[name] = len(written)
    drawn = json.loads(make_instructions.summary_path(folder / CONVERSATIONS).read_text())
    summary = {
        "files": {CONVERSATIONS: drawn["records"], **counts},
        "agent's conversations": told.agent,
        "left out for a number that the agent's results do not show": told.left_out,
        "bytes": {
            path.name: path.stat().st_size
            for path in (folder / name for name in (CONVERSATIONS, *counts))
        },
        "kinds": drawn["kind"],
    }
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _records(kind: str, seed: int) -> Iterator[Conversation]:
    """Conversations of a kind in training words, no two with the same prompt while there are new.

    Endless: a kind that has no more prompts begins to repeat them.
    """
    seen: Counter[bytes] = Counter()
    for index in itertools.count():
        record = make(kind, seed, index)
        digest = prompt_digest(record)
        if not seen[digest] or index > 50 * len(seen):
            yield record
        seen[digest] += 1


class Asks:
    """How a question with tools is asked: a share as the agent of the pipeline is asked."""

    def __init__(self, talks: AgentTalks, share: float, seed: int) -> None:
        self._talks, self._share = talks, share
        self._draw = random.Random(f"{seed} asked")

    def __call__(self, record: Conversation) -> list[dict[str, Any]]:
        """The system message and the user's."""
        if self._draw.random() < self._share and self._talks.fits(record):
            return self._talks.asked(record)
        return record["messages"][:2]


def prompts(asks: Asks, seed: int, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Questions that one tool call answers, the kinds in turn, with the call to be compared."""
    streams = [_records(kind, seed + PROMPT_SEED) for kind in kinds]
    for stream in itertools.cycle(streams):
        record = next(stream)
        calls = record["messages"][2]["tool_calls"]
        yield {
            "messages": asks(record),
            "metadata": {"domain": record["metadata"]["kind"], "check": {"tool_calls": calls}},
        }


def pairs(
    asks: Asks, seed: int, count: int, refusal_share: float, kinds: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """``count`` preferences: right calls before wrong ones; refusals where they belong."""
    refusals = round(count * refusal_share)
    draw = random.Random(f"{seed} pairs")
    streams = itertools.cycle(_records(kind, seed + PAIR_SEED) for kind in kinds)
    found = [_call_pair(asks, next(next(streams)), draw) for _ in range(count - refusals)]
    judged = itertools.cycle(
        _records(kind, seed + PAIR_SEED) for kind in ("refusal", "harmless_request")
    )
    found += [_refusal_pair(next(next(judged)), draw) for _ in range(refusals)]
    draw.shuffle(found)
    yield from found


def _call_pair(asks: Asks, record: Conversation, draw: random.Random) -> dict[str, Any]:
    """The right call, and a wrong one or a guess in its place."""
    answer = record["messages"][2]
    (call,) = answer["tool_calls"]
    if draw.random() < 1 / 4:
        guess = draw.choice(GUESSES).format(draw.randint(1, 999) / 10)
        wrong: dict[str, Any] = {"role": "assistant", "content": guess}
    else:
        wrong = {"role": "assistant", "content": "", "tool_calls": [wrong_call(call, draw)]}
    return _pair(asks(record), answer, wrong, "call")


def wrong_call(call: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """The call with one digit of its arguments changed; another tool where they have none."""
    text = json.dumps(call["arguments"])
    digits = [place for place, letter in enumerate(text) if letter in "123456789"]
    if not digits:
        return {"name": "backtest", "arguments": call["arguments"]}
    place = draw.choice(digits)
    other = draw.choice([digit for digit in "123456789" if digit != text[place]])
    return {**call, "arguments": json.loads(text[:place] + other + text[place + 1 :])}


def _refusal_pair(record: Conversation, draw: random.Random) -> dict[str, Any]:
    """What the record answers, and the opposite of it: compliance, or a needless refusal."""
    asked, answer = record["messages"][:1], record["messages"][1]
    harmful = record["metadata"]["check"]["refuse"]
    wrong = {"role": "assistant", "content": draw.choice(COMPLIES if harmful else REFUSES)}
    return _pair(asked, answer, wrong, "refusal" if harmful else "harmless")


def _pair(
    asked: Sequence[Any], better: Mapping[str, Any], worse: Mapping[str, Any], domain: str
) -> dict[str, Any]:
    return {
        "prompt": list(asked), "chosen": [*asked, better], "rejected": [*asked, worse],
        "metadata": {"domain": domain, "source": "generated"},
    }  # fmt: skip


def lessons(seed: int, constitution: str) -> Iterator[dict[str, Any]]:
    """Critiques and revisions as the constitution asks for them, one after the other. Endless.

    A small model that has never seen the request for a revision writes none worth keeping.
    """
    principles = load_constitution(constitution or None)
    streams = itertools.cycle(
        _records(kind, seed + LESSON_SEED) for kind in ("refusal", "harmless_request")
    )
    draw = random.Random(f"{seed} lessons")
    for stream in streams:
        yield from _lesson(next(stream), principles.draw(draw), draw)


def _lesson(
    record: Conversation, principle: Principle, draw: random.Random
) -> tuple[dict[str, Any], dict[str, Any]]:
    asked, better = (message["content"] for message in record["messages"])
    check = record["metadata"]["check"]
    worse = draw.choice(COMPLIES if check["refuse"] else REFUSES)
    critique = HARM_CRITIQUE.format(topic=check["topic"]) if check["refuse"] else REFUSAL_CRITIQUE
    requests = (
        (critique_prompt(asked, worse, principle, principle.draw_critique(draw)), critique),
        (revision_prompt(asked, worse, critique, principle, principle.draw_revision(draw)), better),
    )
    made = [
        {
            "messages": [
                {"role": "user", "content": request},
                {"role": "assistant", "content": answer},
            ],
            "metadata": {"domain": "lesson"},
        }
        for request, answer in requests
    ]
    return made[0], made[1]


def texts(conversations: pathlib.Path) -> Iterator[dict[str, str]]:
    """Every conversation as plain text, to be pretrained on."""
    for record in _read(conversations):
        yield {"text": plain_text(record["messages"])}


def _read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def plain_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Roles and contents as lines; tool calls as an assistant writes them."""
    parts = []
    for message in messages:
        calls = [
            f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
            for call in message.get("tool_calls") or ()
        ]
        content = [message["content"]] if message["content"] else []
        parts.append("\n".join([message["role"], *content, *calls]))
    return "\n".join(parts) + "\n"
