"""The tools that an agent is granted, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lilith.config import UserError, nearest
from lilith.quant.tool import Tool

QUANT_TOOLS = (
    "stats_summary", "black_scholes", "implied_volatility", "monte_carlo_option",
    "portfolio_optimize", "efficient_frontier", "backtest_metrics",
)  # fmt: skip
_PLANNING = "lilith.agent.planning_tool"


class ToolRegistry:
    """Declared tools by name; a tool that is not in here can not be called.

    Args:
      tools: as ``@tool`` of this package or of :mod:`lilith.quant.tool` makes them.

    Raises:
      UserError: two tools have one name, or something is no tool.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._in_order: set[str] = set()
        self._closing: list[Callable[[], None]] = []
        for one in tools:
            self.add(one)

    def add(
        self,
        tool: Tool,
        *,
        in_order: bool = False,
        close: Callable[[], None] | None = None,
    ) -> None:
        """Grant one more tool.

        Args:
          in_order: it keeps a state, so that its calls run one after another and none is answered
            from memory.
          close: ends what the tool holds, when the registry is closed.

        Raises:
          UserError: its name is taken, or it is no tool.
        """
        if not isinstance(tool, Tool):
            raise UserError(
                f"{getattr(tool, '__name__', tool)!r} is a {type(tool).__name__} and no tool; "
                "make one of a function with @tool of lilith.agent.function_tool"
            )
        if tool.name in self._tools:
            raise UserError(
                f"there is a tool {tool.name!r} already; name the other one differently, for a "
                "model can only tell tools apart by their names"
            )
        self._tools[tool.name] = tool
        if in_order:
            self._in_order.add(tool.name)
        if close is not None:
            self._closing.append(close)

    def __getitem__(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
          UserError: there is none; the nearest name is given.
        """
        if name not in self._tools:
            raise UserError(
                f"there is no tool {str(name)[:60]!r}{nearest(str(name)[:60], self._tools)}; "
                f"there are {', '.join(self._tools) or 'none at all'}"
            )
        return self._tools[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which the tools were added."""
        return tuple(self._tools)

    def runs_in_order(self, name: str) -> bool:
        """Whether a tool keeps a state between its calls."""
        return name in self._in_order

    def only(self, names: Iterable[str]) -> ToolRegistry:
        """A registry of some of these tools, which stay open as long as this one does.

        Raises:
          UserError: a name is unknown.
        """
        some = ToolRegistry()
        for name in names:
            some.add(self[name], in_order=name in self._in_order)
        return some

    def schemas(self) -> list[dict[str, Any]]:
        """The JSON schema of each tool, as chat templates take them."""
        return [tool.schema() for tool in self]

    def help(self, name: str | None = None) -> str:
        """What one tool does and takes; without a name, the first sentence on each.

        Raises:
          UserError: the name is unknown.
        """
        if name is not None:
            return self[name].help()
        width = max(map(len, self._tools), default=0)
        return "\n".join(f"{tool.name:<{width}}  {_sentence(tool.description)}" for tool in self)

    def restart(self) -> None:
        """End what the tools hold; they begin anew with their next call."""
        for end in self._closing:
            end()

    def close(self) -> None:
        """End what the tools hold, such as a Python session. Closing twice does nothing."""
        while self._closing:
            self._closing.pop()()

    def __enter__(self) -> ToolRegistry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_quant_tools(
    *, others: bool | Sequence[str] = False, packages: Sequence[str] = ()
) -> ToolRegistry:
    """The tools of a quant agent: finance, statistics, a calculator, Python, and planning.

    Args:
      others: the remaining tools of :mod:`lilith.quant` too: all of them, or those named.
      packages: distributions that ``execute_python`` and ``verify_code`` may import, besides the
        standard library.

    Returns:
      A registry of its own, with a Python session of its own, which is started by its first call;
      close it (or use it in a ``with`` statement) to end the session.

    Raises:
      UserError: ``others`` names no such tool, or a package is not installed.
    """
    from lilith import quant
    from lilith.agent.calculator import calculator
    from lilith.agent.python_tools import PythonSession, verify_code_tool

    library = ToolRegistry(quant.tools().values())
    registry = ToolRegistry(library[name] for name in QUANT_TOOLS)
    registry.add(calculator)
    session = PythonSession(packages)
    registry.add(session.tool(), in_order=True, close=session.close)
    registry.add(verify_code_tool(packages))
    if importlib.util.find_spec(_PLANNING) is not None:
        registry.add(importlib.import_module(_PLANNING).plan_project)
    wanted = library.names if others is True else tuple(others or ())
    for name in wanted:
        if name not in registry:
            registry.add(library[name])
    return registry


def _sentence(text: str) -> str:
    first, dot, _ = " ".join(text.split()).partition(". ")
    return first + dot.strip()
