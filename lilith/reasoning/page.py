"""A reasoning trace as one self-contained HTML page."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from lilith.reasoning.arithmetic import ArithmeticCheck
    from lilith.reasoning.trace import ReasoningTrace, Thought

TEMPLATES = Path(__file__).parent / "templates"
# Control characters (but for tab and newline) as visible pictures of themselves; HTML has none.
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {127: "␡"}
_CONTROLS |= {code: f"\\x{code:02x}" for code in range(128, 160)}
_STRATEGIES = {
    "direct": "Answered directly",
    "chain_of_thought": "Chain of thought",
    "self_consistency": "Self-consistency: samples voted",
    "best_of_n": "Best of several samples",
    "tree_search": "Search over a tree of steps",
    "program": "A program was written and run",
    "debate": "A debate and a judge",
}


def trace_page(trace: ReasoningTrace) -> str:
    """The page: problem, answer, verdict, confidence, steps with checks, alternatives, decisions.

    Every text is escaped; the page loads nothing from elsewhere, reads in light and dark, on a
    phone and in print.
    """
    return page_template("trace.html.jinja").render(
        trace=trace,
        strategy=_STRATEGIES[trace.strategy.value],
        answer=trace.final_answer,
        verdict=_verdict(trace),
        confidence=_confidence(trace),
        facts=_facts(trace),
        warnings=_warnings(trace),
        violations=[_violation(violation) for violation in trace.violations],
        steps=[_step(thought) for thought in trace.thoughts],
        votes=sum(other.votes for other in trace.alternatives),
        scored=any(other.score is not None for other in trace.alternatives),
        turns=[_turn(turn) for turn in trace.transcript],
        signals=[(_words(name), f"{value:.4g}") for name, value in trace.signals.items()],
    )


@functools.cache
def page_template(name: str, folder: Path = TEMPLATES) -> jinja2.Template:
    """A template of a page: every text is escaped, and control characters are made visible.

    Templates of other folders may include those of this one, such as ``style.css.jinja``.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _visible(value) if type(value) is str else value,
    )
    environment.filters["duration"] = _duration
    return environment.get_template(name)


def _visible(text: str) -> str:
    """A text without control characters, and with escapes for lone surrogates."""
    text = text.replace("\r\n", "\n").translate(_CONTROLS)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if not seconds < 1e9:
        return f"{seconds:.3g} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _verdict(trace: ReasoningTrace) -> tuple[str, str]:
    """A word for the style, and the verdict in words."""
    if trace.final_answer is None:
        return "open", "No answer was found."
    if trace.verified is True:
        return "right", "A verifier confirmed the answer."
    if trace.verified is False:
        return "wrong", "A verifier rejected the answer."
    return "open", "No verifier has judged the answer."


def _confidence(trace: ReasoningTrace) -> str:
    """The confidence in words."""
    if trace.confidence is None:
        return "Confidence was not estimated."
    number = f"{100 * trace.confidence:.0f}%"
    if trace.calibrated:
        return f"Confidence {number}, calibrated: of answers rated so, about that share is right."
    return f"Confidence {number}, uncalibrated: a score, not a measured share of right answers."


def _facts(trace: ReasoningTrace) -> list[tuple[str, str]]:
    checks = [check for thought in trace.thoughts for check in thought.checks]
    facts = [
        ("Steps", f"{len(trace.thoughts):,}"),
        ("Tokens", f"{trace.tokens:,}"),
        ("Time", _duration(trace.seconds)),
    ]
    if checks:
        right = sum(check.right is True for check in checks)
        facts.append(("Arithmetic right", f"{right} of {len(checks)}"))
    return facts


def _warnings(trace: ReasoningTrace) -> list[str]:
    """What a reader should know before the answer."""
    said = {
        trace.error: bool(trace.error),
        "The text was cut off at a limit and does not end by itself.": trace.truncated,
        "The text says the same again and again.": trace.looped,
        "The answer was found to be unsafe.": not trace.is_safe,
    }
    return [sentence for sentence, holds in said.items() if holds]


def _violation(violation: str | Mapping[str, Any]) -> list[tuple[str, str]]:
    """A violation as (name, text) pairs; a sentence has no name."""
    return [("", violation)] if isinstance(violation, str) else _fields(violation)


def _turn(turn: Mapping[str, Any]) -> tuple[str, str]:
    """A turn's title (speaker, round and whatever else is short) and its text."""
    rest = {name: value for name, value in turn.items() if name != "text"}
    title = ", ".join(
        str(value) if name == "speaker" else f"{_words(name).lower()} {_plain(value)}"
        for name, value in rest.items()
    )
    return title, _plain(turn.get("text", ""))


def _fields(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_words(name), _plain(value)) for name, value in mapping.items()]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _step(thought: Thought) -> dict[str, Any]:
    """What the template shows of a step: pieces of its text, with the claims set off, and more."""
    pieces: list[tuple[str, str]] = []
    at = 0
    for check in sorted(thought.checks, key=lambda check: check.start):
        fits = at <= check.start and thought.thought[check.start : check.end] == check.text
        if fits:
            pieces += [("", thought.thought[at : check.start]), (_mark(check), check.text)]
            at = check.end
    pieces.append(("", thought.thought[at:]))
    status = {True: ("right", "verified"), False: ("wrong", "failed its check"), None: ("", "")}
    return {
        "number": thought.step_number,
        "pieces": [piece for piece in pieces if piece[1]],
        "status": status[thought.verified],
        "checks": [(_mark(check), check.text, _finding(check)) for check in thought.checks],
        "calls": [json.dumps(call, ensure_ascii=False, indent=1, default=str)
                  for call in thought.tool_calls],
        "log_prob": "" if thought.log_prob is None else f"{thought.log_prob:.3g}",
    }  # fmt: skip


def _mark(check: ArithmeticCheck) -> str:
    return {True: "right", False: "wrong", None: "open"}[check.right]


def _finding(check: ArithmeticCheck) -> str:
    """What the recomputation found, in words."""
    if check.right:
        return "right"
    if check.right is None:
        return f"not decidable: {check.note}" if check.note else "not decidable"
    note = f" ({check.note})" if check.note else ""
    return f"wrong: it is {check.true_value}, not {check.claimed}{note}"
