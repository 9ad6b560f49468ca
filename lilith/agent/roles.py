"""Roles of an agent: what each knows, how it works, and how freely it may write."""

from __future__ import annotations

import re
from types import MappingProxyType

from lilith.config import UserError, nearest
from lilith.roles import SYSTEM_PROMPTS

# From the most certain to the freest words that a kind of work bears.
TEMPERATURES = MappingProxyType({"quant": (0.1, 0.3), "code": (0.3, 0.5), "planning": (0.5, 0.7)})
_HOME = {
    "quant_dev": "quant",
    "project_manager": "planning",
    "10x_engineer": "code",
    "hybrid_quant_pm": "quant",
}
_WORDS = {
    "code": r"code|coding|python|numpy|functions?|script|program|bugs?|debug\w*|refactor\w*"
    r"|unit tests?|pytest|traceback|compil\w+|implement\w*|review(?:s|ed|ing)?|api|snippet",
    "planning": r"plan(?:s|ned|ning)?|project|roadmap|milestones?|sprints?|deadline|schedule"
    r"|timeline|gantt|critical path|stakeholders?|migrat\w+|engineers?|teams?|backlog|estimates?"
    r"|tasks?|kick-?off|rollout|man-days|person-days|risk (?:matrix|register)",
    "quant": r"options?|calls?|puts?|strike|spot|volatility|vol|greeks?|delta|gamma|vega|theta"
    r"|black[- ]scholes|pric(?:e|ing)|portfolio|sharpe|sortino|drawdown|backtest\w*|returns?|var"
    r"|frontier|correlation|variance|mean|median|deviation|percentiles?|monte[- ]carlo|hedg\w+"
    r"|market[- ]mak\w+|bonds?|yield|rate|interest|calculate|compute|how much|how many",
}
_PATTERNS = {
    kind: re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) for kind, words in _WORDS.items()
}
_ASKED_FOR = {
    "planning": re.compile(r"(?:re-?)?plan|schedule|organi[sz]e|migrate", re.IGNORECASE),
    "code": re.compile(r"implement|review|refactor|debug|fix", re.IGNORECASE),
}
_POLITE = re.compile(
    r"\s*(?:(?:please|now|then|and|can you|could you|help me|let us|let's|to)[\s,]+)*",
    re.IGNORECASE,
)
_SOURCE = re.compile(r"```|^\s*(?:def|class) \w+", re.MULTILINE)
_LOOKED_AT = 4000  # characters of a message
_MOST_OF_A_WORD = 3  # times that one word counts


def system_prompt(role: str) -> str:
    """The system prompt of a role.

    Raises:
      UserError: there is no such role; the nearest is named.
    """
    if not isinstance(role, str) or role not in SYSTEM_PROMPTS:
        close = nearest(role, SYSTEM_PROMPTS) if isinstance(role, str) else ""
        raise UserError(
            f"there is no role {str(role)[:60]!r}{close}; roles: {', '.join(SYSTEM_PROMPTS)}"
        )
    return SYSTEM_PROMPTS[role]


def kind_of_work(message: str, role: str | None = None) -> str:
    """What a message asks for: "quant", "code" or "planning".

    Source code makes it "code". Else it is the kind of which most words stand in it (one word
    counts three times at most, a verb that the message begins with as three). A tie, or no such
    word at all, goes to the role's own kind of work, and without a role to "quant", which is the
    most careful.
    """
    message = message[:_LOOKED_AT]
    if _SOURCE.search(message):
        return "code"
    home = _HOME.get(role or "", "quant")
    found = {kind: _count(pattern, message) for kind, pattern in _PATTERNS.items()}
    start = _POLITE.match(message)
    first = message[start.end() if start else 0 :].split(None, 1)[:1]
    for kind, verb in _ASKED_FOR.items():
        if first and verb.fullmatch(first[0].strip(",.:")):
            found[kind] += _MOST_OF_A_WORD - 1
    most = max(found.values())
    return home if found[home] == most else max(found, key=lambda kind: found[kind])


def temperature_for(kind: str) -> float:
    """The temperature of a kind of work: the middle of its range in :data:`TEMPERATURES`."""
    low, high = TEMPERATURES[kind]
    return round((low + high) / 2, 3)


def _count(pattern: re.Pattern[str], text: str) -> int:
    words: dict[str, int] = {}
    for found in pattern.finditer(text):
        word = found.group().lower()
        words[word] = words.get(word, 0) + 1
    return sum(min(count, _MOST_OF_A_WORD) for count in words.values())
