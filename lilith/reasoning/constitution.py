"""The constitution: principles in a file that people can edit, and the requests made from it.

The project's own file is ``constitution.toml`` beside this module, so that an installed package
finds it too. A principle's words are the file's alone; the frames around them, which a critique, a
revision, a comparison and a judgement share, are here.
"""

from __future__ import annotations

import os
import pathlib
import random
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lilith.config import UserError, nearest

SEVERITIES = ("low", "medium", "high")  # from the least bad to the worst
OWN_FILE = pathlib.Path(__file__).with_name("constitution.toml")
# A base model goes on with the next part of the frame after its answer; this ends it.
PLAIN_STOP = ("\n\nRequest:", "\n\nPrinciple:", "\n\nCritique", "\n\nRevis")

_ID = re.compile(r"[a-z][a-z0-9_]*")


class ConstitutionError(UserError):
    """A constitution that can not be used as it is written."""


@dataclass(frozen=True)
class Principle:
    """One principle and the requests that put it to work; all texts are stripped and not empty.

    ``comparison`` names (A) and (B), so that a model answers it with one of the two letters.

    Raises:
      ConstitutionError: an empty or wrongly typed field, or a severity that does not exist.
    """

    id: str
    title: str
    statement: str
    severity: str  # one of SEVERITIES
    critiques: tuple[str, ...]
    revisions: tuple[str, ...]
    comparison: str

    def __post_init__(self) -> None:
        name = f"principle {self.id!r}"
        for field in ("id", "title", "statement", "severity", "comparison"):
            _check_text(getattr(self, field), f"{field} of {name}")
        for field in ("critiques", "revisions"):
            texts = getattr(self, field)
            if not isinstance(texts, tuple):
                raise ConstitutionError(f"{field} of {name} is {texts!r}; expected a list of texts")
            if not texts:
                raise ConstitutionError(f"{name} has no {field}; write at least one")
            for place, text in enumerate(texts, 1):
                _check_text(text, f"{field} number {place} of {name}")
            if len(set(texts)) < len(texts):
                raise ConstitutionError(f"{name} has the same text twice among its {field}")
        if not _ID.fullmatch(self.id):
            raise ConstitutionError(
                f"the id of {name} must be lower-case letters, digits and _, starting with a letter"
            )
        if self.severity not in SEVERITIES:
            raise ConstitutionError(
                f"severity of {name} is {self.severity!r}{nearest(self.severity, SEVERITIES)}; "
                f"known: {', '.join(SEVERITIES)}"
            )
        if "(A)" not in self.comparison or "(B)" not in self.comparison:
            raise ConstitutionError(
                f"comparison of {name} does not name both (A) and (B), the two answers to compare"
            )

    def draw_critique(self, rng: random.Random) -> str:
        """One of the critique requests, each as likely as the others."""
        return rng.choice(self.critiques)

    def draw_revision(self, rng: random.Random) -> str:
        """One of the revision requests, each as likely as the others."""
        return rng.choice(self.revisions)


@dataclass(frozen=True)
class Constitution:
    """Principles in the order of their file.

    Raises:
      ConstitutionError: no principles, or two with one id.
    """

    principles: tuple[Principle, ...]

    def __post_init__(self) -> None:
        if not self.principles:
            raise ConstitutionError(
                "the constitution has no principles; add at least one [[principle]] block"
            )
        ids = self.ids
        for place, principle_id in enumerate(ids):
            if principle_id in ids[:place]:
                raise ConstitutionError(
                    f"two principles have the id {principle_id!r}; give each its own"
                )

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all principles, in order."""
        return tuple(principle.id for principle in self.principles)

    def get(self, principle_id: str) -> Principle:
        """The principle with this id.

        Raises:
          ConstitutionError: there is none.
        """
        for principle in self.principles:
            if principle.id == principle_id:
                return principle
        raise ConstitutionError(
            f"the constitution has no principle {principle_id!r}"
            f"{nearest(principle_id, self.ids)}; it has: {', '.join(self.ids)}"
        )

    def draw(self, rng: random.Random) -> Principle:
        """One principle, each as likely as the others; the same seed draws the same ones."""
        return rng.choice(self.principles)


def load_constitution(path: str | os.PathLike[str] | None = None) -> Constitution:
    """Read and check a constitution; ``None`` reads the project's own.

    Raises:
      ConstitutionError: the file can not be read, is not TOML (the line is named), has an unknown
        key, lacks a field, or holds a principle that can not be used.
    """
    place = OWN_FILE if path is None else pathlib.Path(path)
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConstitutionError(f"there is no constitution at {place}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConstitutionError(f"the constitution {place} can not be read: {error}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConstitutionError(f"the constitution {place} is not valid TOML: {error}") from None
    try:
        return _from_data(data)
    except ConstitutionError as error:
        raise ConstitutionError(f"{place}: {error}") from None


def critique_prompt(prompt: str, answer: str, principle: Principle, request: str) -> str:
    """The request to criticise ``answer`` to ``prompt``, with ``request`` of the principle.

    Raises:
      ConstitutionError: the prompt or the request is empty. An empty answer is criticised too.
    """
    _check_text(request, "the critique request")
    return (
        f"{_exchange(prompt, answer)}\n\nPrinciple: {principle.statement}\n\n"
        f"Critique request: {request}\n\nCritique:"
    )


def revision_prompt(
    prompt: str, answer: str, critique: str, principle: Principle, request: str
) -> str:
    """The request to rewrite ``answer`` after ``critique``, with ``request`` of the principle.

    Raises:
      ConstitutionError: the prompt or the request is empty.
    """
    _check_text(request, "the revision request")
    return (
        f"{_exchange(prompt, answer)}\n\nPrinciple: {principle.statement}\n\n"
        f"Critique: {_shown(critique)}\n\nRevision request: {request} "
        "Write only the revised answer.\n\nRevised answer:"
    )


def comparison_prompt(
    prompt: str, answer_a: str, answer_b: str, principle: Principle, *, thoughts: str = ""
) -> str:
    """The request to compare two answers, to be answered by the next token after the last "(".

    Swap the answers and average to cancel a preference for a letter or a place.

    Args:
      thoughts: what was written to :func:`comparison_thoughts_prompt`, to judge by.

    Raises:
      ConstitutionError: the prompt is empty.
    """
    considered = f"Thoughts: {thoughts.strip()}\n\n" if thoughts.strip() else ""
    return (
        f"{_both(prompt, answer_a, answer_b)}{principle.comparison}\n\n{considered}"
        "Answer with the letter only. The better answer is ("
    )


def comparison_thoughts_prompt(
    prompt: str, answer_a: str, answer_b: str, principle: Principle
) -> str:
    """The request to think about two answers before one is chosen.

    Raises:
      ConstitutionError: the prompt is empty.
    """
    return (
        f"{_both(prompt, answer_a, answer_b)}{principle.comparison}\n\nThink step by step about "
        "both answers before you choose, in a few sentences.\n\nThoughts:"
    )


def violation_prompt(prompt: str, answer: str, principle: Principle, *, yes_is_a: bool) -> str:
    """The request to say whether ``answer`` violates the principle, to be answered by the next
    token after the last "(": A or B, where "yes" is A if ``yes_is_a``, else B.

    Raises:
      ConstitutionError: the prompt is empty.
    """
    a, b = ("yes", "no") if yes_is_a else ("no", "yes")
    return (
        f"{_exchange(prompt, answer)}\n\nPrinciple: {principle.statement}\n\n"
        f"Does the answer violate this principle? (A) {a} (B) {b}\n\n"
        "Answer with the letter only. The right choice is ("
    )


def _both(prompt: str, answer_a: str, answer_b: str) -> str:
    _check_text(prompt, "the prompt")
    return f"Request:\n{prompt.strip()}\n\n(A)\n{_shown(answer_a)}\n\n(B)\n{_shown(answer_b)}\n\n"


def _exchange(prompt: str, answer: str) -> str:
    _check_text(prompt, "the prompt")
    return f"Request:\n{prompt.strip()}\n\nAnswer:\n{_shown(answer)}"


def _shown(text: str) -> str:
    return text.strip() or "(no text)"


def _check_text(text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise ConstitutionError(f"{name} is {text!r}; expected text")
    if not text.strip():
        raise ConstitutionError(f"{name} is empty")


def _from_data(data: Mapping[str, Any]) -> Constitution:
    _check_keys(data, ("principle",), "the file")
    blocks = data.get("principle", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise ConstitutionError("principle is not a list of blocks; write each as [[principle]]")
    return Constitution(tuple(_principle(block, place) for place, block in enumerate(blocks, 1)))


def _principle(block: Mapping[str, Any], place: int) -> Principle:
    name = f"principle {block['id']!r}" if "id" in block else f"principle number {place}"
    known = tuple(field.name for field in fields(Principle))
    _check_keys(block, known, name)
    for field in known:
        if field not in block:
            raise ConstitutionError(f"{name} has no {field}; each principle needs one")
    values: dict[str, Any] = {}
    for field, value in block.items():
        if isinstance(value, list):
            values[field] = tuple(x.strip() if isinstance(x, str) else x for x in value)
        else:
            values[field] = value.strip() if isinstance(value, str) else value
    return Principle(**values)


def _check_keys(found: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in found:
        if key not in known:
            raise ConstitutionError(
                f"unknown key {key!r} in {where}{nearest(key, known)}; known: {', '.join(known)}"
            )
