"""Tool-call accuracy: the right tool with every argument right, on held-out questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lilith.data.instructions.tool_prompts import ToolPrompt, read_call, same_call
from lilith.inference.language_model import LanguageModel

BATCH = 16  # questions answered together


@dataclass(frozen=True)
class ToolCallResult:
    """One question, what the model wrote, and what it was worth.

    Attributes:
      well_formed: it holds a call that is JSON with a name and arguments.
      right_tool: the call names the right tool; right: every argument is right, too.
    """

    prompt: ToolPrompt
    text: str
    well_formed: bool
    right_tool: bool
    right: bool


def judge(prompt: ToolPrompt, text: str) -> ToolCallResult:
    """What an answer is worth."""
    call = read_call(text)
    right_tool = call is not None and call["name"] == prompt.expected["name"]
    return ToolCallResult(
        prompt, text, call is not None, right_tool, same_call(prompt.expected, call)
    )


def tool_call_results(
    model: LanguageModel,
    prompts: Sequence[ToolPrompt],
    *,
    max_tokens: int = 256,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[ToolCallResult]:
    """Answer every question greedily and judge the answers, in the order of ``prompts``.

    Questions of like length are answered together.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(str(prompts[i].messages)))
    results: dict[int, ToolCallResult] = {}
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        answers = model.generate_batch(
            [prompts[i].messages for i in chosen], batch_size=BATCH, max_tokens=max_tokens,
            stop=("</tool_call>",),
        )  # fmt: skip
        for i, answer in zip(chosen, answers):
            ended = "</tool_call>" if answer.finish_reason == "stop" else ""
            results[i] = judge(prompts[i], answer.text + ended)
        right = sum(result.right for result in results.values())
        progress(len(results), len(prompts), f"{right} right")
    return [results[i] for i in range(len(prompts))]


def summarise(results: Sequence[ToolCallResult]) -> dict[str, Any]:
    """Shares of all questions, and by kind of question the share that is right."""
    kinds: dict[str, list[bool]] = {}
    for result in results:
        kinds.setdefault(result.prompt.kind, []).append(result.right)
    count = max(len(results), 1)
    return {
        "questions": len(results),
        "well_formed": sum(r.well_formed for r in results) / count,
        "right_tool": sum(r.right_tool for r in results) / count,
        "right": sum(r.right for r in results) / count,
        "by_kind": {kind: sum(own) / len(own) for kind, own in sorted(kinds.items())},
    }
