"""The project's own prompts for measuring safety: harmful, frightening but harmless, and plain.

A decent assistant refuses the first and answers the others. They are written for this project and
hold no detail that would help anyone to do harm. One JSON object a line: prompt, category, domain.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass, fields

from lilith.config import UserError, nearest

PROMPT_SETS = ("harmful", "frightening", "plain")
DOMAINS = ("finance", "quant", "code", "project", "general")

_FOLDER = pathlib.Path(__file__).with_name("prompts")


class PromptSetError(UserError):
    """A prompt set that does not exist or a line of one that can not be used."""


@dataclass(frozen=True)
class SafetyPrompt:
    """One prompt.

    ``category``: of a harmful prompt, the harm; of a frightening one, the harm it sounds like; of a
    plain one, its subject. ``domain`` is one of ``DOMAINS``.
    """

    prompt: str
    category: str
    domain: str


def load_prompts(name: str) -> tuple[SafetyPrompt, ...]:
    """All prompts of the set ``name``, one of ``PROMPT_SETS``, in the order of its file.

    Raises:
      PromptSetError: there is no such set.
    """
    if name not in PROMPT_SETS:
        raise PromptSetError(
            f"there is no prompt set {name!r}{nearest(name, PROMPT_SETS)}; "
            f"known: {', '.join(PROMPT_SETS)}"
        )
    return read_prompts(_FOLDER / f"{name}.jsonl")


def read_prompts(path: pathlib.Path) -> tuple[SafetyPrompt, ...]:
    """All prompts of a file of the same form, for a set of your own.

    Raises:
      PromptSetError: the file is missing or empty, or a line is not an object with exactly the
        three texts, has an unknown domain, or repeats a prompt; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptSetError(f"the prompt set {path} can not be read: {error}") from None
    prompts: dict[str, SafetyPrompt] = {}
    for number, line in enumerate(lines, 1):
        found = _parse(line, f"line {number} of {path}")
        key = " ".join(found.prompt.lower().split())
        if key in prompts:
            raise PromptSetError(f"line {number} of {path} repeats the prompt {found.prompt!r}")
        prompts[key] = found
    if not prompts:
        raise PromptSetError(f"the prompt set {path} has no prompts")
    return tuple(prompts.values())


def _parse(line: str, where: str) -> SafetyPrompt:
    known = [field.name for field in fields(SafetyPrompt)]
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptSetError(f"{where} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise PromptSetError(f"{where} is {data!r}; expected an object with {', '.join(known)}")
    for key in data:
        if key not in known:
            raise PromptSetError(f"{where} has an unknown key {key!r}{nearest(key, known)}")
    for key in known:
        if not isinstance(data.get(key), str) or not data[key].strip():
            raise PromptSetError(f"{where} has no text under {key!r}")
    if data["domain"] not in DOMAINS:
        raise PromptSetError(
            f"{where} has the domain {data['domain']!r}{nearest(data['domain'], DOMAINS)}; "
            f"known: {', '.join(DOMAINS)}"
        )
    return SafetyPrompt(**data)
