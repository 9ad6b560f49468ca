"""The registry: what is granted, and every way in which it is not."""

import json
import subprocess
import sys

import pytest

from lilith import quant
from lilith.agent.function_tool import tool
from lilith.agent.registry import QUANT_TOOLS, ToolRegistry, create_quant_tools
from lilith.config import UserError


@tool
def double(x: float) -> float:
    """Twice a number. It doubles.

    Args:
      x: what is doubled
    """
    return 2 * x


@pytest.fixture(scope="module")
def tools():
    with create_quant_tools() as made:
        yield made


def test_the_quant_tools_are_those_of_the_issue(tools):
    wanted = {*QUANT_TOOLS, "calculator", "execute_python", "verify_code"}
    assert set(tools.names) - {"plan_project"} == wanted
    assert len(tools) == len(tools.names)


def test_schemas_are_json_and_name_what_is_required(tools):
    schemas = json.loads(json.dumps(tools.schemas()))
    assert [schema["function"]["name"] for schema in schemas] == list(tools.names)
    for schema in schemas:
        parameters = schema["function"]["parameters"]
        assert set(parameters["required"]) <= set(parameters["properties"])
        assert parameters["additionalProperties"] is False


def test_other_tools_come_by_option():
    every = create_quant_tools(others=True)
    assert set(quant.tools()) <= set(every.names)
    some = create_quant_tools(others=["heston_option", "black_scholes"])
    assert "heston_option" in some
    assert "sabr_volatility" not in some
    with pytest.raises(UserError, match=r"no tool 'heston_optoin' \(did you mean 'heston_option'"):
        create_quant_tools(others=["heston_optoin"])


def test_names_are_taken_once():
    registry = ToolRegistry([double])
    with pytest.raises(UserError, match="a tool 'double' already"):
        registry.add(double)


def test_an_unknown_tool_is_named_with_the_nearest():
    registry = ToolRegistry([double])
    with pytest.raises(UserError, match=r"no tool 'duble' \(did you mean 'double'\?\); there are"):
        registry["duble"]
    with pytest.raises(UserError, match="none at all"):
        ToolRegistry()["x"]


def test_what_is_no_tool_is_refused():
    with pytest.raises(
        UserError, match=r"'len' is a builtin.* and no tool; make one .* with @tool"
    ):
        ToolRegistry([len])


def test_help_is_a_line_a_tool_or_all_of_one(tools):
    lines = tools.help().splitlines()
    assert len(lines) == len(tools)
    assert all(line.startswith(name) for line, name in zip(lines, tools.names))
    assert "spot (number)" in tools.help("black_scholes")
    assert ToolRegistry([double]).help() == "double  Twice a number."
    assert ToolRegistry().help() == ""


def test_a_part_of_a_registry_keeps_its_order_and_state(tools):
    some = tools.only(["execute_python", "calculator"])
    assert some.names == ("execute_python", "calculator")
    assert some.runs_in_order("execute_python")
    assert not some.runs_in_order("calculator")
    assert "black_scholes" not in some
    with pytest.raises(UserError, match="no tool 'nothing'"):
        tools.only(["nothing"])


def test_closing_ends_what_tools_hold_once():
    ended = []
    registry = ToolRegistry()
    registry.add(double, close=lambda: ended.append(1))
    registry.close()
    registry.close()
    assert ended == [1]


def test_importing_the_room_brings_in_nothing_heavy():
    code = (
        "import sys, lilith.agent; "
        "print([m for m in ('jax', 'numpy', 'llguidance') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "[]"
