"""A tool is declared once: its schema, its help, its checks and its answer follow from that."""

import json

import numpy as np
import pytest

import lilith.quant
from lilith.quant import tool as tool_module
from lilith.quant.tool import Answer, Parameter, Tool, ToolError, tool

ROWS = {"a": [0.1, -0.2, 0.3], "b": [0.0, 0.1, 0.2]}


@pytest.fixture(scope="module")
def demo():
    @tool(
        "Does nothing much",
        Parameter("table", "table", "Returns", unit="fraction a day", least=2),
        Parameter("rate", "number", "A rate", unit="per year", default=0.05, above=-1, maximum=2),
        Parameter("count", "integer", "How many", default=3, minimum=1),
        Parameter("method", "string", "Which way", default="one", choices=("one", "two")),
        Parameter("flag", "boolean", "Whether", default=False),
        Parameter("weights", "numbers", "Weights", default=None, minimum=0, least=2, most=3),
        Parameter("matrix", "matrix", "Square", default=None),
        Parameter("days", "dates", "Days", default=None),
        Parameter("names", "strings", "Names", default=None),
        Parameter("options", "object", "More", default=None),
    )
    def demo_of_the_tests(
        table, rate, count, method, flag, weights, matrix, days, names, options
    ) -> Answer:
        if method == "two":
            raise ToolError("no_such_way", "method", "two is not built", "use one")
        return Answer(
            {
                "mean": table.values.mean(axis=0),
                "gap": float("nan"),
                "known": np.float64("inf"),
                "count": np.int64(count),
                "names": table.names,
                "deep": {"list": [1.0, float("nan")]},
            },
            units={"mean": "fraction"},
            conventions={"flag": flag},
            warnings=["result.known is endless, so it is null"],
        )

    yield demo_of_the_tests
    tool_module._REGISTRY.pop("demo_of_the_tests")


def test_an_answer_is_json(demo):
    found = demo(ROWS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ok"] is True
    assert found["result"] == {
        "mean": [pytest.approx(0.2 / 3), pytest.approx(0.1)],
        "gap": None,
        "known": None,
        "count": 3,
        "names": ["a", "b"],
        "deep": {"list": [1.0, None]},
    }
    assert found["units"] == {"mean": "fraction"}
    assert found["conventions"] == {"flag": False}
    # A null that the tool has not explained is explained for it.
    assert [text.split(" is ")[0] for text in found["warnings"]] == [
        "result.known",
        "result.gap",
        "result.deep.list[1]",
    ]


def test_tables_come_in_many_shapes(demo):
    rows = [list(pair) for pair in zip(*ROWS.values())]
    for given in (ROWS, rows, np.array(rows), tuple(map(tuple, rows))):
        assert demo(given)["result"]["mean"] == demo(ROWS)["result"]["mean"]
    assert demo([0.1, 0.3])["result"]["mean"] == [pytest.approx(0.2)]

    class Frame:
        columns, index = ["x"], ["r1", "r2"]

        def to_numpy(self):
            return np.array([[1.0], [2.0]])

    assert demo(Frame())["result"]["names"] == ["x"]


@pytest.mark.parametrize(
    ("arguments", "code", "field", "says"),
    [
        ({}, "missing_argument", "table", "needs table"),
        ({"tabel": ROWS}, "unknown_argument", "tabel", "no argument 'tabel'"),
        ({"table": 3}, "not_a_list", "table", "a int"),
        ({"table": "0.1"}, "not_a_list", "table", "a str"),
        ({"table": []}, "too_few_entries", "table", "0 entries and needs at least 2"),
        ({"table": [[0.1]]}, "too_few_entries", "table", "1 entry and needs at least 2"),
        ({"table": {}}, "too_few_entries", "table", "no columns"),
        (
            {"table": {"a": [1, 2, 3], "b": [1, 2]}},
            "ragged_table",
            "table",
            "b has 2 entries and a has 3",
        ),
        ({"table": [[1, 2], [1]]}, "ragged_table", "table", "row 1 has 1"),
        ({"table": {"a": [1, None]}}, "missing_value", "table", r"table\[a\]\[1\] is missing"),
        ({"table": {"a": [1, float("nan")]}}, "missing_value", "table", "missing"),
        ({"table": {"a": [1, float("inf")]}}, "not_finite", "table", "inf"),
        ({"table": {"a": [1, "2"]}}, "not_a_number", "table", r"'2' is a str"),
        ({"table": {"a": [1, True]}}, "not_a_number", "table", "True is a bool"),
        ({"rate": "5%"}, "not_a_number", "rate", "'5%' is a str"),
        ({"rate": True}, "not_a_number", "rate", "bool"),
        ({"rate": float("nan")}, "not_finite", "rate", "nan"),
        ({"rate": -1}, "out_of_range", "rate", "is -1 and must be above -1"),
        ({"rate": 3.0}, "out_of_range", "rate", "is 3 and must be at most 2"),
        ({"count": 2.5}, "not_an_integer", "count", "2.5"),
        ({"count": 0}, "out_of_range", "count", "at least 1"),
        ({"method": "three"}, "unknown_choice", "method", "'three'"),
        ({"method": 1}, "not_a_string", "method", "a int"),
        ({"method": "two"}, "no_such_way", "method", "not built"),
        ({"flag": 1}, "not_a_boolean", "flag", "true or false"),
        ({"weights": [0.5]}, "too_few_entries", "weights", "1 entry"),
        ({"weights": [0.1] * 4}, "too_many_entries", "weights", "4 entries and needs at most 3"),
        ({"weights": [0.5, -0.5]}, "out_of_range", "weights", r"weights\[1\] is -0.5"),
        ({"matrix": [[1, 2], [3, "x"]]}, "not_a_number", "matrix", r"matrix\[1\]\[1\]"),
        ({"matrix": [1, 2]}, "not_a_matrix", "matrix", "must be a list of numbers"),
        ({"days": ["2024-01-02", "2024-01-01"]}, "dates_not_rising", "days", "comes after"),
        ({"days": ["2024-01-02", "2024-01-02"]}, "dates_not_rising", "days", "comes after"),
        ({"days": ["yesterday"]}, "not_a_date", "days", "'yesterday'"),
        ({"names": ["a", 2]}, "not_a_string", "names", "a int"),
        ({"options": [1]}, "not_an_object", "options", "must be an object"),
    ],
)
def test_each_wrong_argument_is_named(demo, arguments, code, field, says):
    needed = (
        {} if "table" in arguments or not arguments or "tabel" in arguments else {"table": ROWS}
    )
    found = demo(**needed, **arguments)
    assert found["ok"] is False
    error = found["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert pytest.importorskip("re").search(says, error["message"]), error["message"]
    assert error["hint"]
    json.dumps(found, allow_nan=False)


def test_positions_and_names(demo):
    assert demo(ROWS, 0.1)["ok"]
    assert demo(ROWS, table=ROWS)["error"]["code"] == "duplicate_argument"
    assert demo(*[ROWS] * 11)["error"]["code"] == "too_many_arguments"
    assert "did you mean 'rate'" in demo(ROWS, rates=1)["error"]["hint"]
    assert demo(ROWS, weights=None)["ok"]  # null is a default of null said aloud


def test_the_schema_and_the_help_say_what_is_checked(demo):
    schema = demo.schema()["function"]
    assert (schema["name"], schema["description"]) == ("demo_of_the_tests", "Does nothing much")
    parameters = schema["parameters"]
    assert parameters["required"] == ["table"]
    assert parameters["additionalProperties"] is False
    known = parameters["properties"]
    assert known["rate"] == {
        "description": "A rate [per year]",
        "type": "number",
        "exclusiveMinimum": -1,
        "maximum": 2,
        "default": 0.05,
    }
    assert known["method"]["enum"] == ["one", "two"]
    assert known["weights"]["items"] == {"type": "number", "minimum": 0}
    assert (known["weights"]["minItems"], known["weights"]["maxItems"]) == (2, 3)
    text = demo.help()
    assert "rate (number): A rate (per year; at most 2; above -1; default 0.05)" in text
    assert "weights (numbers): Weights (at least 0; optional)" in text


def test_a_declaration_must_fit_its_function():
    with pytest.raises(ValueError, match="takes"):
        tool("x", Parameter("a", "number", "A"))(lambda b: Answer({}))
    with pytest.raises(ValueError, match="unknown kind"):
        Parameter("a", "complex", "A")

    def black_scholes(a):
        return Answer({"a": a})

    lilith.quant.tools()
    with pytest.raises(ValueError, match="a tool 'black_scholes' already"):
        tool("x", Parameter("a", "number", "A"))(black_scholes)


def test_the_librarys_tools_are_all_there_and_described():
    found = lilith.quant.tools()
    assert {name for name in lilith.quant.__all__ if name != "tools"} <= set(found)
    found.pop("demo_of_the_tests", None)
    for name, own in found.items():
        assert isinstance(own, Tool)
        assert len(own.description) > 20, name
        json.dumps(own.schema(), allow_nan=False)
        for parameter in own.parameters:
            assert parameter.description, (name, parameter.name)
        if any(parameter.required for parameter in own.parameters):
            assert own()["error"]["code"] == "missing_argument", name
    with pytest.raises(AttributeError, match="no attribute 'black_shoals'"):
        lilith.quant.black_shoals  # noqa: B018
