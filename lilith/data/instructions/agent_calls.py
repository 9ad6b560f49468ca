"""The agent's calculator, Python and judge of code, called as an agent shows them to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from string import Template
from typing import Any, NamedTuple

from lilith.data.instructions.agent_prompt import (
    MOST_DRAWS,
    agent_called,
    agent_system,
    fitting,
)
from lilith.data.instructions.arithmetic_tools import calculator, python_tool
from lilith.data.instructions.conversations import assistant, conversation, plain, user
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.exact import shown
from lilith.data.instructions.tool_text import DIGITS
from lilith.roles import SYSTEM_PROMPTS

ROLES = tuple(SYSTEM_PROMPTS)
CODE_ROLES = ("10x_engineer", "10x_engineer", "quant_dev", "hybrid_quant_pm")
_EXACT_BELOW = 1_000  # a fraction that is larger is shown with too few decimals to quote


def _with_results(
    record: Conversation, kind: str, role: str, results: list[Mapping[str, Any]]
) -> Conversation:
    """A conversation of a tool with an agent's system message and other words of the results."""
    asked, *rest = record["messages"][1:]
    messages = [agent_system(role), asked]
    calls = [call for message in rest for call in message.get("tool_calls", ())]
    for call, result in zip(calls, results, strict=True):
        told = {"ok": True, "result": result}
        messages += agent_called(call["name"], call["arguments"], told)
    facts = record["metadata"]
    check = facts["check"] | {"tool_calls": calls, "results": [dict(own) for own in results]}
    return conversation(kind, facts["domain"], facts["difficulty"], [*messages, rest[-1]], check)


def agent_calculator(draw: Draw) -> Conversation:
    """A sum by one call; the answer quotes what the calculator shows."""
    for _ in range(MOST_DRAWS):
        record = calculator(draw)
        (first, *more) = record["metadata"]["check"]["calls"]
        value = Fraction(first[1])
        whole_text = Fraction(plain(value, 12)) == value
        if not more and (whole_text or abs(value) < _EXACT_BELOW):
            break
    else:
        raise ValueError("no sum of one call is short enough to quote")
    rounded = float(f"{float(value):.{DIGITS}g}")
    number = int(value) if value.denominator == 1 else rounded
    number = int(number) if number == int(number) else number
    result = {"value": number, "text": shown(value), "exact": True}
    return _with_results(record, "agent_calculator", draw.choice(ROLES), [result])


def agent_python(draw: Draw) -> Conversation:
    """A program in the session; its output is what it prints when it is run."""
    record = python_tool(draw)
    stdout = record["metadata"]["check"]["stdout"]
    result = {"status": "ok", "stdout": stdout, "stderr": "", "value": None, "error": None}
    return _with_results(record, "agent_python", draw.choice(CODE_ROLES), [result])


class Function(NamedTuple):
    """A short function of whole numbers: a line of it may go wrong; ``$name`` is its name.

    ``arguments``: how many numbers it takes, or 0 for one list of them; ``signed``: some of them
    below zero.
    """

    does: str
    names: tuple[str, ...]
    source: str
    right: str
    wrong: str
    arguments: int
    signed: bool = False


FUNCTIONS = (
    Function("keeps a position within 20 on both sides", ("clip", "limited", "bounded"),
             "def $name(size):\n    return max(-20, min(20, size))\n",
             "max(-20, min(20, size))", "min(20, size)", 1, signed=True),
    Function("adds up the gains and leaves out the losses", ("gains", "sum_of_gains", "only_up"),
             "def $name(moves):\n    return sum(x for x in moves if x > 0)\n", "x > 0",
             "x > 50", 0, signed=True),
    Function("gives the largest number minus the smallest", ("spread", "span", "value_range"),
             "def $name(values):\n    return max(values) - min(values)\n",
             "max(values) - min(values)", "values[-1] - values[0]", 0),
    Function("rounds an order down to whole lots", ("whole_lots", "lots", "floor_to_lot"),
             "def $name(size, lot):\n    return size // lot * lot\n", "size // lot * lot",
             "size // lot", 2),
    Function("counts how often the number goes up from one entry to the next",
             ("rises", "count_rises", "ups"),
             "def $name(values):\n    return sum(a < b for a, b in zip(values, values[1:]))\n",
             "a < b", "a != b", 0),
    Function("gives the middle one of three numbers", ("middle", "median_of_three", "mid"),
             "def $name(a, b, c):\n    return sorted([a, b, c])[1]\n", "sorted([a, b, c])[1]",
             "(a + b + c) // 3", 3),
    Function("multiplies the first number by the last", ("ends", "outer_product", "first_by_last"),
             "def $name(values):\n    return values[0] * values[-1]\n", "values[-1]",
             "values[1]", 0),
    Function("says how many boxes hold all items", ("boxes", "boxes_needed", "crates"),
             "def $name(items, size):\n    return -(-items // size)\n", "-(-items // size)",
             "items // size", 2),
    Function("keeps each number once, in order of appearance", ("unique", "distinct", "once"),
             "def $name(values):\n    return list(dict.fromkeys(values))\n",
             "list(dict.fromkeys(values))", "sorted(values)", 0),
    Function("finds the length of the overlap of two stretches that start at a and b",
             ("overlap", "shared", "common_length"),
             "def $name(a, b, length):\n    return max(0, length - abs(a - b))\n",
             "max(0, length - abs(a - b))", "length - abs(a - b)", 3),
    Function("adds up the digits of a number", ("digit_sum", "cross_sum", "sum_digits"),
             "def $name(number):\n    return sum(map(int, str(number)))\n",
             "sum(map(int, str(number)))", "number % 10", 1),
    Function("gives the two largest numbers, the largest first", ("top_two", "best_two", "leaders"),
             "def $name(values):\n    return sorted(values, reverse=True)[:2]\n", ", reverse=True",
             "", 0),
    Function("tells the sign of a number: -1, 0 or 1", ("sign", "signum", "direction"),
             "def $name(number):\n    return (number > 0) - (number < 0)\n",
             "(number > 0) - (number < 0)", "number", 1, signed=True),
    Function("computes a weighted sum, the second number weighing double",
             ("weighted", "mix", "blend"),
             "def $name(a, b):\n    return a + 2 * b\n", "a + 2 * b", "2 * (a + b)", 2),
    Function("gives the greatest common divisor", ("gcd", "common_divisor", "divisor"),
             "def $name(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n",
             "return a", "return b", 2),
)  # fmt: skip
JUDGE = (
    "Does this function pass the checks? It {does}.\n\n{code}\n{tests}",
    "Please verify this code; it {does}.\n\n{code}\nTests:\n{tests}",
    "I wrote a function that {does}:\n\n{code}\nRun these asserts on it:\n{tests}",
    "Test this before I merge it. It {does}.\n\n{code}\n{tests}",
    "Is this right? It {does}.\n\n{code}\nIt should satisfy:\n{tests}",
    "{code}\nThis {does}. Check it with\n{tests}",
    "Judge my code, which {does}, by these tests.\n\n{code}\n{tests}",
    "Do the asserts hold? The function {does}.\n\n{code}\n{tests}",
    "Verify, do not guess: it {does}.\n\n{code}\n{tests}",
    "Can you confirm that all of these pass? The function {does}.\n\n{code}\n{tests}",
    "A colleague says that this {does}. Check it.\n\n{code}\nTests:\n{tests}",
    "Unit tests for a function that {does}:\n{tests}\n\nThe code:\n\n{code}",
)
PASSED = (
    "All {count} checks pass.", "It passes: {count} of {count} checks hold.",
    "Yes, every one of the {count} asserts holds.",
)  # fmt: skip
FAILED = (
    "No: `{call}` should be {want} and is {got}. The fault is in `{line}`.",
    "It fails: `{call}` gives {got}, expected is {want}. Look at `{line}`.",
    "Not all checks pass: {want} is expected of `{call}`, and it gives {got}. `{line}` is wrong.",
)
CHECKS = {"easy": 2, "medium": 3, "hard": 4}


def agent_verify_code(draw: Draw) -> Conversation:
    """Code of the user judged by the user's asserts; half of it has a fault that they show."""
    difficulty = draw.difficulty()
    function = draw.phrase(FUNCTIONS)
    name = draw.choice(function.names)
    right = Template(function.source).substitute(name=name)
    faulty = draw.count(0, 1) == 1
    source = right.replace(function.right, function.wrong) if faulty else right
    for _ in range(MOST_DRAWS):
        rows = [_arguments(draw, function) for _ in range(CHECKS[difficulty])]
        wants, gots = (_outcomes(text, name, rows) for text in (right, source))
        failures = [
            (f"{name}({', '.join(map(repr, row))})", want, got)
            for row, want, got in zip(rows, wants, gots)
            if want != got
        ]
        if bool(failures) == faulty:
            break
    else:
        raise ValueError(f"the fault of {name} does not show")
    tests = "\n".join(
        f"assert {name}({', '.join(map(repr, row))}) == {want!r}" for row, want in zip(rows, wants)
    )
    ask = draw.phrase(JUDGE).format(does=function.does, code=f"```python\n{source}```", tests=tests)
    told = [f"{call}; expected {want!r}; came {got!r}; Unequal: not equal"
            for call, want, got in failures]  # fmt: skip
    result = {"passed": not faulty, "failures": told}
    text = draw.choice(PASSED).format(count=len(rows))
    if faulty:
        call, want, got = failures[0]
        lines = zip(right.split("\n"), source.split("\n"))
        line = next(own.strip() for good, own in lines if own != good)
        text = draw.choice(FAILED).format(call=call, want=want, got=got, line=line)
    arguments = {"code": source, "tests": tests}
    messages = [
        agent_system(draw.choice(CODE_ROLES)), user(ask),
        *agent_called("verify_code", arguments, {"ok": True, "result": result}), assistant(text),
    ]  # fmt: skip
    calls = [{"name": "verify_code", "arguments": arguments}]
    check = {"tool_calls": calls, "results": [result]}
    return conversation("agent_verify_code", "general", difficulty, messages, check)


def _arguments(draw: Draw, function: Function) -> list[Any]:
    """Whole numbers, or a list of four or five."""
    signs = (1, 1, -1) if function.signed else (1,)
    size = function.arguments or draw.count(4, 5)
    numbers = [int(draw.number("1", "100")) * draw.choice(signs) for _ in range(size)]
    return numbers if function.arguments else [numbers]


def _outcomes(source: str, name: str, rows: list[list[Any]]) -> list[Any]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # a template of this module, not a stranger's code
    return [namespace[name](*row) for row in rows]


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    function.__name__: fitting(function)
    for function in (agent_calculator, agent_python, agent_verify_code)
}
