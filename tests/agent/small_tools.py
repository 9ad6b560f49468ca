"""Tools that do next to nothing, for agents in tests."""

from lilith.agent.function_tool import tool


@tool
def double(x: float) -> dict:
    """Twice a number."""
    return {"doubled": 2 * x}


@tool
def numbers(count: int) -> dict:
    """Numbers from 0 on."""
    return {"numbers": [i / 4 for i in range(count)]}


@tool
def total(values: list[float]) -> dict:
    """The sum."""
    return {"total": sum(values)}
