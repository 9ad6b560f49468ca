"""The table of generators, and the mixture that is drawn from them."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import importlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from lilith.config import ConfigError, UserError, nearest
from lilith.data.instructions.drawing import DOMAINS, Conversation, Draw

Generator = Callable[[Draw], Conversation]
# Each module has GENERATORS: {kind: function}; all its kinds are of one domain.
MODULES = {
    "code_algorithms": "code",
    "code_bonds": "code",
    "code_performance": "code",
    "code_portfolios": "code",
    "code_pricers": "code",
    "code_reading": "code",
    "code_series": "code",
    "review": "code",
    "quant_options": "quant",
    "quant_exotics": "quant",
    "quant_portfolios": "quant",
    "quant_returns": "quant",
    "quant_dialogues": "quant",
    "quant_sessions": "quant",
    "quant_explained": "quant",
    "agent_choice": "quant",
    "planning_schedule": "planning",
    "planning_agile": "planning",
    "planning_choices": "planning",
    "planning_calls": "planning",
    "arithmetic": "general",
    "arithmetic_tools": "general",
    "agent_calls": "general",
    "refusals": "general",
    "small_talk": "general",
}
DOMAIN_WEIGHTS = {"code": 60.0, "quant": 20.0, "planning": 10.0, "general": 10.0}
KIND_WEIGHTS = {"quant_concept": 0.2}  # of kinds with few prompts; the others weigh 1
MOST_REPEATS = 100  # in a row, of prompts that were there before, until a kind is exhausted


@dataclass(frozen=True)
class Kind:
    """One generator: its name, its domain and its function."""

    name: str
    domain: str
    function: Generator


@functools.cache
def kinds() -> dict[str, Kind]:
    """Every generator by name; their modules are imported on the first call."""
    found: dict[str, Kind] = {}
    for module, domain in MODULES.items():
        generators = importlib.import_module(f"lilith.data.instructions.{module}").GENERATORS
        for name, function in generators.items():
            if name in found:
                raise ValueError(f"two generators are called {name!r}")
            found[name] = Kind(name, domain, function)
    return found


def make(
    name: str, seed: int, index: int, *, held_out: bool = False, known_words: bool = False
) -> Conversation:
    """Conversation ``index`` of one kind, its metadata complete.

    Args:
      held_out, known_words: as :class:`lilith.data.instructions.drawing.Draw` takes them.

    Raises:
      ConfigError: there is no such kind.
    """
    if name not in kinds():
        raise ConfigError(f"there is no kind {name!r}{nearest(name, kinds())}")
    kind = kinds()[name]
    record = kind.function(Draw(seed, name, index, held_out=held_out, known_words=known_words))
    if record["metadata"]["domain"] != kind.domain:
        raise ValueError(f"{name} is of domain {kind.domain} and says otherwise")
    split = "held_out" if held_out else "train"
    record["metadata"] |= {"kind": name, "split": split, "seed": seed, "index": index}
    return record


def user_prompt(record: Conversation) -> str:
    """What the user first says: what tells records apart."""
    return next(m["content"] for m in record["messages"] if m["role"] == "user")


def prompt_digest(record: Conversation) -> bytes:
    """A short hash of the prompt, white space and case aside."""
    normal = " ".join(user_prompt(record).lower().split())
    return hashlib.blake2b(normal.encode(), digest_size=12).digest()


@dataclass
class Tally:
    """What was counted while records were drawn.

    Attributes:
      repeats: records redrawn because their prompt was there before, by kind.
      exhausted: kinds that had no more prompts, and how many they had given.
    """

    repeats: Counter[str] = field(default_factory=Counter)
    exhausted: dict[str, int] = field(default_factory=dict)


def generate(
    count: int,
    *,
    seed: int = 0,
    held_out: bool = False,
    domains: Mapping[str, float] | None = None,
    kind_weights: Mapping[str, float] | None = None,
    seen: set[bytes] | None = None,
    tally: Tally | None = None,
) -> Iterator[Conversation]:
    """Draw ``count`` conversations, mixed by weight, no two with the same prompt.

    The counts are exact to one record for each domain and each kind, in an order that the seed
    shuffles. A record whose prompt is already in ``seen`` is redrawn with the kind's next index; a
    kind that repeats itself :data:`MOST_REPEATS` times in a row gives its place to the others of
    its domain. The same arguments give the same records.

    Args:
      domains: weights by domain, by default :data:`DOMAIN_WEIGHTS`; those left out weigh 0.
      kind_weights: weights within the domain that differ from :data:`KIND_WEIGHTS` and 1; a name
        may be a pattern such as ``plan_*``.
      seen: digests of prompts to avoid; those drawn are added.
      tally: filled with what was redrawn.

    Raises:
      ConfigError: an unknown domain or kind, a negative weight or count, or weights that add to 0.
      UserError: a domain has no more prompts.
    """
    weights = checked_weights(count, domains, kind_weights)
    seen = set() if seen is None else seen
    tally = Tally() if tally is None else tally
    plan = [
        name
        for name, share in _shares(count, weights).items()
        for _ in range(share)
    ]  # fmt: skip
    random.Random(f"{seed}/order/{held_out}").shuffle(plan)
    return _drawn(plan, weights, seed, held_out, seen, tally)


def checked_weights(
    count: int,
    domains: Mapping[str, float] | None = None,
    kind_weights: Mapping[str, float] | None = None,
) -> dict[str, Fraction]:
    """The share of each kind that has one; they add to 1.

    Raises:
      ConfigError: see :func:`generate`.
    """
    domains = DOMAIN_WEIGHTS if domains is None else domains
    own = _expanded(kind_weights or {})
    _check(count, domains, own)
    total = sum(map(Fraction, domains.values()))
    found: dict[str, Fraction] = {}
    for domain, weight in domains.items():
        within = {
            name: Fraction(own.get(name, KIND_WEIGHTS.get(name, 1.0)))
            for name, kind in kinds().items()
            if kind.domain == domain
        }
        if weight and not sum(within.values()):
            raise ConfigError(
                f"domain {domain} has weight {weight:g}, and the weights of its kinds add to 0; "
                f"set domains.{domain}=0 or give a kind of it a weight"
            )
        for name, part in within.items():
            if weight and part:
                found[name] = Fraction(weight) / total * part / sum(within.values())
    return found


def _expanded(given: Mapping[str, float]) -> dict[str, float]:
    """The weights by kind; a name with a ``*`` stands for all that it matches, the last one wins.

    Raises:
      ConfigError: a pattern matches no kind.
    """
    found: dict[str, float] = {}
    for name, weight in given.items():
        names = fnmatch.filter(kinds(), name) if "*" in name else [name]
        if not names:
            raise ConfigError(f"no kind matches {name!r}; known: {', '.join(kinds())}")
        found |= dict.fromkeys(names, weight)
    return found


def _check(count: int, domains: Mapping[str, float], own: Mapping[str, float]) -> None:
    if count < 0:
        raise ConfigError(f"count is {count}; give 0 or more conversations")
    for what, given, known in (("domain", domains, DOMAINS), ("kind", own, kinds())):
        for name, weight in given.items():
            if name not in known:
                raise ConfigError(
                    f"there is no {what} {name!r}{nearest(name, known)}; known: {', '.join(known)}"
                )
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"the weight of {what} {name} is {weight:g}; give 0 or more")
    if not sum(domains.values()):
        raise ConfigError("the weights of the domains add to 0; give one of them more")


def _shares(count: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers that add to ``count``: by domain, then by kind, largest remainders first."""
    by_domain: dict[str, Fraction] = {}
    for name, weight in weights.items():
        domain = kinds()[name].domain
        by_domain[domain] = by_domain.get(domain, Fraction(0)) + weight
    shares: dict[str, int] = {}
    for domain, share in _rounded(count, by_domain).items():
        mine = {name: w for name, w in weights.items() if kinds()[name].domain == domain}
        shares |= _rounded(share, mine)
    return shares


def _rounded(count: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: count - sum(shares.values())]:
        shares[name] += 1
    return shares


def _drawn(
    plan: list[str],
    weights: Mapping[str, Fraction],
    seed: int,
    held_out: bool,
    seen: set[bytes],
    tally: Tally,
) -> Iterator[Conversation]:
    following: Counter[str] = Counter()  # the next index of each kind
    given: Counter[str] = Counter()
    for name in plan:
        record = None
        while record is None:
            if name in tally.exhausted:
                name = _stand_in(name, weights, tally)
            record = _first_unseen(name, seed, held_out, following, seen, tally)
            if record is None:
                tally.exhausted[name] = given[name]
        given[name] += 1
        yield record


def _first_unseen(
    name: str,
    seed: int,
    held_out: bool,
    following: Counter[str],
    seen: set[bytes],
    tally: Tally,
) -> Conversation | None:
    """The kind's next conversation with a prompt of its own, or None where it has no more."""
    for _ in range(MOST_REPEATS):
        record = make(name, seed, following[name], held_out=held_out)
        following[name] += 1
        digest = prompt_digest(record)
        if digest not in seen:
            seen.add(digest)
            return record
        tally.repeats[name] += 1
    return None


def _stand_in(name: str, weights: Mapping[str, Fraction], tally: Tally) -> str:
    """Another kind of the domain that still has prompts: the next in the table, around its end."""
    domain = kinds()[name].domain
    table = [other for other in weights if kinds()[other].domain == domain]
    at = table.index(name)
    for other in table[at + 1 :] + table[:at]:
        if other not in tally.exhausted:
            return other
    raise UserError(
        f"domain {domain} has no more prompts that were not there before; lower count or "
        f"domains.{domain}, or give weight to more of its kinds"
    )
