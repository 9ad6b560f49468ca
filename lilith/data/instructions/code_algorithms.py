"""General algorithms: requests for Python functions and answers."""

from __future__ import annotations

import collections
import graphlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from lilith.data.instructions.code_writing import Case, Task, code_answer
from lilith.data.instructions.drawing import Conversation, Draw

Words = Mapping[str, str]
ITEMS = ("items", "values", "data", "numbers", "xs")
_X = (("x", "list[int]", ""),)
_ITEMS = {"x": ITEMS}
_K = {"k": ("size", "k", "n", "length")}


def exact_cases(
    make: Callable[[Draw], list[Any]], value: Callable[..., Any], count: int = 4
) -> Callable[..., list[Case]]:
    """Cases from drawn arguments, exact; ``value`` must be another way than the answer's."""

    def cases(draw: Draw, words: Words) -> list[Case]:
        made = [make(draw) for _ in range(count)]
        return [[args, value(*args), None] for args in made]

    return cases


def whole_numbers(draw: Draw, low: int = 0, high: int = 99) -> list[int]:
    """Five to nine of them."""
    return [draw.count(low, high) for _ in range(draw.count(5, 9))]


def _pairs(draw: Draw) -> list[list[list[int]]]:
    starts = [int(draw.number("0", "39")) for _ in range(draw.count(3, 5))]
    return [[[s, s + draw.count(1, 9)] for s in starts]]


def _union(pairs: list[list[int]]) -> list[list[int]]:
    """By painting half units: touching intervals join."""
    painted = sorted({2 * a + k for a, b in pairs for k in range(2 * (b - a) + 1)})
    found: list[list[int]] = []
    for _, run in itertools.groupby(enumerate(painted), key=lambda pair: pair[1] - pair[0]):
        points = [point for _, point in run]
        found.append([points[0] // 2, points[-1] // 2])
    return found


def _graph(draw: Draw) -> list[Any]:
    names = draw.random.sample(("load", "clean", "price", "risk", "report", "alert", "archive"), 5)
    return [
        {
            name: sorted(draw.random.sample(names[:i], min(i, draw.count(0, 2))))
            for i, name in enumerate(names)
        }
    ]


def _smallest_first(graph: dict[str, list[str]]) -> list[str]:
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    ready, done = sorted(sorter.get_ready()), []
    while ready:
        done.append(ready.pop(0))
        sorter.done(done[-1])
        ready = sorted([*ready, *sorter.get_ready()])
    return done


def _closed(text: str) -> bool:
    before = ""
    while before != text:
        before = text
        for pair in ("()", "[]", "{}"):
            text = text.replace(pair, "")
    return not text


def _distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return _distance(a[1:], b[1:])
    return 1 + min(_distance(a[1:], b), _distance(a, b[1:]), _distance(a[1:], b[1:]))


TASKS = (
    Task(
        names=("binary_search", "find_sorted", "bisect_index"),
        words=_ITEMS | {"k": ("target", "wanted", "key")},
        parameters=(*_X, ("k", "int", "")),
        returns="int",
        does=("the index of `$k` in the sorted list `$x`, or -1 when it is missing",),
        bodies={
            "a loop": (
                "",
                """
    low, high = 0, len($x) - 1
    while low <= high:
        middle = (low + high) // 2
        if $x[middle] == $k:
            return middle
        if $x[middle] < $k:
            low = middle + 1
        else:
            high = middle - 1
    return -1
""",
            ),
            "the bisect module": (
                "from bisect import bisect_left",
                """
    place = bisect_left($x, $k)
    return place if place < len($x) and $x[place] == $k else -1
""",
            ),
        },
        cases=exact_cases(
            lambda d: [sorted(set(whole_numbers(d))), d.count(0, 99)],
            lambda xs, k: xs.index(k) if k in xs else -1,
            6,
        ),
        note="Each step halves the part that is left, so it takes O(log n) steps.",
        level=1,
    ),
    Task(
        names=("merge_intervals", "union_of_intervals", "merge_ranges"),
        words={"x": ("intervals", "ranges", "spans")},
        parameters=(("x", "list[list[int]]", ""),),
        returns="list[list[int]]",
        does=("the union of the closed intervals in `$x` as sorted disjoint `[start, end]` lists",),
        bodies={
            "sorting": (
                "",
                """
    merged = []
    for start, end in sorted($x):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
""",
            )
        },
        cases=exact_cases(_pairs, _union),
        note="After sorting, an interval can only overlap the last merged one.",
        level=1,
    ),
    Task(
        names=("topological_order", "run_order", "resolve_jobs"),
        words={"x": ("graph", "jobs", "dependencies")},
        parameters=(("x", "dict[str, list[str]]", ""),),
        returns="list[str]",
        does=("an order of the jobs in `$x` (job to the jobs it needs), smallest free name first",),
        bodies={
            "a heap": (
                "import heapq",
                """
    waiting = {job: len(needs) for job, needs in $x.items()}
    ready = [job for job, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        done = heapq.heappop(ready)
        order.append(done)
        for job, needs in $x.items():
            if done in needs:
                waiting[job] -= 1
                if waiting[job] == 0:
                    heapq.heappush(ready, job)
    if len(order) < len($x):
        raise ValueError("the jobs depend on each other in a circle")
    return order
""",
            )
        },
        cases=exact_cases(_graph, _smallest_first),
        level=2,
    ),
    Task(
        names=("deduplicate", "unique_in_order", "drop_repeats"),
        words=_ITEMS,
        parameters=_X,
        returns="list[int]",
        does=("the items of `$x` without repeats, in order of first appearance",),
        bodies={
            "dict.fromkeys": (
                "",
                """
    return list(dict.fromkeys($x))
""",
            ),
            "a set": (
                "",
                """
    seen = set()
    kept = []
    for item in $x:
        if item not in seen:
            seen.add(item)
            kept.append(item)
    return kept
""",
            ),
        },
        cases=exact_cases(
            lambda d: [whole_numbers(d, 0, 6)], lambda xs: sorted(set(xs), key=xs.index)
        ),
        level=0,
    ),
    Task(
        names=("chunks", "batches", "split_into"),
        words={**_ITEMS, **_K},
        parameters=(*_X, ("k", "int", "")),
        returns="list[list[int]]",
        does=("`$x` cut into lists of `$k` items, the last one possibly shorter",),
        bodies={
            "slices": (
                "",
                """
    return [$x[i : i + $k] for i in range(0, len($x), $k)]
""",
            ),
            "a loop": (
                "",
                """
    parts = []
    for place, item in enumerate($x):
        if place % $k == 0:
            parts.append([])
        parts[-1].append(item)
    return parts
""",
            ),
        },
        cases=exact_cases(
            lambda d: [whole_numbers(d), d.count(2, 4)],
            lambda xs, k: [
                [x for j, x in enumerate(xs) if j // k == i] for i in range(-(-len(xs) // k))
            ],
        ),
        guards=(("$k < 1", "$k must be at least 1", [[1], 0]),),
        level=0,
    ),
    Task(
        names=("is_balanced", "brackets_match", "check_brackets"),
        words={"x": ("text", "expression", "s")},
        parameters=(("x", "str", ""),),
        returns="bool",
        does=("whether the brackets (), [] and {} in `$x` are balanced",),
        bodies={
            "a stack": (
                "",
                """
    pairs = {")": "(", "]": "[", "}": "{"}
    stack = []
    for sign in $x:
        if sign in pairs.values():
            stack.append(sign)
        elif sign in pairs and (not stack or stack.pop() != pairs[sign]):
            return False
    return not stack
""",
            )
        },
        cases=exact_cases(
            lambda d: [
                "".join(
                    d.choice(("()", "[]", "([", "])", "{}", "{", "}")) for _ in range(d.count(2, 5))
                )
            ],
            _closed,
            6,
        ),
        level=1,
    ),
    Task(
        names=("edit_distance", "levenshtein", "typing_distance"),
        words={"x": ("first", "a", "source"), "k": ("second", "b", "target")},
        parameters=(("x", "str", ""), ("k", "str", "")),
        returns="int",
        does=("the Levenshtein distance between `$x` and `$k`",),
        bodies={
            "two rows": (
                "",
                """
    row = list(range(len($k) + 1))
    for i, left in enumerate($x, 1):
        last, row = row, [i]
        for j, right in enumerate($k, 1):
            change = last[j - 1] + (left != right)
            row.append(min(change, last[j] + 1, row[-1] + 1))
    return row[-1]
""",
            )
        },
        cases=exact_cases(
            lambda d: ["".join(d.choice("abc") for _ in range(d.count(2, 6))) for _ in range(2)],
            lambda a, b: _distance(a, b),
        ),
        level=2,
    ),
    Task(
        names=("primes_below", "sieve", "list_primes"),
        words={"k": ("limit", "n", "bound")},
        parameters=(("k", "int", ""),),
        returns="list[int]",
        does=("the primes below `$k`, by a sieve",),
        bodies={
            "a bytearray": (
                "",
                """
    if $k < 3:
        return []
    prime = bytearray([1]) * $k
    prime[0] = prime[1] = 0
    for i in range(2, int($k**0.5) + 1):
        if prime[i]:
            prime[i * i :: i] = bytes(len(range(i * i, $k, i)))
    return [i for i in range($k) if prime[i]]
""",
            )
        },
        cases=exact_cases(
            lambda d: [int(d.number("5", "84"))],
            lambda n: [i for i in range(2, n) if all(i % j for j in range(2, i))],
        ),
        level=1,
    ),
    Task(
        names=("most_common_words", "word_ranking", "top_words"),
        words={"x": ("text", "message"), "k": ("count", "k", "top")},
        parameters=(("x", "str", ""), ("k", "int", "")),
        returns="list[str]",
        does=("the `$k` most frequent words of `$x` in lower case, ties in alphabetical order",),
        bodies={
            "Counter": (
                "from collections import Counter",
                """
    counts = Counter($x.lower().split())
    return sorted(counts, key=lambda word: (-counts[word], word))[:$k]
""",
            )
        },
        cases=exact_cases(
            lambda d: [
                " ".join(
                    d.choice(("Buy", "sell", "hold", "BUY", "risk", "Sell")) for _ in range(8)
                ),
                d.count(1, 3),
            ],
            lambda t, k: sorted(
                set(t.lower().split()),
                key=lambda w: (-collections.Counter(t.lower().split())[w], w),
            )[:k],
        ),
        level=1,
    ),
    Task(
        names=("best_trade", "max_profit", "largest_gain"),
        words={"x": ("prices", "quotes", "closes")},
        parameters=_X,
        returns="int",
        does=("the largest gain from buying once and selling later in `$x`, or 0",),
        bodies={
            "one pass": (
                "",
                """
    lowest, best = float("inf"), 0
    for price in $x:
        lowest = min(lowest, price)
        best = max(best, price - lowest)
    return best
""",
            )
        },
        cases=exact_cases(
            lambda d: [whole_numbers(d, 10, 60)],
            lambda xs: max(0, max(b - a for i, a in enumerate(xs) for b in xs[i:])),
        ),
        level=1,
    ),
)


def code_algorithms(draw: Draw) -> Conversation:
    """A request for a general function."""
    return code_answer("code_algorithms", draw, TASKS)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {"code_algorithms": code_algorithms}
