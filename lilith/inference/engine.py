"""The host's side of generation: few compiled shapes, prompts in pieces, reused prefixes.

Rows, prompt pieces and cache sizes are rounded up to powers of two, so that a new prompt length
compiles nothing. The caches of the last conversations are kept, and a prompt that begins like one
of them is read from where they part.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lilith.config import ModelConfig, UserError
from lilith.inference import cache_rows, sampler
from lilith.inference.sampler import DecodeState
from lilith.inference.sampling import Controls
from lilith.model.cache import KVCache
from lilith.model.transformer import forward, unembed
from lilith.sharding import DEFAULT_RULES, ShardingRules, constrain

CALL_TOKENS = 64  # most tokens a row generates in one call of the compiled loop
PIECE = 512  # most prompt tokens read in one call
SMALLEST_PIECE = 16
SMALLEST_CAPACITY = 256
LARGE_CAPACITY = 2048  # larger caches are multiples of it
KEPT_PREFIXES = 4


class Step(NamedTuple):
    """What one call generated: ids and log-probabilities of each row."""

    tokens: list[list[int]]
    log_probs: list[list[float]]


class Prefix(NamedTuple):
    """Tokens whose keys and values are in a one-row cache."""

    tokens: tuple[int, ...]
    cache: KVCache


@dataclass
class Generation:
    """Rows being generated. ``pending`` holds their first tokens until the first step."""

    rows: list[list[int]]
    state: DecodeState
    controls: Controls
    pending: Step | None


class Engine:
    """Prefill and decode for one model.

    Args:
      params: in the generation layout or stacked; see :mod:`lilith.model.layered`.
      vocab: only ids below it are generated.
      mesh: where the parameters live, if they are on more than one device.
    """

    def __init__(
        self,
        params: Any,
        config: ModelConfig,
        *,
        vocab: int | None = None,
        rules: ShardingRules = DEFAULT_RULES,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        self.params, self.config, self.vocab, self.rules = params, config, vocab, rules
        self.mesh = mesh
        self.read_tokens = 0  # prompt tokens that went through the model so far
        self._prefixes: list[Prefix] = []
        self._static = {"config": config, "rules": rules}

    def begin(
        self,
        rows: Sequence[Sequence[int]],
        controls: Controls,
        *,
        copies: int = 1,
        reserve: int,
        allowed_BW: np.ndarray | None = None,
    ) -> Generation:
        """Read the prompts and choose the first token of ``copies`` rows for each of them.

        Args:
          controls: for all ``len(rows) * copies`` rows; copies of a prompt are neighbours.
          reserve: most tokens a row may generate, drafts included.
          allowed_BW: which ids may come first, see :func:`lilith.inference.sampling.choose`.

        Raises:
          UserError: a prompt is empty or leaves no room in the model's context.
        """
        prompts = [list(row) for row in rows]
        for row in prompts:
            self.check_length(len(row))
        with self.scope():
            last_BD, cache = self._read(prompts, reserve)
            if copies > 1:
                last_BD, cache = cache_rows.repeat(last_BD, cache, copies, self.rules)
            padded = len(last_BD)
            repeated = [row for row in prompts for _ in range(copies)]
            history = sampler.left_align(repeated, padded, cache.capacity)
            controls = jax.tree.map(partial(_pad_rows, rows=padded), controls)
            allowed_BW = None if allowed_BW is None else _pad_rows(allowed_BW, padded)
            state, log_prob_B = sampler.start(
                self.params, last_BD, cache, history, controls, allowed_BW, vocab=self.vocab,
                **self._static,
            )  # fmt: skip
            lengths = [len(row) for row in repeated]
            first = np.asarray(state.history_BS)[np.arange(len(repeated)), lengths]
        step = Step(
            [[int(token)] for token in first],
            [[float(x)] for x in np.asarray(log_prob_B)[: len(first)]],
        )
        return Generation(repeated, state, controls, step)

    def step(
        self,
        generation: Generation,
        budgets: Sequence[int],
        *,
        drafts: int = 0,
        resume: bool = False,
        allowed_BW: np.ndarray | None = None,
    ) -> Step:
        """Continue each row by up to its budget, at most :data:`CALL_TOKENS`.

        The first step gives the tokens that :meth:`begin` chose.

        Args:
          resume: rows with a budget go on even if a stop id was their last token.
          allowed_BW: which ids may come next, see :func:`lilith.inference.sampling.choose`; one
            token a row is generated then, without drafts.
        """
        if generation.pending is not None:
            first, generation.pending = generation.pending, None
            return first
        budget = _pad_rows(
            np.minimum(budgets, CALL_TOKENS).astype(np.int32), len(generation.state.done_B), fill=0
        )
        if allowed_BW is not None:
            budget, drafts = np.minimum(budget, 1), 0
            allowed_BW = _pad_rows(allowed_BW, len(budget))
        with self.scope():
            if resume:
                done_B = sampler.place_rows(np.asarray(generation.state.done_B) & (budget == 0),
                                            self.rules)  # fmt: skip
                generation.state = dataclasses.replace(generation.state, done_B=done_B)
            out, generation.state = sampler.decode(
                self.params,
                generation.state,
                generation.controls,
                budget,
                allowed_BW,
                width=CALL_TOKENS,
                drafts=drafts,
                vocab=self.vocab,
                **self._static,
            )
            tokens, log_probs, lengths = (np.asarray(leaf) for leaf in out)
        count = len(generation.rows)
        return Step(
            [row[:n].tolist() for row, n in zip(tokens[:count], lengths)],
            [row[:n].tolist() for row, n in zip(log_probs[:count], lengths)],
        )

    def keep(self, generation: Generation, chosen: Sequence[int]) -> bool:
        """Go on with the rows ``chosen`` alone, if that makes the compiled batch smaller.

        A row that has ended costs as much as one that goes on until it is left out here.
        """
        padded = self._round_rows(len(chosen))
        if not chosen or padded >= len(generation.state.done_B):
            return False
        generation.rows = [generation.rows[i] for i in chosen]
        rows_B = _pad_rows(np.asarray(chosen, np.int32), padded)
        with self.scope():
            generation.state = cache_rows.take(generation.state, rows_B, self.rules)
        generation.controls = jax.tree.map(lambda leaf: leaf[rows_B], generation.controls)
        return True

    def end(self, generation: Generation) -> None:
        """Keep the cache of a single row, so that a prompt which continues it starts there."""
        if len(generation.rows) != 1 or len(generation.state.done_B) != 1:
            return
        held = int(np.asarray(generation.state.cache.length_B)[0])
        tokens = tuple(np.asarray(generation.state.history_BS)[0, :held].tolist())
        self._prefixes = [*self._prefixes, Prefix(tokens, generation.state.cache)][-KEPT_PREFIXES:]

    def forget(self) -> None:
        """Release the kept caches."""
        self._prefixes = []

    def log_probs(
        self, prompt: Sequence[int], continuations: Sequence[Sequence[int]], *, rows: int = 8
    ) -> list[np.ndarray]:
        """Log-probability of each continuation's tokens after ``prompt``, which is read once.

        Args:
          rows: continuations run together.

        Raises:
          UserError: prompt or continuation is empty, or both pass the model's context.
        """
        if not all(continuations):
            raise UserError("a continuation has no tokens; scoring needs at least one")
        longest = max(map(len, continuations))
        self.check_length(len(prompt) + longest - 1)
        width = _power_of_two(longest, SMALLEST_PIECE)
        found: list[np.ndarray] = []
        with self.scope():
            last_BD, cache = self._read([list(prompt)], width)
            for i in range(0, len(continuations), rows):
                group = list(continuations[i : i + rows])
                count = _power_of_two(len(group), 1)
                # Rows that only fill the mesh are repeated too, after those of the prompt.
                tokens = sampler.left_align(group, count * len(last_BD), width)
                repeated = cache_rows.repeat(last_BD, cache, count, self.rules)
                scored = np.asarray(_score(self.params, tokens, *repeated, **self._static))
                found += [own[: len(row)] for own, row in zip(scored, group)]
        self._prefixes = [*self._prefixes, Prefix(tuple(prompt), cache)][-KEPT_PREFIXES:]
        return found

    def check_length(self, tokens: int) -> None:
        """Refuse a prompt without tokens, or one that leaves no room for an answer.

        Raises:
          UserError: with the number of tokens and the context.
        """
        if not tokens:
            raise UserError("the prompt is empty; generation needs at least one token")
        if tokens >= self.config.context:
            raise UserError(
                f"the prompt has {tokens} tokens and the model's context is {self.config.context}, "
                "one of which the answer needs; shorten it, or pass truncate=True to drop its start"
            )

    def scope(self) -> Any:
        """The model's mesh, in force."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def _read(self, rows: list[list[int]], reserve: int) -> tuple[jax.Array, KVCache]:
        """The last hidden state of each prompt and the filled cache, rows padded."""
        prefix = self._longest_prefix(rows[0]) if len(rows) == 1 else None
        held = 0 if prefix is None else _common(prefix.tokens, rows[0][:-1])
        longest = max(map(len, rows))
        pieces = _pieces(longest - held)
        capacity = round_capacity(max(held + sum(pieces), longest + reserve + 1))
        batch = self._round_rows(len(rows))
        if prefix is None:
            cache = cache_rows.empty_cache(self.params, batch, capacity, **self._static)
        else:
            cache = cache_rows.resume(prefix.cache, held, max(capacity, prefix.cache.capacity))
        last_BD = jnp.zeros((batch, self.config.d_model), self.config.compute_dtype)
        start = held
        for width in pieces:
            parts = [row[start : start + width] for row in rows]
            tokens = sampler.left_align(parts, batch, width)
            counts = _pad_rows(np.array([len(part) for part in parts], np.int32), batch, fill=0)
            last_BD, cache = sampler.read_prompts(
                self.params, tokens, counts, cache, last_BD, **self._static
            )
            start += width
        self.read_tokens += sum(len(row) - held for row in rows)
        return last_BD, cache

    def _longest_prefix(self, row: list[int]) -> Prefix | None:
        """Take out the kept cache that shares most with ``row``, if it saves anything."""
        shared = [_common(prefix.tokens, row[:-1]) for prefix in self._prefixes]
        best = max(range(len(shared)), key=shared.__getitem__, default=None)
        return None if best is None or shared[best] < SMALLEST_PIECE else self._prefixes.pop(best)

    def _round_rows(self, rows: int) -> int:
        """A power of two that divides over the mesh's rows."""
        mesh = self.mesh
        shards = 1 if mesh is None else mesh.shape.get("data", 1) * mesh.shape.get("fsdp", 1)
        return -(-_power_of_two(rows, 1) // shards) * shards


@partial(jax.jit, static_argnames=("config", "rules"))
def _score(
    params: Any,
    tokens_BT: jax.Array,
    last_BD: jax.Array,
    cache: KVCache,
    *,
    config: ModelConfig,
    rules: ShardingRules,
) -> jax.Array:
    """Log-probability of each token, [B, T]; the first one's is from the prompt's last state."""
    tokens_BT = sampler.place_rows(tokens_BT, rules)
    hidden_BTD, _ = forward(params, tokens_BT, config, cache=cache, rules=rules)
    before_BTD = jnp.concatenate([last_BD[:, None].astype(hidden_BTD.dtype), hidden_BTD[:, :-1]], 1)

    def column(_: Any, piece: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        hidden_BD, own_B = piece
        logits_BV = unembed(params, hidden_BD[:, None], config, rules)[:, 0]
        logits_BV = constrain(logits_BV, rules, "batch", None)
        at_token_B = jnp.take_along_axis(logits_BV, own_B[:, None], axis=1)[:, 0]
        return None, at_token_B - jax.nn.logsumexp(logits_BV, axis=-1)

    # A token at a time: [B, T, V] in float32 would be the largest array by far.
    _, found_TB = jax.lax.scan(column, None, (before_BTD.swapaxes(0, 1), tokens_BT.T))
    return found_TB.T


def _pieces(tokens: int) -> list[int]:
    """Sizes of the calls that read a prompt: powers of two, at most a third of each is padding."""
    full, rest = divmod(tokens, PIECE)
    pieces = [PIECE] * full
    while rest > 0:
        width = _power_of_two(rest, SMALLEST_PIECE)
        if width > SMALLEST_PIECE and rest <= width * 3 // 4:
            width //= 2
        pieces.append(width)
        rest -= width
    return pieces


def round_capacity(tokens: int) -> int:
    """A power of two for short rows; for long ones doubling would waste memory."""
    if tokens <= LARGE_CAPACITY:
        return _power_of_two(tokens, SMALLEST_CAPACITY)
    return -(-tokens // LARGE_CAPACITY) * LARGE_CAPACITY


def _power_of_two(number: int, least: int) -> int:
    return max(least, 1 << max(number - 1, 0).bit_length())


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    count = 0
    for a, b in zip(first, second):
        if a != b:
            break
        count += 1
    return count


def _pad_rows(values: Any, rows: int, fill: int | None = None) -> np.ndarray:
    """More rows: copies of the last one, or of ``fill``."""
    values = np.asarray(values)
    extra = np.repeat(values[-1:], rows - len(values), axis=0)
    return np.concatenate([values, extra if fill is None else np.full_like(extra, fill)])
