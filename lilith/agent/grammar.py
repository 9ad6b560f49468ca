"""Well-formed calls: after ``<tool_call>`` only the JSON of a granted tool can be generated.

Masks over the vocabulary come from llguidance, one for each token of a call; the sampler takes
them as an argument, so that no tool and no schema makes it compile anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import llguidance
import numpy as np

from lilith.agent.grammar_keys import KeyTracker
from lilith.agent.grammar_rules import call_rules
from lilith.agent.registry import ToolRegistry
from lilith.agent.tool_calls import CLOSE, OPEN
from lilith.agent.tool_results import References
from lilith.config import UserError
from lilith.quant.tool import Parameter
from lilith.tokenizer import Tokenizer

_OPEN = OPEN.encode()
# What a call that must end soon goes on with: ends of things first, then the shortest values.
_SHORTEST = tuple(b'}]",123456789-0.')
_IN_TEXT = tuple(b'"abcdefghijklmnopqrstuvwxyz0123456789')
_OTHERS = (*range(32, 127), ord("\n"), *range(128, 256))
_CONTINUATION = bytes(range(128, 192))  # bytes of UTF-8 that begin no character
_SPECIAL = b"\xff"  # what llguidance writes before the number of a special token
_GROWTH = 64  # tokens that a field of a call and its shortest value take, at most
_LONGEST_END = 4000  # bytes
_TAIL = 16  # tokens of a prompt that are looked at for an open call


class TokenBytes:
    """What each token of a tokenizer writes, as llguidance wants it.

    Attributes:
      pieces: the bytes of each id, in the middle of a text.
      special: ids of special tokens, which no text of a call may hold.
      single: of single bytes, an id that writes them.
      quoting: ids that write a quote.
      pauses: ids that open a call, or begin to.
      close_id: the special token ``</tool_call>``; None where it is ordinary text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        eos = tokenizer.eos_id
        known = len(tokenizer.decode_bytes([eos]))
        # After another token: alone, some tokenizers leave a first space out.
        self.pieces = [
            tokenizer.decode_bytes([eos, index])[known:] for index in range(tokenizer.vocab_size)
        ]
        self.special = frozenset(tokenizer.special_tokens.values())
        self.width = -(-tokenizer.vocab_size // 32)
        self.single = {
            piece[0]: index
            for index, piece in enumerate(self.pieces)
            if len(piece) == 1 and index not in self.special
        }
        self.quoting = [
            index for index, piece in enumerate(self.pieces)
            if b'"' in piece and index not in self.special
        ]  # fmt: skip
        self.engine = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(
                SimpleTokenizer(
                    eos_token_id=eos,
                    bos_token_id=tokenizer.bos_id,
                    tokens=self.pieces,
                    special_token_ids=sorted(self.special),
                    encode=tokenizer.encode_after_special,
                )
            )
        )
        self.pauses = tuple(
            index for index, piece in enumerate(self.pieces) if _OPEN in piece or _begun(piece)
        )
        self.close_id = tokenizer.special_tokens.get(CLOSE)
        self._openers: dict[int, tuple[int, ...]] = {}

    def openers(self, begun: int) -> tuple[int, ...]:
        """Ids that complete ``<tool_call>``, of which so many bytes are written."""
        if begun not in self._openers:
            rest = _OPEN[begun:]
            self._openers[begun] = tuple(
                index
                for index, piece in enumerate(self.pieces)
                if (begun and piece.startswith(rest)) or _OPEN in piece
            )
        return self._openers[begun]


class SimpleTokenizer(SimpleNamespace):
    """The fields that llguidance asks a tokenizer for."""

    def __call__(self, text: bytes | str) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return list(self.encode(text))


_READ: dict[str, TokenBytes] = {}  # by the tokenizer's fingerprint


def _token_bytes(tokenizer: Tokenizer) -> TokenBytes:
    if tokenizer.fingerprint not in _READ:
        _READ[tokenizer.fingerprint] = TokenBytes(tokenizer)
    return _READ[tokenizer.fingerprint]


class CallGrammar:
    """Which tokens may follow, for :attr:`lilith.inference.language_model.Settings.grammar`.

    Outside of calls it allows everything but a call for which too few tokens are left. Within one
    it allows what the granted tools' declarations do, each name once, and ends the call while
    there is room: every call that opens is JSON which its tool's validation takes.

    Args:
      registry: the tools that may be called.
      references: kept values that calls may pass on; those that fit a parameter are offered to it.

    Raises:
      UserError: the registry is empty, or the rules of a tool can not be read.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        registry: ToolRegistry,
        *,
        references: References | None = None,
    ) -> None:
        if not len(registry):
            raise UserError("there is no tool, so no call can be well formed; grant one")
        self._tokens = _token_bytes(tokenizer)
        self._fitting: Callable[[Parameter], Sequence[str]] = (
            (lambda parameter: ()) if references is None else references.fitting
        )
        rules = call_rules(registry, self._tokens.close_id, self._fitting)
        grammar = llguidance.LLMatcher.grammar_from_lark(rules)
        self._matcher = llguidance.LLMatcher(self._tokens.engine, grammar, log_level=0)
        if self._matcher.is_error():
            raise UserError(f"the tools make no grammar: {self._matcher.get_error()[:300]}")
        calls = [self._shortest_call(name) for name in registry.names]
        self._calls = sorted(calls, key=len)
        lengths = [len(self._greedy(call)) for call in self._calls]
        self.reserve = min(lengths) + len(_OPEN) + 2
        self.longest = max(lengths)

    @property
    def pause_ids(self) -> Sequence[int]:
        """Tokens after which generation must look: they open a call, or begin to."""
        return self._tokens.pauses

    def start(self, prompt: Sequence[int]) -> CallState:
        """Follow one row. A prompt that ends within ``<tool_call>`` is gone on with."""
        return CallState(self, prompt)

    def _shortest_call(self, name: str) -> bytes:
        head = f'{{"name": "{name}", "arguments": {{'.encode()
        matcher, keys = self._matcher.deep_copy(), KeyTracker()
        self.feed(matcher, head)
        keys.feed(head)
        return head + self._end_of(matcher, keys)

    def feed(self, matcher: llguidance.LLMatcher, data: bytes) -> bool:
        """Go on by bytes, whatever tokens wrote them."""
        return all(matcher.consume_token(self._tokens.single[byte]) for byte in data)

    def shortest_end(
        self, matcher: llguidance.LLMatcher, keys: KeyTracker, written: bytes
    ) -> list[int]:
        """Tokens that end a call soon, of which ``written`` is there."""
        begun = written.lstrip()
        whole = next((call for call in self._calls if call.startswith(begun)), None)
        rest = self._end_of(matcher, keys) if whole is None else whole[len(begun) :]
        close = self._tokens.close_id
        return [*self._greedy(rest), *([] if close is None else [close])]

    def _end_of(self, matcher: llguidance.LLMatcher, keys: KeyTracker) -> bytes:
        matcher, keys, written = matcher.deep_copy(), keys.copy(), bytearray()
        single, close = self._tokens.single, self._tokens.close_id
        while len(written) < _LONGEST_END:
            forced = bytes(matcher.compute_ff_bytes()).partition(_SPECIAL)[0]
            if forced and self.feed(matcher, forced):
                keys.feed(forced)
                written += forced
                if matcher.is_accepting():
                    return bytes(written)
            mask = np.frombuffer(matcher.compute_bitmask(), np.uint32)
            if close is not None and _has(mask, close):
                return bytes(written)
            choice = next(
                (
                    byte
                    for byte in (*(_IN_TEXT if keys.in_text else _SHORTEST), *_OTHERS)
                    if byte in single
                    and _has(mask, single[byte])
                    and not keys.repeats(bytes([byte]))
                ),
                None,
            )
            if choice is None:
                break
            matcher.consume_token(single[choice])
            keys.feed(bytes([choice]))
            written.append(choice)
            if matcher.is_accepting():
                return bytes(written)
        raise UserError(
            f"a call can not be ended: after {bytes(written[-40:])!r} nothing that the tools' "
            "declarations allow can follow"
        )

    def _greedy(self, data: bytes) -> list[int]:
        """Few tokens that write these bytes; the rest of a character that is begun by its bytes."""
        rest = data.lstrip(_CONTINUATION)
        begun = [self._tokens.single[byte] for byte in data[: len(data) - len(rest)]]
        return [*begun, *self._tokens.engine.greedy_tokenize(rest.decode())]


class CallState:
    """One row as it is generated: whether a call is open, and what may follow."""

    def __init__(self, grammar: CallGrammar, prompt: Sequence[int]) -> None:
        self._grammar, self._tokens = grammar, grammar._tokens
        self._begun = b""  # of "<tool_call>", where the text ends within it
        self._matcher: llguidance.LLMatcher | None = None
        self._keys = KeyTracker()
        self._ending: list[int] = []
        self._written = bytearray()  # of the open call
        self._look_at = 2**31  # with fewer tokens left than this, its end is looked at
        self._length = 0  # tokens of it
        self.calls = 0  # that were ended
        tail = b"".join(self._tokens.pieces[index] for index in prompt[-_TAIL:])
        if tail.rstrip(b"\n").endswith(_OPEN):
            self._open(b"\n" if tail.endswith(b"\n") else b"")
        else:
            self._begun = _begun(tail)

    @property
    def is_open(self) -> bool:
        """Whether a call is open."""
        return self._matcher is not None

    @property
    def reserve(self) -> int:
        """Tokens before the end of a budget from which on :meth:`allowed` must be asked."""
        return self._grammar.reserve

    def allowed(self, left: int) -> np.ndarray | None:
        """The ids that may come next, 32 a number, lowest bit first; None for all.

        Args:
          left: how many tokens may still be generated.
        """
        if self._matcher is None:
            return self._outside(left)
        if not self._ending and left < self._look_at:
            self._look(left)
        if self._ending:
            return _only(self._tokens.width, self._ending[:1])
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        if self._keys.may_repeat:
            mask = mask.copy()
            for index in self._tokens.quoting:
                if self._keys.repeats(self._tokens.pieces[index]):
                    mask[index // 32] &= ~np.uint32(1 << (index % 32))
        return mask

    def accept(self, token: int) -> None:
        """Go on by a generated token."""
        piece = self._tokens.pieces[token]
        if self._matcher is None:
            data = self._begun + piece
            _, opened, after = data.partition(_OPEN)
            self._begun = _begun(data)
            if opened:
                self._open(after)
            return
        self._ending = self._ending[1:]
        self._length += 1
        if not self._matcher.consume_token(token):
            raise UserError(f"token {token} ({piece!r}) was not allowed within a tool call")
        if self._matcher.is_accepting():
            self._matcher, self._begun = None, b""
            self.calls += 1
        elif token not in self._tokens.special:
            self._keys.feed(piece)
            self._written += piece

    def _look(self, left: int) -> None:
        """Begin to end the call where one more token could leave too few for its end."""
        assert self._matcher is not None  # a call is open
        end = self._grammar.shortest_end(self._matcher, self._keys, bytes(self._written))
        # One token can ask for so many more: the arguments of a tool, a field and its value, or
        # another row of a table, which is at most as long as what is written.
        grows = self._grammar.longest if self._keys.depth < 2 else _GROWTH
        if self._keys.depth > 2:
            grows += self._length
        spare = left - len(end) - grows
        if spare <= 0:
            self._ending = end
        self._look_at = left - spare // (grows + 1)

    def _open(self, after: bytes) -> None:
        matcher = self._grammar._matcher.deep_copy()
        if self._grammar.feed(matcher, after):
            self._matcher, self._keys, self._ending, self._length = matcher, KeyTracker(), [], 0
            self._keys.feed(after)
            self._written, self._look_at = bytearray(after), 2**31

    def _outside(self, left: int) -> np.ndarray | None:
        """All tokens but those that open a call which could not be ended, or open it wrongly."""
        if left <= self._grammar.reserve:
            wrong = self._tokens.openers(len(self._begun))
        else:
            wrong = self._wrong_openers(self._begun)
        return None if not wrong else ~_only(self._tokens.width, wrong)

    def _wrong_openers(self, begun: bytes) -> tuple[int, ...]:
        """Tokens that complete ``<tool_call>`` and go on with what no call begins with."""
        if not begun:
            return ()
        rest = len(_OPEN) - len(begun)
        return tuple(
            index
            for index in self._tokens.openers(len(begun))
            if not self._grammar.feed(
                self._grammar._matcher.deep_copy(), self._tokens.pieces[index][rest:]
            )
        )


def _begun(data: bytes) -> bytes:
    """The longest end of ``data`` that ``<tool_call>`` begins with, but is not all of it."""
    sizes = range(min(len(data), len(_OPEN) - 1), 0, -1)
    return next((data[-size:] for size in sizes if _OPEN.startswith(data[-size:])), b"")


def _has(mask: np.ndarray, index: int) -> bool:
    return bool(mask[index // 32] >> (index % 32) & 1)


def _only(width: int, ids: Sequence[int]) -> np.ndarray:
    """A mask that allows these ids and no others."""
    mask = np.zeros(width, np.uint32)
    for index in ids:
        mask[index // 32] |= np.uint32(1 << (index % 32))
    return mask
