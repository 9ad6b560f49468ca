"""A model one can talk to: generate, stream, score."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lilith.config import ModelConfig, UserError
from lilith.inference.engine import CALL_TOKENS, Engine, Generation
from lilith.inference.grammar import Grammar, masks, unmasked_budget
from lilith.inference.sampling import make_controls
from lilith.inference.text_stream import TextStream
from lilith.model.layered import fuse_layers, unstack_layers
from lilith.model.params import Params
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.tokenizer import Tokenizer
from lilith.tokenizer.chat_template import ChatTemplate

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Messages | Sequence[int]

# What chat models end a turn with, where their file names only one end token.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>")
_FIRST_PIECES = (1, 2, 4, 8)  # tokens between two pieces of a stream: soon at first, then rarely


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
      text: without the token or string that ended it.
      tokens: the generated ids, the stop token included.
      log_probs: of each of them, under the model's unmodified distribution.
      finish_reason: "stop" (a stop token or string), "length" (max_tokens) or "context".
      prompt_tokens: how long the prompt was.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str
    prompt_tokens: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """How an answer is generated; the arguments of :meth:`LanguageModel.generate`.

    Attributes:
      max_tokens: most tokens an answer has.
      temperature: 0 takes the likeliest token each time.
      top_k, top_p, min_p, repetition_penalty: see :class:`lilith.inference.sampling.Controls`.
      seed: fixes the draws; row r of a batch uses ``seed + r``.
      stop: strings that end an answer and are not part of it.
      stop_ids: token ids that end one, besides the model's own.
      speculative: tokens proposed by prompt lookup at a time; 0 for none. The output is the same.
      truncate: drop the start of a prompt that is longer than the context.
      tools: JSON schemas for the chat template, when the prompt is messages.
      grammar: which ids may follow which; None for all.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    speculative: int = 0
    truncate: bool = False
    tools: Sequence[Mapping[str, Any]] | None = None
    grammar: Grammar | None = None


class LanguageModel:
    """Parameters, tokenizer and chat template together.

    Args:
      params: stacked or one by one; one by one they are taken over (fused layer by layer).
      chat_template: Jinja source of the model's own template; None for a model that has none.
      stop_ids: ids that end an answer, besides the tokenizer's end of text.
      add_bos: plain prompts start with the tokenizer's first token, as the model was trained.
      mesh: where the parameters live, if they are on more than one device.
    """

    def __init__(
        self,
        params: Params,
        config: ModelConfig,
        tokenizer: Tokenizer,
        *,
        chat_template: str | None = None,
        stop_ids: Sequence[int] = (),
        add_bos: bool = False,
        rules: ShardingRules = DEFAULT_RULES,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        if tokenizer.vocab_size > config.vocab:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the model only "
                f"{config.vocab}; they do not belong together"
            )
        self.config, self.tokenizer, self.add_bos = config, tokenizer, add_bos
        if mesh is None:
            params = fuse_layers(unstack_layers(params))
        self.engine = Engine(params, config, vocab=tokenizer.vocab_size, rules=rules, mesh=mesh)
        special = tokenizer.special_tokens
        self.chat_template = (
            None if chat_template is None else ChatTemplate.of(chat_template, tokenizer)
        )
        ends = [special[text] for text in _END_OF_TURN if text in special]
        self.stop_ids = tuple(dict.fromkeys((tokenizer.eos_id, *stop_ids, *ends)))

    @property
    def params(self) -> Params:
        """The parameters, as generation holds them."""
        return self.engine.params

    def encode(self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Token ids of a text, of messages by the chat template, or ids as they are.

        Raises:
          UserError: the prompt is empty, or messages were given and there is no chat template.
        """
        if isinstance(prompt, str):
            if not prompt:
                raise UserError("the prompt is empty; generation needs at least one token")
            ids = self.tokenizer.encode(prompt)
            return [self.tokenizer.bos_id, *ids] if self.add_bos else ids
        ids = [int(item) for item in prompt if isinstance(item, (int, np.integer))]
        if len(ids) == len(prompt):
            return self._checked_ids(ids)
        if self.chat_template is None:
            raise UserError(
                "this model's tokenizer has no chat template, so it can not be given messages; "
                "pass text, or set one: LanguageModel(..., chat_template=CHATML)"
            )
        messages = [item for item in prompt if isinstance(item, Mapping)]
        if len(messages) < len(prompt):
            raise UserError("a prompt is a text, a list of messages, or a list of token ids")
        return self.chat_template.encode(messages, self.tokenizer, tools=tools)

    def generate(self, prompt: Prompt, **settings: Any) -> str:
        """The answer to one prompt. Keyword arguments are those of :class:`Settings`."""
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: Prompt, **settings: Any) -> Iterator[str]:
        """The answer in pieces, as it is generated; close the iterator to stop it.

        The caches of the last conversations are kept: a prompt that continues one of them reads
        only what is new.
        """
        wanted = _settings(settings)
        row = self._fit(self.encode(prompt, wanted.tools), wanted)
        return self._stream(row, isinstance(prompt, str), wanted)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int = 1,
        batch_size: int = 16,
        on_text: Callable[[Sequence[str]], None] | None = None,
        **settings: Any,
    ) -> list[Completion]:
        """Answers to many prompts, ``n`` of each, which share one reading of the prompt.

        Args:
          batch_size: rows generated together.
          on_text: given what is new in each row's answer, after each call of the model.

        Returns:
          ``len(prompts) * n`` completions; those of prompt i are at ``i * n`` and after.
        """
        wanted = _settings(settings)
        if n < 1 or batch_size < 1:
            raise UserError(f"n is {n} and batch_size is {batch_size}; both must be at least 1")
        rows = [self._fit(self.encode(prompt, wanted.tools), wanted) for prompt in prompts]
        found: list[Completion] = []
        together = max(1, batch_size // n)
        for i in range(0, len(rows), together):
            texts = [isinstance(prompt, str) for prompt in prompts[i : i + together]]
            answers = [
                _Answer(self, row, text, wanted)
                for row, text in zip(rows[i : i + together], texts)
                for _ in range(n)
            ]
            pieces = (CALL_TOKENS,)
            seed = wanted.seed + i * n
            for found_now in self._run(rows[i : i + together], answers, wanted, seed, n, pieces):
                if on_text is not None:
                    on_text(found_now)
            found += [answer.completion() for answer in answers]
        return found

    def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation after the prompt, summed over its tokens.

        A text prompt and a continuation are tokenised together, so that tokens which span their
        border are the model's own; after messages a continuation is the assistant's answer.

        Raises:
          UserError: an empty prompt or continuation, or both pass the context.
        """
        if not all(continuations):
            raise UserError("a continuation is empty; scoring needs at least one token")
        if not isinstance(prompt, str):
            shared = self.encode(prompt)
            tails = [self.tokenizer.encode(text) for text in continuations]
        else:
            wholes = [self.encode(prompt + text) for text in continuations]
            shared = self.encode(prompt)
            while shared and any(whole[: len(shared)] != shared for whole in wholes):
                shared = shared[:-1]
            shared = shared[: min(len(shared), *(len(whole) - 1 for whole in wholes))]
            tails = [whole[len(shared) :] for whole in wholes]
        if not shared:  # the first token of a text has no probability; all rows share its start
            raise UserError(
                f"the prompt {str(prompt)[:40]!r} and its continuations share no first token; "
                "make the prompt longer"
            )
        return [
            float(np.sum(own, dtype=np.float64)) for own in self.engine.log_probs(shared, tails)
        ]

    def _stream(self, row: list[int], is_text: bool, wanted: Settings) -> Iterator[str]:
        answer = _Answer(self, row, is_text, wanted)
        for pieces in self._run([row], [answer], wanted, wanted.seed, 1, _FIRST_PIECES):
            if pieces[0]:
                yield pieces[0]

    def _run(
        self,
        rows: list[list[int]],
        answers: list[_Answer],
        wanted: Settings,
        seed: int,
        copies: int,
        budgets: Sequence[int],
    ) -> Iterator[list[str]]:
        """Generate until every answer is finished; the new text of each after each call."""
        grammar = wanted.grammar
        states = (
            [] if grammar is None else [grammar.start(row) for row in rows for _ in range(copies)]
        )
        pauses = () if grammar is None else tuple(grammar.pause_ids)
        controls = make_controls(
            len(answers),
            seeds=seed + np.arange(len(answers)),
            temperature=wanted.temperature,
            top_k=wanted.top_k,
            top_p=wanted.top_p,
            min_p=wanted.min_p,
            repetition_penalty=wanted.repetition_penalty,
            stop_ids=tuple(dict.fromkeys((*self.stop_ids, *wanted.stop_ids, *pauses))),
        )
        reserve = max(answer.room for answer in answers) + wanted.speculative
        generation: Generation = self.engine.begin(
            rows, controls, copies=copies, reserve=reserve,
            allowed_BW=masks(states, [answer.left for answer in answers]),
        )  # fmt: skip
        calls, allowed_BW = 0, None
        try:
            while True:
                budget = budgets[min(calls, len(budgets) - 1)]
                left = [answer.left for answer in answers]
                if calls:
                    allowed_BW = masks(states, left)
                step = self.engine.step(
                    generation,
                    [min(budget, own) for own in unmasked_budget(states, left)],
                    drafts=wanted.speculative,
                    resume=grammar is not None,
                    allowed_BW=allowed_BW,
                )
                calls += 1
                for state, tokens in zip(states, step.tokens):
                    for token in tokens:
                        state.accept(token)
                yield [
                    answer.add(tokens, log_probs)
                    for answer, tokens, log_probs in zip(answers, step.tokens, step.log_probs)
                ]
                if not any(answer.left for answer in answers):
                    return
        finally:
            if not sys.is_finalizing():  # a stream left open until the interpreter ends
                self.engine.end(generation)

    def _fit(self, row: list[int], wanted: Settings) -> list[int]:
        """A prompt that leaves room for an answer, cut from the left only when asked."""
        context = self.config.context
        if wanted.truncate and len(row) + wanted.max_tokens > context:
            keep = max(context - wanted.max_tokens, context // 2)
            row = row[-keep:] if not self.add_bos else [row[0], *row[len(row) - keep + 1 :]]
        self.engine.check_length(len(row))
        return row

    def _checked_ids(self, ids: list[int]) -> list[int]:
        wrong = [index for index in ids if not 0 <= index < self.tokenizer.vocab_size]
        if wrong:
            raise UserError(
                f"token id {wrong[0]} is outside the vocabulary of {self.tokenizer.vocab_size}"
            )
        return ids


class _Answer:
    """One row's answer as it grows."""

    def __init__(self, model: LanguageModel, row: list[int], is_text: bool, wanted: Settings):
        self.prompt_tokens = len(row)
        self.room = min(wanted.max_tokens, model.config.context - len(row))
        self._wanted = wanted
        self._ends = frozenset((*model.stop_ids, *wanted.stop_ids))
        tokenizer = model.tokenizer
        hidden = self._ends | {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id}
        self._text = TextStream(
            tokenizer, stop=wanted.stop, hidden=hidden, context=row[-1:] if is_text else ()
        )
        self._tokens: list[int] = []
        self._log_probs: list[float] = []
        self._ended = False

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return 0 if self._ended else self.room - len(self._tokens)

    def add(self, tokens: list[int], log_probs: list[float]) -> str:
        """Take generated tokens; the new text."""
        piece = ""
        for token, log_prob in zip(tokens, log_probs):
            if self._ended:
                break
            self._tokens.append(token)
            self._log_probs.append(log_prob)
            piece += self._text.feed([token])
            self._ended = token in self._ends or self._text.stopped
        return piece if self.left or not tokens else piece + self._text.finish()

    def completion(self) -> Completion:
        """The finished answer."""
        cut = "length" if len(self._tokens) >= self._wanted.max_tokens else "context"
        return Completion(
            text=self._text.text,
            tokens=tuple(self._tokens),
            log_probs=tuple(self._log_probs),
            finish_reason="stop" if self._ended else cut,
            prompt_tokens=self.prompt_tokens,
        )


def _settings(given: Mapping[str, Any]) -> Settings:
    """The settings, checked.

    Raises:
      UserError: an unknown name or a value out of range.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise UserError(f"generation has no setting {name!r}; it has {', '.join(known)}")
    wanted = Settings(**given)
    for name, value, least in (
        ("max_tokens", wanted.max_tokens, 1),
        ("speculative", wanted.speculative, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    if isinstance(wanted.stop, str):
        wanted = dataclasses.replace(wanted, stop=(wanted.stop,))
    if not all(isinstance(text, str) and text for text in wanted.stop):
        raise UserError(f"stop is {wanted.stop!r}; it must be strings that are not empty")
    return wanted
