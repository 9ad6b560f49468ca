"""The conversations of a tuning run: read, rendered, held out, watched, shown."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from experiments.progress import set_off, visible_text
from experiments.tuning_config import TuningConfig
from lilith.config import ConfigError
from lilith.data.chat import row_runs
from lilith.data.chat_prepare import prepare_chats
from lilith.data.chat_readers import ConversationRecord, read_conversations
from lilith.data.chat_report import ChatReport
from lilith.data.chat_rows import ChatCorpus, ChatRows
from lilith.data.decontamination import Decontamination
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate


@dataclass(frozen=True)
class Conversations:
    """What a run learns from and what it is judged by.

    Attributes:
      held_out: validation rows by domain; those of training where nothing was held out.
      watched: rows of other files, by the file's name, whose loss shows what is forgotten.
    """

    corpus: ChatCorpus
    held_out: dict[str, ChatRows]
    watched: dict[str, ChatRows]

    def lines(self) -> list[str]:
        """What was kept and left out, for a log."""
        lines = self.corpus.lines()
        if not self.corpus.validation:
            lines.append(
                "nothing was held out (few conversations, or a small "
                "data.validation_fraction): validation is on the training rows"
            )
        return lines


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
    against = None
    if data.evaluation_files:
        against = Decontamination(data.evaluation_files, n=data.overlap)
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
    return Conversations(corpus, corpus.validation or {"train": corpus.train}, watched)


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
            pieces = ((visible_text(text), learnt) for text, learnt in runs)
            print("".join(set_off(text) if learnt else text for text, learnt in pieces))


def _records(
    paths: Iterable[str], shape: str, on_error: str, limit: int, report: ChatReport
) -> Iterator[ConversationRecord]:
    """The records of all files in order, at most ``limit`` of them (0: all)."""
    readers = (
        read_conversations(path, shape=shape, on_error=on_error, report=report) for path in paths
    )
    return itertools.islice(itertools.chain.from_iterable(readers), limit or None)
