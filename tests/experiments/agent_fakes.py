"""A model of a script in place of weights, for tests of the agent's terminal."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "agent"))

from streaming_model import StreamingModel, call

from lilith.config import UserError
from lilith.tokenizer import ByteTokenizer

PLAN = {
    "start": "2026-03-02",
    "tasks": [
        {"id": "a", "name": "Analyse", "estimate": [1, 2, 4]},
        {"id": "b", "name": "Build", "estimate": 3, "depends_on": ["a"]},
        {"id": "c", "name": "Check", "estimate": 1, "depends_on": ["a"]},
    ],
    "runs": 100,
}
CALLS = {
    "price": call("black_scholes", spot=100, strike=105, time=0.5, rate=0.05, volatility=0.2),
    "share": call("calculator", expression="15% of 240"),
    "both": call("calculator", expression="6 * 7") + call("calculator", expression="2 + 2"),
    "mistake": call("calculator", expression="6 * * 7"),
    "garbled": '<tool_call>\n{"name": \n</tool_call>',
    "sleep": call("execute_python", code="import time\ntime.sleep(50)"),
    "accent": call("execute_python", code="print('\\u00e9')"),
    "plan": call("plan_project", **PLAN),
    "undrawn": call("plan_project", **PLAN, chart=False),
}


class ScriptedModel(StreamingModel):
    """Does what the first word of a message says: a key of :data:`CALLS`, "slow", or "broken".

    After a result it says what came, and a number from nowhere. Anything else it says again.
    """

    def __init__(self, context: int = 4096) -> None:
        super().__init__(self._answer, context=context)
        self._slow = False

    def _answer(self, prompt: Any) -> Any:
        last = prompt[-1]
        self._slow = False
        if isinstance(last, int):  # tokens, where there is no chat template
            return f"You said: {self.tokenizer.decode(prompt).split('user')[-1].split()[0]}"
        if last["role"] == "tool":
            told = json.loads(last["content"])
            return f"It is {_first_number(told)}, and not 17.25." if told["ok"] else "It failed."
        word = last["content"].split()[0]
        if word == "broken":
            return UserError("the model broke")
        if word == "circle":
            return "Round and round it goes. " * 100
        self._slow = word == "slow"
        known = CALLS.get(word)
        return f"I will see. {known}" if known else f"You said: {last['content']}"

    def _pieces(self, line: Any, settings: dict[str, Any]) -> Iterator[str]:
        for piece in super()._pieces(line, settings):
            if self._slow:
                time.sleep(0.1)
            yield piece


def _first_number(value: Any) -> Any:
    if isinstance(value, dict):
        found = [_first_number(own) for own in value.values()]
        return next((one for one in found if one is not None), None)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


class FakeInfo:
    """What load_checkpoint says of the model."""

    def __str__(self) -> str:
        return "fake: 0 parameters"


def load(where: str, **_: Any) -> tuple[ScriptedModel, Any, FakeInfo]:
    """In place of load_checkpoint: "base" has no chat template, "small" a context of 64."""
    model = ScriptedModel(context={"small": 64, "base": 30_000}.get(where, 4096))
    if where == "base":
        model.chat_template, model.tokenizer = None, ByteTokenizer()
    return model, model.tokenizer, FakeInfo()
