"""The conversations or pairs of a run: read, rendered, held out, watched, shown."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from experiments.preference_config import PreferenceConfig
from experiments.progress import set_off, visible_text
from experiments.rl_config import RLConfig
from experiments.tuning_config import RecordsConfig, TuningConfig
from lilith.config import ConfigError
from lilith.data.chat import row_runs, trained_runs
from lilith.data.chat_prepare import prepare_chats
from lilith.data.chat_readers import ConversationRecord, read_conversations
from lilith.data.chat_report import ChatReport
from lilith.data.chat_rows import ChatCorpus, ChatRows
from lilith.data.decontamination import Decontamination
from lilith.data.pairs import PairCorpus, PairReport
from lilith.data.preferences import prepare_pairs
from lilith.data.prompts import PromptSet, prepare_prompts
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate


@dataclass(frozen=True)
class Conversations:
    """What a run learns from and what it is judged by.

    Attributes:
      watched: rows of other files, by the file's name, whose loss shows what is forgotten.
    """

    corpus: ChatCorpus
    watched: dict[str, ChatRows]


def prepare_conversations(
    config: TuningConfig, tokenizer: Tokenizer, template: ChatTemplate
) -> Conversations:
    """Read, check, render and pack what the config names.

    Raises:
      ConfigError: it names no files.
      DataError: see :func:`lilith.data.chat_prepare.prepare_chats`.
    """
    data = config.data
    if not data.files:
        raise ConfigError(
            "data.files is empty; name files of conversations: --set data.files=chats.jsonl, or "
            "write some with --config make_instructions"
        )
    against = _evaluation_texts(data)
    report = ChatReport()
    corpus = prepare_chats(
        _records(data.files, data.shape, data.on_error, data.limit, report),
        tokenizer,
        template,
        length=data.length,
        too_long=data.too_long,
        chain_of_thought=data.chain_of_thought,
        decontaminate=against,
        validation_fraction=data.validation_fraction,
        seed=config.seed,
        on_error=data.on_error,
        report=report,
    )
    watched = {}
    for file in data.watched_files:
        own = ChatReport()
        records = _records((file,), "auto", "skip", data.watched_limit, own)
        rows = prepare_chats(
            records, tokenizer, template, length=data.length, on_error="skip", report=own
        ).train
        watched[pathlib.PurePath(file).name.partition(".")[0]] = rows
    return Conversations(corpus, watched)


def prepare_preferences(
    config: PreferenceConfig, tokenizer: Tokenizer, template: ChatTemplate
) -> PairCorpus:
    """Read, check and render the pairs of the files that the config names.

    Raises:
      ConfigError: it names no files.
      DataError: see :func:`lilith.data.preferences.prepare_pairs`.
    """
    data = config.data
    if not data.files:
        raise ConfigError(
            "data.files is empty; name files of preferences: --set data.files=pairs.jsonl"
        )
    report = PairReport()
    return prepare_pairs(
        _records(data.files, data.shape, data.on_error, data.limit, report),
        tokenizer,
        template,
        length=data.length,
        on_error=data.on_error,
        validation_fraction=data.validation_fraction,
        seed=config.seed,
        decontaminate=_evaluation_texts(data),
        report=report,
    )


def prepare_chat_prompts(
    config: RLConfig, tokenizer: Tokenizer, template: ChatTemplate
) -> PromptSet:
    """Read and render the prompts of the files that the config names.

    Raises:
      ConfigError: it names no files.
      DataError: see :func:`lilith.data.prompts.prepare_prompts`.
    """
    data, report = config.data, ChatReport()
    if not data.files:
        raise ConfigError(
            "data.files is empty; name files of conversations, whose beginnings are the prompts: "
            "--set data.files=chats.jsonl"
        )
    return prepare_prompts(
        _records(data.files, data.shape, data.on_error, data.limit, report, unanswered=True),
        tokenizer,
        template,
        longest=data.length - config.rollout.answer_tokens,
        answered=data.answered,
        on_error=data.on_error,
        validation_fraction=data.validation_fraction,
        decontaminate=_evaluation_texts(data),
        report=report,
    )


def _evaluation_texts(data: RecordsConfig) -> Decontamination | None:
    """What nothing that is trained on may overlap with, where the config names any."""
    if not data.evaluation_files:
        return None
    return Decontamination(data.evaluation_files, n=data.overlap)


def show_first_pairs(config: PreferenceConfig, corpus: PairCorpus, count: int = 2) -> None:
    """Print the first pairs of the first batch, decoded, what is learnt set off."""
    batch = next(corpus.train_iterator(config.train.batch, seed=config.seed))
    count = min(count, len(batch["weight_P"]))
    print(f"\nfirst batch, {count} of {len(batch['weight_P'])} pairs; what is learnt is set off:")
    for i in range(count):
        for side, name in enumerate(("chosen", "rejected")):
            length = batch["length_PS"][i, side]
            ids, mask = (batch[key][i, side, :length] for key in ("tokens_PST", "learnt_PST"))
            print(f"--- {name}: {int(mask.sum())} of {length} tokens learnt")
            _print_runs(trained_runs(ids, mask > 0, corpus.tokenizer))


def _print_runs(runs: Iterable[tuple[str, bool]]) -> None:
    """Print texts one after another, what is learnt set off."""
    pieces = ((visible_text(text), learnt) for text, learnt in runs)
    print("".join(set_off(text) if learnt else text for text, learnt in pieces))


def show_first_batch(config: TuningConfig, chats: Conversations, shown: int = 2) -> None:
    """Print the first rows of the first batch, decoded, what is learnt set off."""
    batch = next(chats.corpus.train_iterator(config.train.batch, seed=config.seed))
    count = len(batch["tokens"])
    print(f"\nfirst batch, {min(shown, count)} of {count} rows; what is learnt is set off:")
    for i in range(min(shown, count)):
        row = {name: array[i] for name, array in batch.items()}
        print(f"--- {int(row['loss_mask'].sum())} of {len(row['tokens'])} tokens learnt")
        for number, runs in enumerate(row_runs(row, chats.corpus.tokenizer), 1):
            print(f"[conversation {number}]")
            _print_runs(runs)


def _records(
    paths: Iterable[str],
    shape: str,
    on_error: str,
    limit: int,
    report: ChatReport,
    unanswered: bool = False,
) -> Iterator[ConversationRecord]:
    """The records of all files in order, at most ``limit`` of them (0: all)."""
    readers = (
        read_conversations(
            path, shape=shape, on_error=on_error, report=report, unanswered=unanswered
        )
        for path in paths
    )
    return itertools.islice(itertools.chain.from_iterable(readers), limit or None)
