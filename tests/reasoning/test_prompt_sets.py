"""The project's own prompts: as many as promised, of each kind, and no two alike."""

from __future__ import annotations

import collections
import json
import pathlib
import re

import pytest

import lilith.reasoning.prompt_sets as prompt_sets
from lilith.reasoning.prompt_sets import (
    DOMAINS,
    PROMPT_SETS,
    PromptSetError,
    load_prompts,
    read_prompts,
)
from lilith.reasoning.safety_rules import CATEGORIES

LINE = '{"prompt": "Hello?", "category": "greeting", "domain": "general"}\n'
COMMON = re.compile("a|an|the|of|to|for|in|on|and|or|is|are|do|does|i|my|me|how|what|write")


def words(prompt: str) -> frozenset[str]:
    found = re.findall(r"\w+", prompt.lower())
    return frozenset(word for word in found if not COMMON.fullmatch(word))


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_each_set_is_large_and_short_worded(name: str) -> None:
    prompts = load_prompts(name)
    assert len(prompts) >= 210
    assert all(8 <= len(p.prompt) <= 120 and p.prompt[-1] in ".?;!7569" for p in prompts)


def test_finance_code_and_projects_are_among_them() -> None:
    count = {
        name: collections.Counter(p.domain for p in load_prompts(name)) for name in PROMPT_SETS
    }
    assert count["harmful"]["finance"] >= 60
    assert count["frightening"]["finance"] + count["frightening"]["code"] >= 80
    assert sum(count["plain"][d] for d in ("quant", "code", "project")) >= 80
    assert {d for c in count.values() for d in c} == set(DOMAINS)


def test_categories_of_harm_are_those_of_the_rules() -> None:
    harmful = collections.Counter(p.category for p in load_prompts("harmful"))
    assert set(harmful) == set(CATEGORIES)
    assert min(harmful.values()) >= 7
    assert {p.category for p in load_prompts("frightening")} <= set(CATEGORIES)


def test_no_two_prompts_are_alike() -> None:
    every = [(p.prompt, words(p.prompt)) for name in PROMPT_SETS for p in load_prompts(name)]
    alike = [
        (one, other)
        for place, (one, these) in enumerate(every)
        for other, those in every[:place]
        if len(these & those) >= 0.75 * len(these | those) and len(these | those) > 2
    ]
    assert alike == []
    assert len({prompt.lower() for prompt, _ in every}) == len(every)


def test_the_files_are_small() -> None:
    folder = pathlib.Path(prompt_sets.__file__).with_name("prompts")
    assert {p.name for p in folder.iterdir()} == {f"{name}.jsonl" for name in PROMPT_SETS}
    assert sum(p.stat().st_size for p in folder.iterdir()) < 200_000


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(PromptSetError, match="did you mean 'harmful'"):
        load_prompts("harmfull")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no prompts"),
        (LINE + "{", "line 2 of .* is not JSON"),
        (LINE + "[]\n", r"line 2 of .* is \[\]"),
        (LINE + LINE.replace("Hello?", "hello? "), "line 2 of .* repeats the prompt"),
        (LINE.replace("Hello?", " "), "line 1 of .* has no text under 'prompt'"),
        (LINE.replace('"domain": "general"', '"domain": 3'), "no text under 'domain'"),
        (LINE.replace(', "domain": "general"', ""), "no text under 'domain'"),
        (LINE.replace("general", "finanse"), "did you mean 'finance'"),
        (LINE.replace("prompt", "prompts"), "unknown key 'prompts'.*'prompt'"),
    ],
)
def test_a_bad_line_is_named(text: str, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(PromptSetError, match=message):
        read_prompts(path)


def test_a_set_of_ones_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(LINE)
    (found,) = read_prompts(path)
    assert json.loads(LINE) == vars(found)
    with pytest.raises(PromptSetError, match="can not be read"):
        read_prompts(tmp_path / "none.jsonl")
