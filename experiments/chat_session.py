"""A conversation with a model: its history, what of it fits the context, saving and loading."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

from experiments.chat_config import ChatConfig
from lilith.config import ModelConfig, UserError
from lilith.config_parsing import to_dict
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate, ChatTemplateError, check_messages
from lilith.train.metrics import write_atomically

Message = dict[str, Any]
FORMAT = 1  # of a saved chat
TURN_END = "<|im_end|>"  # in CHATML
SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_tokens", "seed",
    "speculative",
)  # fmt: skip
# At least this share of the context is kept free for the answer before turns are left out.
ANSWER_SHARE = 4


class ChatModel(Protocol):
    """What a chat asks of a language model."""

    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None

    def stream(self, prompt: Sequence[Message], **sampling: Any) -> Iterator[str]:
        """Pieces of the answer; closing the iterator stops the generation."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What can be said of an answer when it has ended."""

    tokens: int
    seconds: float  # from the question to the end
    first_seconds: float  # from the question to the first piece
    prompt_tokens: int
    left_out: int  # turns that did not fit the context
    cut: str  # what ended it too early: max_tokens, context, or nothing

    @property
    def tokens_per_second(self) -> float:
        """The speed after the first piece; 0 for an answer of one."""
        spent = self.seconds - self.first_seconds
        return (self.tokens - 1) / spent if self.tokens > 1 and spent > 0 else 0.0


class Chat:
    """A conversation. ``messages`` is what was said; ``system`` goes before it.

    Raises:
      UserError: the model has no chat template, or the history can not be read.
    """

    def __init__(self, model: ChatModel, config: ChatConfig) -> None:
        if model.chat_template is None:
            raise UserError(
                f"{config.checkpoint} carries no chat template, so it is a base model that "
                "continues text; --set template=chatml talks to it in LILITH's own format"
            )
        self.model, self.config, self.template = model, config, model.chat_template
        self.system, self.messages = config.system, list[Message]()
        self.answer: Answer | None = None
        if config.history:
            system, self.messages = load_history(pathlib.Path(config.history).expanduser())
            self.system = config.system if config.system is not None else system

    def reset(self) -> None:
        """Forget what was said; the system prompt stays."""
        self.messages = []

    def ask(self, question: str) -> Generator[str, None, None]:
        """Yield the answer piece by piece; both join the history when it ends or is closed.

        A question without any answer (an error, a stop before the first piece) leaves no trace.
        :attr:`answer` then tells of it.

        Raises:
          UserError: an empty question, or one too long for the context.
        """
        if not question.strip():
            raise UserError("the question is empty; ask something")
        self.answer = None
        began = time.perf_counter()
        turn = [*self.messages, {"role": "user", "content": question}]
        sent, length, left_out = self._fit(turn)
        room = min(self.config.max_tokens, self.model.config.context - length)
        pieces: list[str] = []
        first = began
        with contextlib.closing(self._stream(sent, room)) as stream:
            try:
                for piece in stream:
                    if not pieces:
                        first = time.perf_counter()
                    pieces.append(piece)
                    yield piece
            finally:
                text = "".join(pieces)
                if text:
                    self.messages = [*turn, {"role": "assistant", "content": text}]
                tokens = len(self.model.tokenizer.encode(text))
                seconds = time.perf_counter() - began
                limit = "max_tokens" if room == self.config.max_tokens else "context"
                cut = limit if tokens >= room else ""
                self.answer = Answer(tokens, seconds, first - began, length, left_out, cut)

    def save(self, path: pathlib.Path) -> pathlib.Path:
        """Write the conversation as JSON, whole or not at all; returns where.

        Raises:
          UserError: the file can not be written, or is something else than a saved chat.
        """
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file")
        if path.exists():
            try:
                load_history(path)
            except UserError:
                raise UserError(
                    f"{path} exists and is no saved chat; choose another name"
                ) from None
        settings = to_dict(self.config)
        saved = {
            "format": FORMAT,
            "model": self.config.checkpoint,
            "settings": {name: settings[name] for name in SAMPLING},
            "messages": self._with_system(self.messages),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(saved, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{path} can not be written: {error.strerror or error}") from None
        return path

    def _stream(self, messages: list[Message], room: int) -> Any:
        sampling = {name: getattr(self.config, name) for name in SAMPLING}
        turns = sum(message["role"] == "user" for message in self.messages)
        sampling |= {"max_tokens": room, "seed": (self.config.seed + turns) % 2**32}
        if self.config.template == "chatml":  # a base model may have no such token
            sampling["stop"] = (TURN_END,)
        return self.model.stream(messages, **sampling)

    def _with_system(self, messages: list[Message]) -> list[Message]:
        if self.system is None:
            return messages
        return [{"role": "system", "content": self.system}, *messages]

    def _fit(self, turn: list[Message]) -> tuple[list[Message], int, int]:
        """What is sent of a conversation, its tokens, and how many turns were left out."""
        context = self.model.config.context
        reserve = min(self.config.max_tokens, context // ANSWER_SHARE)
        starts = [i for i, message in enumerate(turn) if message["role"] == "user"]
        if not self.config.truncate:
            starts, reserve = starts[:1], 1
        starts[0] = 0
        for left_out, start in enumerate(starts):
            sent = self._with_system(turn[start:])
            length = len(self.template.encode(sent, self.model.tokenizer))
            if length + reserve <= context:
                return sent, length, left_out
        if length < context:  # the question alone, with less room for its answer
            return sent, length, left_out
        if len(turn) == 1 or self.config.truncate:
            alone = "this question alone" if self.system is None else "question and system prompt"
            raise UserError(
                f"{alone} take{'s' if self.system is None else ''} {length:,} tokens, and the "
                f"model's context is {context:,}; shorten what you ask"
            )
        raise UserError(
            f"the conversation takes {length:,} tokens, and the model's context is {context:,}: "
            "/reset begins anew, or start with --set truncate=true, which leaves out the oldest "
            "turns"
        )


def load_history(path: pathlib.Path) -> tuple[str | None, list[Message]]:
    """System prompt and messages of a saved chat.

    Raises:
      UserError: it can not be read, or is no saved chat.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"history {path} can not be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"history {path} is not valid JSON: {error}") from None
    if not isinstance(saved, dict) or "messages" not in saved:
        raise UserError(f"history {path} has no 'messages'; expected a file that /save wrote")
    if saved.get("format") != FORMAT:
        raise UserError(
            f"history {path} has format {saved.get('format')!r}; this version reads {FORMAT}"
        )
    messages = saved["messages"]
    if messages != []:
        try:
            check_messages(messages)
        except ChatTemplateError as error:
            raise UserError(f"history {path}: {error}") from None
    system = None
    if messages and messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    return system, messages
