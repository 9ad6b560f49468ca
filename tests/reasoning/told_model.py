"""What the tests of the advanced reasoner share: a model told by request, and a reasoner."""

from __future__ import annotations

from typing import Any

from scripted_model import ScriptedModel

from lilith.reasoning.reasoner import AdvancedReasoner, create_advanced_reasoner
from lilith.reasoning.trace import ReasoningTrace

NUMBER = "How many pens are 12 boxes of 3?"
WORD = "Name the smallest planet."
RIGHT = "Step 1: There are 12 * 3 = 36 pens.\nAnswer: 36"
WRONG = "Step 1: There are 12 * 3 = 38 pens.\nAnswer: 38"
# Four likely tokens and two even letters come to a confidence of 0.60; -3 each, to 0.08.
UNSURE = ("Answer: Venus", -3.0)


class Told(ScriptedModel):
    """Says what it is told for each kind of request: ``steps``, ``samples``, ``critique``, ``fix``.

    ``samples`` are those of one call; what is not told may not be asked for.
    """

    def __init__(self, scores: Any = (), chat: bool = True, context: int = 4096, **told: Any):
        super().__init__(self._told, scores, chat=chat, context=context)
        self.told = told

    def _told(self, prompt: str, place: int) -> Any:
        if "Check the proposed answer" in prompt:
            kind = "critique"
        elif "was reviewed" in prompt:
            kind = "fix"
        elif self.settings[-1]["n"] > 1:
            kind = "samples"
        else:
            kind = "steps"
        assert kind in self.told, f"nothing is told of {kind}:\n{prompt}"
        found = self.told[kind]
        return found[place % len(found)] if kind == "samples" else found


def reasoner(model: ScriptedModel, **settings: Any) -> AdvancedReasoner:
    settings = {"use_constitutional_ai": False, "samples": 4, **settings}
    return create_advanced_reasoner(model, **settings)


def actions(trace: ReasoningTrace) -> list[str]:
    return [decision.action for decision in trace.decisions]


def reason_of(trace: ReasoningTrace, action: str) -> str:
    return " | ".join(one.reason for one in trace.decisions if one.action == action)
