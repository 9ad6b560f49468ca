"""What a snippet prints, and why: every output comes from running it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from string import Template
from typing import Any, NamedTuple

from lilith.data.instructions.conversations import assistant, conversation, user
from lilith.data.instructions.drawing import Conversation, Draw


class Snippet(NamedTuple):
    """Code with ``$`` numbers and names, and an explanation with the code's variables in braces."""

    source: str
    why: str
    level: int


SNIPPETS = (
    Snippet(
        """\
prices = [$a, $b, $c, $d]
latest = prices[-2:]
change = latest[1] - latest[0]
print(latest, change)
""",
        "`prices[-2:]` takes the last two items, {latest}; their difference is {change}.", 0),
    Snippet(
        """\
balance = $a
for year in range($k):
    balance = balance + balance // 10
print(balance)
""",
        "The loop runs $k times; each time a tenth, rounded down, is added. From $a that leads to "
        "{balance}.", 1),
    Snippet(
        """\
counts = {}
for side in ['buy', 'sell', 'buy', '$side']:
    counts[side] = counts.get(side, 0) + $k
print(counts)
""",
        "Each occurrence adds $k to its key, `get` gives 0 the first time: {counts}.", 0),
    Snippet(
        """\
first = [$a, $b]
second = first
second.append($c)
print(len(first), first is second)
""",
        "`second = first` makes no copy: both names mean the same list, so the append of $c "
        "shows in `first` too.", 1),
    Snippet(
        """\
lots, rest = divmod($b, $k)
print(lots, rest, -$b // $k)
""",
        "divmod gives the quotient {lots} and the remainder {rest}. Floor division rounds towards "
        "minus infinity, which is seen for the negative number.", 1),
    Snippet(
        """\
trades = [('A', $a), ('B', $b), ('C', $c)]
ranked = sorted(trades, key=lambda trade: -trade[1])
print([name for name, _ in ranked])
""",
        "The key is the negative size, so the largest comes first: {ranked}; only names are "
        "printed.",
        1),
    Snippet(
        """\
prices = [$a, $b, $c]
ups = sum(after > before for before, after in zip(prices, prices[1:]))
print(ups)
""",
        "zip pairs each price with the next one. True counts as 1, so `ups` is the number of "
        "rises: {ups}.", 1),
    Snippet(
        """\
def collect(value, seen=[]):
    seen.append(value)
    return len(seen)


collect($a)
collect($b)
print(collect($c))
""",
        "The default list is made once and shared by all calls, so the third call finds two values "
        "already in it.", 2),
    Snippet(
        """\
total = 0
for size in [$a, $b, $c, $d]:
    if size % 2:
        continue
    total += size
print(total)
""",
        "Odd sizes are skipped by `continue`; the even ones sum to {total}.", 0),
    Snippet(
        """\
makers = [lambda x: x + step for step in (1, 2, $k)]
results = [make($a) for make in makers]
print(results)
""",
        "The lambdas look `step` up when they are called; by then it is $k for all of them: "
        "{results}.", 2),
    Snippet(
        """\
held = {'A', 'B', '$name'}
wanted = {'B', 'D'}
print(sorted(held & wanted), sorted(held ^ wanted))
""",
        "`&` keeps what is in both sets, `^` what is in exactly one of them.", 0),
    Snippet(
        """\
try:
    ratio = $a / ($k - $k)
except ZeroDivisionError:
    ratio = None
finally:
    print('done')
print(ratio)
""",
        "The divisor is 0, so the except branch sets None; `finally` prints in any case, "
        "and first.",
        1),
    Snippet(
        """\
def doubled(limit):
    value = $k
    while value < limit:
        yield value
        value *= 2


parts = list(doubled($d))
print(parts, sum(parts))
""",
        "The generator doubles from $k while it stays below $d: {parts}.", 1),
    Snippet(
        """\
grid = [[0] * 2] * $k
grid[0][1] = $a
print(grid)
""",
        "The outer `*` repeats one and the same row $k times, so the change shows in all rows.", 2),
    Snippet(
        """\
words = 'long $name short $side'.split()
short = {word: len(word) for word in words if len(word) > $small}
print(short)
""",
        "The words longer than $small letters are kept with their lengths: {short}.", 0),
    Snippet(
        """\
a, b = $a, $b
while b:
    a, b = b, a % b
print(a)
""",
        "This is Euclid's algorithm: the greatest common divisor of $a and $b is {a}.", 1),
)  # fmt: skip
ASKS = (
    "What does this print?\n\n{code}",
    "Explain this snippet and its output:\n\n{code}",
    "Without running it: what is the output?\n\n{code}",
    "{code}\n\nWhat comes out, and why?",
    "I am learning Python. What will this show?\n\n{code}",
    "Predict the output.\n\n{code}",
    "Walk me through this code:\n\n{code}",
    "Quiz from a colleague. What is printed?\n\n{code}",
    "Trace this program:\n\n{code}",
    "Can you tell me what this does and prints?\n\n{code}",
    "What will Python print here?\n\n{code}",
)


def printed(source: str) -> tuple[str, dict[str, Any]]:
    """What a source of our own templates prints, and its variables at the end."""
    namespace: dict[str, Any] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(source, namespace)  # a template of this package, not a stranger's code
    return out.getvalue(), namespace


def code_output(draw: Draw) -> Conversation:
    """A snippet, what it prints and why."""
    snippet = draw.choice(SNIPPETS)
    words = {name: str(draw.number("10", "209")) for name in ("a", "b", "c", "d")}
    words |= {
        "k": str(draw.count(3, 7)), "small": str(draw.count(3, 4)),
        "side": draw.choice(("buy", "sell", "hold", "short")),
        "name": draw.choice(("ACME", "NOVA", "ORION", "ZETA")),
    }  # fmt: skip
    source = Template(snippet.source).substitute(words)
    stdout, variables = printed(source)
    why = Template(snippet.why).substitute(words).format(**variables)
    shown = f"```text\n{stdout}```"
    answer = draw.choice((f"It prints:\n\n{shown}\n\n{why}", f"{why} Output:\n\n{shown}"))
    ask = draw.phrase(ASKS).format(code=f"```python\n{source}```")
    check = {"code": {"by": "output", "stdout": stdout}}
    return conversation(
        "code_output", "code", ("easy", "medium", "hard")[snippet.level],
        [user(ask), assistant(answer)], check,
    )  # fmt: skip


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_output": code_output}
