"""A quant conversation as it is put together: its calls run, its figures quoted from answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from lilith import quant
from lilith.data.instructions import conversations
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.tool_text import brief, brief_answer, signature, system_message
from lilith.quant.tool import Tool

OTHER_TOOLS = (3, 7)  # least and most beside the right one, in a system message
# Characters of their signatures: mostly few, sometimes enough for the long ones, so that those do
# not give themselves away as the right ones.
ROOM = (250, 250, 520)
SHORT = 75  # characters: of most signatures, so many are kept free for each that must still come
# Tools whose signatures are short enough to stand beside others in a small context.
COMPANIONS = (
    "black_scholes", "implied_volatility", "barrier_option", "monte_carlo_option",
    "american_option", "asian_option", "portfolio_optimize", "efficient_frontier",
    "backtest_metrics", "backtest", "stats_summary", "fit_ar1", "fit_garch",
)  # fmt: skip


@functools.cache
def tools() -> dict[str, Tool]:
    """Every tool of :mod:`lilith.quant`, by name."""
    return quant.tools()


class Talk:
    """Messages of one conversation, and what its figures can be recomputed from.

    ``check`` of the record holds ``tool_calls`` (those that the conversation shows, in order),
    ``computed_by`` (the calls whose answers the text quotes: the same ones, and those that were
    run out of sight), ``results`` (of ``tool_calls``, as the model is shown them) and ``quoted``:
    ``{"call", "path", "scale", "text"}``, where ``text`` stands in a message and is the figure at
    ``path`` in the result of ``computed_by[call]``, times ``scale``, rounded. With ``less`` the
    figure of that other call is taken off first (both as they are quoted, if they are money), with
    ``shown`` the figure is first rounded to as many decimals, as the user has seen it.
    """

    def __init__(self, draw: Draw, kind: str, symbol: str = "") -> None:
        self.draw, self.kind, self.symbol = draw, kind, symbol
        self.messages: list[dict[str, Any]] = []
        self._shown: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._computed: list[dict[str, Any]] = []
        self._answers: list[Mapping[str, Any]] = []
        self._quoted: list[dict[str, Any]] = []

    def system(self, *right: str) -> None:
        """A system message with the tools ``right`` among others, in any order."""
        self.messages.append({"role": "system", "content": system_tools(self.draw, *right)})

    def user(self, text: str) -> None:
        """The user says ``text``."""
        self.messages.append(conversations.user(text))

    def say(self, text: str) -> None:
        """The assistant says ``text``."""
        self.messages.append(conversations.assistant(text))

    def call(self, *calls: dict[str, Any], error: str | None = None) -> None:
        """The assistant makes these calls in one message, and gets their answers.

        Args:
          calls: :func:`tool_call` makes them.
          error: the code of the error that the one call must end in; None where all must succeed.

        Raises:
          ValueError: an answer is not as expected.
        """
        self.messages.append({"role": "assistant", "content": "", "tool_calls": list(calls)})
        for one in calls:
            answer = run(one)
            code = None if answer["ok"] else answer["error"]["code"]
            if code != error:
                raise ValueError(f"{self.kind}: {one} ended in {answer.get('error')}")
            self.messages.append({"role": "tool", "content": brief(answer)})
            shown = brief_answer(answer)
            self._shown.append(one)
            self._results.append(shown)
            self._computed.append(one)
            self._answers.append(shown)

    def compute(self, one: dict[str, Any]) -> None:
        """Run a call that the conversation does not show; figures are quoted from all of it.

        Raises:
          ValueError: the tool refuses it.
        """
        answer = run(one)
        if not answer["ok"]:
            raise ValueError(f"{self.kind}: {one} ended in {answer['error']}")
        self._computed.append(one)
        self._answers.append(answer)

    def figure(self, *path: str | int, call: int = -1) -> Any:
        """What stands at ``path`` in the result of a computed call, by default the latest."""
        value = self._answers[call]["result"]
        for key in path:
            value = value[key]
        return value

    def quote(
        self,
        *path: str | int,
        form: str = "number",
        places: int = 2,
        scale: float = 1.0,
        call: int = -1,
        less: int | None = None,
        shown: int | None = None,
    ) -> str:
        """The figure at ``path`` as text for an answer, noted for the check.

        Args:
          form: "money" (with the currency; small amounts get four decimals), "percent", or
            "number".
          places: decimals of a number or a percentage.
          scale: what the figure is multiplied by first.
          less: the call whose figure is taken off before that.
          shown: the decimals that the figure is rounded to before that.
        """
        value = float(self.figure(*path, call=call))
        if less is not None:
            other = float(self.figure(*path, call=less))
            if form == "money":  # the reader subtracts what stands there
                value, other = (round(each, _cents(each)) for each in (value, other))
            value = round(value - other, 10)
        value = (value if shown is None else round(value, shown)) * scale
        if form == "money":
            text = self.money(value)
        elif form == "percent":
            text = f"{_rounded(100 * value, places)}%"
        else:
            text = f"{_rounded(value, places)}"
        index = range(len(self._answers))[call]
        entry = {"call": index, "path": list(path), "scale": scale, "text": text}
        entry |= {} if less is None else {"less": range(len(self._answers))[less]}
        self._quoted.append(entry | ({} if shown is None else {"shown": shown}))
        return text

    def money(self, value: float) -> str:
        """An amount in the conversation's currency: four decimals below 1, else two."""
        sign = "-" if value < 0 else ""
        return f"{sign}{self.symbol}{_rounded(abs(value), _cents(value))}"

    def record(self, difficulty: str, **more: Any) -> Conversation:
        """The finished record; ``more`` goes into its check."""
        check = {
            "tool_calls": self._shown,
            "computed_by": self._computed,
            "results": self._results,
            "quoted": self._quoted,
            **more,
        }
        return conversations.conversation(self.kind, "quant", difficulty, self.messages, check)


def system_tools(draw: Draw, *right: str) -> str:
    """A system message with the tools ``right`` among others, in any order."""
    others = [name for name in COMPANIONS if name not in right]
    draw.random.shuffle(others)
    least, most = OTHER_TOOLS
    wanted, room, names = draw.count(least, most), draw.choice(ROOM), list(right)
    for name in others:
        length, missing = len(signature(tools()[name])), least + len(right) - len(names) - 1
        if len(names) - len(right) < wanted and length <= room - SHORT * max(0, missing):
            names.append(name)
            room -= length
    draw.random.shuffle(names)
    return system_message([tools()[name] for name in names], draw.choice)


def tool_call(name: str, **arguments: Any) -> dict[str, Any]:
    """A call, its arguments in the order in which the tool declares them; None is left out."""
    ordered = [own.name for own in tools()[name].parameters if arguments.get(own.name) is not None]
    return {"name": name, "arguments": {own: arguments[own] for own in ordered}}


def run(call: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the tool that a call names."""
    return tools()[call["name"]](**call["arguments"])


def _cents(value: float) -> int:
    return 4 if 0 < abs(value) < 1 else 2


def _rounded(value: float, places: int) -> str:
    """Rounded from the number's shortest text, with commas between thousands; never "-0.00"."""
    unit = Decimal(1).scaleb(-places)
    rounded = Decimal(repr(value)).quantize(unit, rounding=ROUND_HALF_EVEN)
    return f"{rounded + 0:,f}" if rounded else f"{abs(rounded):,f}"
