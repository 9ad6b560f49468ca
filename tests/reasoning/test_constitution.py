"""The constitution: the project's own file is whole, and a bad one is refused in words."""

from __future__ import annotations

import pathlib
import random
import re
import tomllib
from typing import Any

import pytest

from lilith.reasoning.constitution import (
    OWN_FILE,
    SEVERITIES,
    Constitution,
    ConstitutionError,
    Principle,
    comparison_prompt,
    critique_prompt,
    load_constitution,
    revision_prompt,
)

BLOCK = """
[[principle]]
id = "{id}"
title = "Care"
statement = "Be careful."
severity = "{severity}"
critiques = ["Is it careful?"]
revisions = ["Make it careful."]
comparison = "Which of these answers is more careful? (A) one (B) two"
"""


def write(folder: pathlib.Path, text: str) -> pathlib.Path:
    path = folder / "c.toml"
    path.write_text(text)
    return path


def block(id: str = "care", severity: str = "low") -> str:
    return BLOCK.format(id=id, severity=severity)


def test_the_projects_own_constitution() -> None:
    own = load_constitution()
    assert own.ids == ("helpfulness", "harmlessness", "honesty", "respect", "privacy")
    texts = []
    for principle in own.principles:
        assert len(principle.critiques) >= 4
        assert len(principle.revisions) >= 4
        assert re.match(r"Which of these answers .+\? \(A\) .+ \(B\) ", principle.comparison)
        assert principle.severity in SEVERITIES
        assert len(principle.statement) > 100
        texts += [*principle.critiques, *principle.revisions, principle.comparison]
    assert len(set(texts)) == len(texts)
    assert OWN_FILE.parent.name == "reasoning"  # beside the code, where an installed one has it


def test_people_can_add_a_principle(tmp_path: pathlib.Path) -> None:
    longer = load_constitution(write(tmp_path, OWN_FILE.read_text() + block("care")))
    assert longer.ids[-1] == "care"
    assert longer.get("care").critiques == ("Is it careful?",)


BAD = {
    "no principles": ("", "no principles"),
    "two with one id": (block() + block(), "two principles have the id 'care'"),
    "a severity that does not exist": (block(severity="hihg"), "did you mean 'high'"),
    "an unknown key": (block() + 'critique = "x"', r"'critique' in principle 'care'.*'critiques'"),
    "an unknown table": ("[[principles]]\n", r"unknown key 'principles' in the file.*'principle'"),
    "one block, not a list": (block().replace("[[principle]]", "[principle]"), "not a list"),
    "no critiques": (block().replace('["Is it careful?"]', "[]"), "'care' has no critiques"),
    "a missing field": (block().replace('title = "Care"', ""), "'care' has no title"),
    "a missing id": (block().replace('id = "care"', ""), "principle number 1 has no id"),
    "an empty statement": (block().replace("Be careful.", "  "), "statement of .* is empty"),
    "an empty critique": (block().replace("Is it careful?", ""), "critiques number 1 of .* empty"),
    "a text for a list": (block().replace('["Is it careful?"]', '"x"'), "expected a list of texts"),
    "a number for a text": (block().replace('"Be careful."', "3"), "statement .* is 3; expected"),
    "a number in a list": (block().replace('["Is it careful?"]', "[1]"), "is 1; expected text"),
    "a critique twice": (block().replace('["Is it careful?"]', '["x", "x"]'), "same text twice"),
    "a comparison without B": (block().replace("(B)", "B"), "does not name both"),
    "a comparison without A": (block().replace("(A)", "A"), "does not name both"),
    "an id with a space": (block("a b"), "lower-case letters"),
    "not TOML": ("\n[[principle]\n", "not valid TOML: .*line 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_constitution_is_refused_in_words(name: str, tmp_path: pathlib.Path) -> None:
    text, words = BAD[name]
    path = write(tmp_path, text)
    with pytest.raises(ConstitutionError, match=words) as caught:
        load_constitution(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConstitutionError, match="there is no constitution at"):
        load_constitution(tmp_path / "none.toml")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConstitutionError, match="can not be read"):
        load_constitution(tmp_path / "raw.toml")


def test_built_in_code_it_is_checked_too() -> None:
    fields: dict[str, Any] = tomllib.loads(block())["principle"][0]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    assert Constitution((Principle(**fields),)).ids == ("care",)
    with pytest.raises(ConstitutionError, match="no principles"):
        Constitution(())
    with pytest.raises(ConstitutionError, match="title of principle 'care' is empty"):
        Principle(**{**fields, "title": " "})


def test_an_unknown_principle_is_named() -> None:
    with pytest.raises(ConstitutionError, match="did you mean 'honesty'"):
        load_constitution().get("honest")


def test_drawing_follows_the_seed_and_reaches_all() -> None:
    own = load_constitution()
    drawn = [own.draw(random.Random(seed)).id for seed in range(100)]
    assert drawn == [own.draw(random.Random(seed)).id for seed in range(100)]
    assert set(drawn) == set(own.ids)
    honesty = own.get("honesty")
    rng = random.Random(1)
    assert {honesty.draw_critique(rng) for _ in range(200)} == set(honesty.critiques)
    assert {honesty.draw_revision(rng) for _ in range(200)} == set(honesty.revisions)


def test_the_prompts_word_for_word() -> None:
    question = "Which of these answers is safer? (A) one (B) two"
    care = Principle("care", "Care", "Be careful.", "low", ("Look.",), ("Mend.",), question)
    assert critique_prompt(" Ask? ", "Said.\n", care, "Look.") == (
        "Request:\nAsk?\n\nAnswer:\nSaid.\n\nPrinciple: Be careful.\n\n"
        "Critique request: Look.\n\nCritique:"
    )
    assert revision_prompt("Ask?", "Said.", "Bad.", care, "Mend.") == (
        "Request:\nAsk?\n\nAnswer:\nSaid.\n\nPrinciple: Be careful.\n\nCritique: Bad.\n\n"
        "Revision request: Mend. Write only the revised answer.\n\nRevised answer:"
    )
    first = comparison_prompt("Ask?", "one", "", care)
    assert first == (
        "Request:\nAsk?\n\n(A)\none\n\n(B)\n(no text)\n\nWhich of these answers is safer? (A) one "
        "(B) two\n\nAnswer with the letter only. The better answer is ("
    )
    assert comparison_prompt("Ask?", "", "one", care) != first
    for call in (
        lambda: critique_prompt(" ", "a", care, "Look."),
        lambda: critique_prompt("p", "a", care, ""),
        lambda: revision_prompt("", "a", "c", care, "Mend."),
        lambda: comparison_prompt("\n", "a", "b", care),
    ):
        with pytest.raises(ConstitutionError, match="is empty"):
            call()
