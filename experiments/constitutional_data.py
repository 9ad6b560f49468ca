"""The files of a run of self-improvement: what they were made from, and what is learnt from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.constitutional_config import RevisedDataConfig, SelfPreferenceConfig
from experiments.tuning_config import ChatDataConfig
from lilith.config import UserError
from lilith.data.chat_readers import read_conversations
from lilith.data.chat_report import RecordError
from lilith.data.chat_shapes import rejected_side
from lilith.reasoning import constitution as constitutions
from lilith.reasoning.sampler import Sampler
from lilith.reasoning.self_improvement import DROPS, AskedPrompt, Transcript, answer_prompt
from lilith.train.metrics import write_atomically

INPUTS = "inputs.json"


def claim_inputs(folder: pathlib.Path, inputs: Mapping[str, Any]) -> None:
    """Make a folder and note what its texts are made from.

    Raises:
      UserError: it holds texts that were made from something else, or can not be written.
    """
    path = folder / INPUTS
    mine = json.loads(json.dumps(inputs))
    try:
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in mine if before.get(name) != mine[name]]
            if changed:
                raise UserError(
                    f"{folder} holds texts that were made with another value of {changed[0]}; "
                    "choose another --workdir, the config that began it, or remove the folder"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(mine, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"the run's folder {folder} can not be written ({os.strerror(error.errno or 0)}); "
            "choose another --workdir"
        ) from None
    except (ValueError, AttributeError):
        raise UserError(
            f"{path} can not be read; remove it if {folder} is this config's run, or choose "
            "another --workdir"
        ) from None


def digest(value: Any) -> str:
    """A short name of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def likeliest_answers(
    sampler: Sampler, prompts: Sequence[AskedPrompt], most: int
) -> list[dict[str, Any]]:
    """The likeliest answer to each prompt; "" where the prompt leaves no room for one."""
    requests = [answer_prompt(asked.prompt, chat=sampler.chat) for asked in prompts]
    fitting = [request for request in requests if sampler.room(request) >= 1]
    stop = () if sampler.chat else constitutions.PLAIN_STOP
    found = iter(sampler.samples(fitting, max_tokens=most, stop=stop))
    return [
        {
            "prompt": asked.prompt,
            "kind": asked.kind,
            "answer": next(found)[0].text.strip() if sampler.room(request) >= 1 else "",
        }
        for asked, request in zip(prompts, requests)
    ]


def drop_counts(transcripts: Sequence[Transcript]) -> dict[str, int]:
    """How many transcripts are not learnt from, by reason."""
    counts = Counter(one.dropped for one in transcripts)
    return {why: counts[why] for why in DROPS if counts[why]}


def drop_words(transcripts: Sequence[Transcript]) -> str:
    """The same in words."""
    found = [f"{count} {why}" for why, count in drop_counts(transcripts).items()]
    return ", ".join(found) or "none dropped"


def conversation(transcript: Transcript) -> dict[str, Any]:
    """A prompt and the last text of its transcript, to learn from."""
    return {
        "messages": [
            {"role": "user", "content": transcript.prompt},
            {"role": "assistant", "content": transcript.final},
        ],
        "metadata": {"domain": transcript.kind},
    }


def helpful_conversations(data: RevisedDataConfig) -> list[dict[str, Any]]:
    """The conversations that are mixed in."""
    records = []
    for name in data.helpful_files:
        found = read_conversations(name, on_error=data.on_error)
        for record in itertools.islice(found, data.helpful_limit or None):
            tools = {"tools": record.tools} if record.tools else {}
            records.append(
                {"messages": record.messages, **tools, "metadata": {"domain": "helpful"}}
            )
    return records


def human_pairs(config: SelfPreferenceConfig, on_error: str) -> list[dict[str, Any]]:
    """The preferences of people that are mixed in, both sides as whole conversations.

    Raises:
      DataError: a record has no rejected side (with ``on_error`` "skip" it is left out).
    """
    records = []
    for name in config.human_files:
        kept = 0
        for record in read_conversations(name, on_error=on_error):
            if config.human_limit and kept == config.human_limit:
                break
            metadata = record.metadata
            try:
                if "rejected" not in metadata:
                    raise RecordError("no rejected side", f"{record.where}: no rejected side")
                rejected = rejected_side(record.messages, metadata["rejected"])
            except RecordError:
                if on_error == "skip":
                    continue
                raise
            kept += 1
            more = {key: metadata[key] for key in ("label", "margin") if key in metadata}
            first = [message["role"] for message in record.messages].index("assistant")
            own: dict[str, Any] = {
                "prompt": record.messages[:first], "chosen": record.messages,
                "rejected": rejected, "metadata": {"domain": "human", "source": "people"},
            }  # fmt: skip
            records.append(own | more)
    return records


def write_records(path: pathlib.Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines, all or none of them."""
    write_atomically(
        path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    )


def tuned_data(data: RevisedDataConfig, folder: pathlib.Path) -> ChatDataConfig:
    """How the conversations of an iteration's folder become rows."""
    shared = {field.name: getattr(data, field.name) for field in dataclasses.fields(ChatDataConfig)}
    return ChatDataConfig(**{**shared, "files": (str(folder / "conversations.jsonl"),)})
