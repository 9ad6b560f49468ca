"""The page of a trace: what is in the trace is there, escaped, and nothing is loaded."""

from __future__ import annotations

import html
import html.parser
import re

from lilith.reasoning.arithmetic import check_arithmetic
from lilith.reasoning.trace import Alternative, Decision, ReasoningStrategy, ReasoningTrace, Thought

EVIL = "<script>alert('x')</script>\"&{{ 7 * 7 }}\x00\ud800"
STEP = "We see 4 * 5 = 21, then 2 + 2 = 4 & <done>, 1 / 0 = 3"


class Page(html.parser.HTMLParser):
    """Tags with attributes, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def full(text: str) -> ReasoningTrace:
    return ReasoningTrace(
        text, (Thought(1, STEP, ({"name": text},), -0.5, False, tuple(check_arithmetic(STEP))),
               Thought(2, text, verified=True)),
        text, 0.73, False, False, (text, {"principle": text, "evidence": "words"}), True,
        ReasoningStrategy.DEBATE, 1234, 75.0,
        (Alternative(text, 5, -1.25, text), Alternative(None, 1)),
        (Decision("refine", f"because {text}", 2345, 3.0),), truncated=True, looped=True,
        signals={"vote_share": 0.75}, transcript=({"speaker": "Agent A", "round": 2, "text": text},),  # noqa: E501
        error=f"the end: {text}",
    )  # fmt: skip


def test_what_the_trace_holds_is_shown() -> None:
    page = Page(full("How many eggs?").to_html())
    words = " ".join(" ".join(page.words).split())
    for shown in ("How many eggs?", "A verifier confirmed the answer.", "Confidence 73%, uncalibrated",  # noqa: E501
                  "1,234", "1 min 15 s", "1 of 3", "wrong: it is 20, not 21", "2 + 2 = 4 : right",
                  "not decidable: a division by zero", "5 of 6", "no answer", "-1.25", "refine",
                  "2,345", "because How many eggs?", "Agent A, round 2", "Vote share", "cut off",
                  "again and again", "unsafe", "Principle: How many eggs?", "failed its check",
                  "verified", "the end: How many eggs?", "A debate and a judge"):  # fmt: skip
        assert shown in words.replace("2 + 2 = 4: right", "2 + 2 = 4 : right"), shown


def test_right_and_wrong_claims_are_set_off() -> None:
    text = full("x").to_html()
    assert '<mark class="wrong">4 * 5 = 21</mark>' in text
    assert '<mark class="right">2 + 2 = 4</mark>' in text
    assert '<mark class="open">1 / 0 = 3</mark>' in text


def test_everything_is_escaped() -> None:
    text = full(EVIL).to_html()
    page = Page(text)
    assert "script" not in [tag for tag, _ in page.tags]
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in html.unescape(text)
    assert "\x00" not in text
    text.encode("utf-8")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Page(full("x").to_html()).tags]


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = full("see http://example.org/a.png").to_html()
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "base"}
    assert not [a for _, attrs in page.tags for a in attrs if a in ("src", "href", "style")]
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 1
    assert not re.search(r"url\(|@import|http", styles[0])
    for query in ("prefers-color-scheme: dark", "@media print", "max-width: 620px"):
        assert query in styles[0]
    assert 'name="viewport"' in text


def test_an_empty_trace_says_what_it_lacks() -> None:
    words = " ".join(Page(ReasoningTrace("").to_html()).words)
    for shown in ("A problem without words", "No answer was found.", "There are no steps.",
                  "Confidence was not estimated."):  # fmt: skip
        assert shown in words


def test_the_verdict_and_calibration_are_in_words() -> None:
    judged = ReasoningTrace("x", final_answer="5", confidence=0.9, calibrated=True, verified=False)
    text = judged.to_html()
    assert "A verifier rejected the answer." in text
    assert "Confidence 90%, calibrated" in text
    assert "No verifier has judged" in ReasoningTrace("x", final_answer="5").to_html()
