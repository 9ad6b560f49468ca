"""Tools made of functions: hints and docstrings become declarations, mistakes become words."""

from __future__ import annotations

import json
from typing import Any, Literal, Optional

import numpy as np
import pytest

from lilith.agent.function_tool import ToolError, tool
from lilith.config import UserError
from lilith.quant.tool import Answer, Tool


@tool
def everything(
    text: str,
    count: int,
    ratio: float,
    flag: bool,
    rows: list[float],
    ids: list[int],
    words: list[str],
    grid: list[list[float]],
    anything: list,
    table: dict,
    levels: dict[str, float],
    records: list[dict[str, Any]],
    side: Literal["buy", "sell"] = "buy",
    limit: Optional[int] = None,  # noqa: UP045 (the old way of writing it must work too)
    note: str | None = None,
    scale: float = 1,
) -> dict[str, Any]:
    """Give everything back.

    All of it, in a
    second paragraph.

    Args:
      text: some text
      count (int): how many,
        over two lines
      ratio: a share: of one
      side, note: shared words

    Returns:
      What was given.
    """
    return dict(locals())


GIVEN: dict[str, Any] = {
    "text": "a", "count": 2, "ratio": 0.5, "flag": True, "rows": [1, 2.5], "ids": [1, 2],
    "words": ["x"], "grid": [[1, 2], [3, 4]], "anything": [1, "a", None], "table": {"k": [1]},
    "levels": {"a": 1}, "records": [{"a": 1}],
}  # fmt: skip


def test_every_type_arrives_as_the_function_hints_it():
    answer = everything(**GIVEN)
    assert answer["ok"], answer
    result = answer["result"]
    assert result == {
        **GIVEN, "rows": [1.0, 2.5], "grid": [[1.0, 2.0], [3.0, 4.0]], "levels": {"a": 1.0},
        "side": "buy", "limit": None, "note": None, "scale": 1,
    }  # fmt: skip
    assert all(isinstance(x, int) for x in result["ids"])
    assert json.loads(json.dumps(answer)) == answer


def test_the_schema_says_what_the_hints_and_the_docstring_say():
    schema = everything.schema()["function"]
    assert schema["description"] == "Give everything back. All of it, in a second paragraph."
    properties = schema["parameters"]["properties"]
    assert properties["count"]["description"] == "how many, over two lines"
    assert properties["ratio"]["description"] == "a share: of one"
    assert properties["side"]["description"] == properties["note"]["description"] == "shared words"
    assert properties["side"]["enum"] == ["buy", "sell"]
    assert properties["flag"]["type"] == "boolean"
    assert properties["ids"]["items"] == {"type": "integer"}
    assert set(schema["parameters"]["required"]) == set(GIVEN)
    assert isinstance(everything, Tool)
    assert "count (integer): how many" in everything.help()


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"count": 1.5}, "not_an_integer", "count"),
        ({"text": 1}, "not_a_string", "text"),
        ({"flag": 1}, "not_a_boolean", "flag"),
        ({"ratio": "x"}, "not_a_number", "ratio"),
        ({"side": "hold"}, "unknown_choice", "side"),
        ({"ids": [1.5]}, "not_an_integer", "ids"),
        ({"levels": {"a": "x"}}, "not_a_number", "levels['a']"),
        ({"records": [1]}, "not_an_object", "records[0]"),
        ({"words": "x"}, "not_a_list", "words"),
        ({"txet": "a"}, "unknown_argument", "txet"),
    ],
)
def test_wrong_arguments_are_errors_as_data(wrong, code, field):
    answer = everything(**{**GIVEN, **wrong})
    assert not answer["ok"]
    assert (answer["error"]["code"], answer["error"]["field"]) == (code, field)
    assert answer["error"]["hint"]


def test_empty_lists_are_lists():
    empty = {name: [] for name in ("rows", "ids", "words", "anything", "records")}
    assert everything(**{**GIVEN, **empty})["ok"]


def test_what_a_function_gives_becomes_a_result():
    @tool
    def plain(x: int) -> int:
        """One more."""
        return x + 1

    @tool(name="rich", description="Said here.")
    def answered():
        return Answer({"y": np.float64(1.5)}, units={"y": "m"}, warnings=["w"])

    @tool
    def refuses(x: int) -> int:
        """Never."""
        raise ToolError("no_luck", "x", f"{x} does not do", "try another")

    assert plain(1)["result"] == {"value": 2}
    assert answered()["result"] == {"y": 1.5}
    assert (answered.name, answered.description) == ("rich", "Said here.")
    assert answered()["units"] == {"y": "m"}
    assert refuses(1)["error"]["code"] == "no_luck"


def undocumented(x: int) -> int:
    return x


def unhinted(x):
    """Do."""
    return x


def starred(*xs: int) -> int:
    """Do."""
    return 0


def double_starred(**xs: int) -> int:
    """Do."""
    return 0


def positional(x: int, /) -> int:
    """Do."""
    return x


def strange(x: set) -> int:
    """Do."""
    return 0


def mixed(x: int | str) -> int:
    """Do."""
    return 0


def numbered(x: Literal[1, 2]) -> int:
    """Do."""
    return x


def misspelt(x: int) -> int:
    """Do.

    Args:
      y: what
    """
    return x


def ill_defaulted(x: int = "a") -> int:
    """Do."""
    return x


def unreadable(x: Missing) -> int:  # noqa: F821
    """Do."""
    return x


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (undocumented, "undocumented has no docstring; say in it what the tool does"),
        (unhinted, "parameter x of unhinted has no type hint"),
        (starred, r"takes \*xs"),
        (double_starred, r"takes \*\*xs"),
        (positional, "can not be given by name"),
        (strange, "x of strange has the hint set"),
        (mixed, "x of mixed has the hint"),
        (numbered, "x of numbered has the hint"),
        (misspelt, "describes 'y', which is none of its parameters: x"),
        (ill_defaulted, "default of x in ill_defaulted: x must be a number"),
        (unreadable, "hints of unreadable can not be read: name 'Missing'"),
        (3, "is no function"),
        (lambda x: x, "can not be named '<lambda>'"),
    ],
)
def test_functions_that_make_no_tool(function, words):
    with pytest.raises(UserError, match=words):
        tool(function)
