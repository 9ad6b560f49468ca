"""The mixture of generated conversations, the tool prompts of the evaluation, tools as text."""

from __future__ import annotations

import json
import pathlib
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from lilith import quant
from lilith.config import ConfigError, UserError
from lilith.data.instructions import registry, tool_text
from lilith.data.instructions.drawing import DOMAINS, Conversation, Draw
from lilith.data.instructions.registry import (
    Kind,
    Tally,
    checked_weights,
    generate,
    make,
    prompt_digest,
    user_prompt,
)
from lilith.data.instructions.tool_prompts import CALL_KINDS, same_call, tool_call_prompts

QUANT_ONLY = {"quant": 1.0}
# Cheap kinds, for tests of the mixture.
CHEAP = ("quant_price_european", "quant_greeks", "quant_parity", "quant_concept")


def plain_kind(name: str, domain: str, prompts: int) -> Callable[[Draw], Conversation]:
    """A generator with so many different prompts."""

    def function(draw: Draw) -> Conversation:
        text = f"{name} {draw.count(1, prompts)} {draw.held_out}"
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]
        facts = {"domain": domain, "difficulty": "easy", "requires_tools": False, "check": {}}
        return {"messages": messages, "metadata": facts}

    return function


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kind]:
    """Two kinds a domain, one of which has three prompts only."""
    table = {}
    for domain in DOMAINS:
        for name, prompts in ((f"{domain}_many", 10**9), (f"{domain}_few", 3)):
            table[name] = Kind(name, domain, plain_kind(name, domain, prompts))
    monkeypatch.setattr(registry, "kinds", lambda: table)
    return table


def test_the_default_mix_is_that_of_a_quant_assistant(small_table: dict[str, Kind]) -> None:
    records = list(generate(1000, kind_weights={f"{d}_few": 0 for d in DOMAINS}))
    found = Counter(record["metadata"]["domain"] for record in records)
    assert found == {"code": 600, "quant": 200, "planning": 100, "general": 100}
    first = [record["metadata"]["domain"] for record in records[:50]]
    assert len(set(first)) >= 3  # shuffled, not one domain after the other


def test_weights_of_domains_and_kinds_are_exact_to_one_record(small_table: dict[str, Kind]) -> None:
    weights = {"quant_many": 5.0, "quant_few": 0.1}
    records = list(generate(103, domains={"quant": 3, "code": 1}, kind_weights=weights))
    kinds = Counter(record["metadata"]["kind"] for record in records)
    assert len(records) == 103
    assert kinds["quant_many"] + kinds["quant_few"] == 77
    assert kinds["quant_few"] in (1, 2)


def test_a_kind_without_more_prompts_gives_its_places_away(small_table: dict[str, Kind]) -> None:
    tally = Tally()
    records = list(generate(100, domains={"quant": 1}, tally=tally))
    assert len({prompt_digest(record) for record in records}) == 100
    assert tally.exhausted == {"quant_few": 3}
    assert tally.repeats["quant_few"] >= registry.MOST_REPEATS
    with pytest.raises(UserError, match="domain quant has no more prompts"):
        list(generate(10, domains={"quant": 1}, kind_weights={"quant_many": 0}))


def test_prompts_that_were_seen_are_redrawn(small_table: dict[str, Kind]) -> None:
    seen: set[bytes] = set()
    first = list(generate(20, domains={"code": 1}, seen=seen))
    again = list(generate(20, domains={"code": 1}, seen=seen))
    assert not {user_prompt(r) for r in first} & {user_prompt(r) for r in again}


def test_prompts_that_differ_in_case_or_space_only_are_the_same() -> None:
    def digest(text: str) -> bytes:
        return prompt_digest({"messages": [{"role": "user", "content": text}], "metadata": {}})

    assert digest("What is  delta?\n") == digest("what is delta?")
    assert digest("What is delta?") != digest("What is gamma?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count is -1; give 0 or more"),
        ({"count": 1, "domains": {"quanti": 1}}, r"no domain 'quanti' \(did you mean 'quant'"),
        ({"count": 1, "domains": {"quant": 0, "code": 0}}, "add to 0"),
        ({"count": 1, "domains": {"quant": -2}}, "the weight of domain quant is -2"),
        ({"count": 1, "domains": {"quant": float("nan")}}, "the weight of domain quant is nan"),
        ({"count": 1, "kind_weights": {"quant_frontir": 1}}, "did you mean 'quant_frontier'"),
        ({"count": 1, "kind_weights": {"quant_frontier": -1}}, "quant_frontier is -1"),
    ],
)
def test_wrong_mixtures_are_refused_in_words(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(**arguments)


def test_a_domain_whose_kinds_weigh_nothing_is_refused() -> None:
    none = {name: 0.0 for name, kind in registry.kinds().items() if kind.domain == "quant"}
    with pytest.raises(ConfigError, match=r"domain quant has weight 1.*domains\.quant=0"):
        checked_weights(5, QUANT_ONLY, none)


def test_the_same_arguments_give_the_same_records_in_any_order() -> None:
    only = {name: 0.0 for name, kind in registry.kinds().items() if name not in CHEAP}
    ask = {"domains": QUANT_ONLY, "kind_weights": only}
    first = [json.dumps(record) for record in generate(30, seed=4, **ask)]
    list(generate(7, seed=5, held_out=True, **ask))
    assert [json.dumps(record) for record in generate(30, seed=4, **ask)] == first
    assert [json.dumps(record) for record in generate(30, seed=5, **ask)] != first


def test_make_knows_its_kinds() -> None:
    with pytest.raises(ConfigError, match="did you mean 'quant_greeks'"):
        make("quant_greek", 0, 0)


def test_every_module_is_in_the_table() -> None:
    folder = pathlib.Path(registry.__file__).parent
    modules = {
        path.stem
        for path in folder.glob("*.py")
        if re.search(r"^GENERATORS\b", path.read_text(encoding="utf-8"), re.M)
    }
    assert modules == set(registry.MODULES)
    assert {kind.domain for kind in registry.kinds().values()} == set(DOMAINS)
    assert set(registry.KIND_WEIGHTS) <= set(registry.kinds())


def test_the_other_domains_give_whole_records() -> None:
    mix = {"code": 2, "planning": 1, "general": 1}
    seen: set[bytes] = set()
    for held_out in (False, True):
        records = list(generate(60, domains=mix, held_out=held_out, seen=seen))
        assert Counter(r["metadata"]["domain"] for r in records) == {
            "code": 30, "planning": 15, "general": 15,
        }  # fmt: skip
        for record in records:
            facts = record["metadata"]
            assert facts["difficulty"] in ("easy", "medium", "hard")
            assert facts["split"] == ("held_out" if held_out else "train")
            assert record["messages"][-1]["role"] == "assistant"
            assert record["messages"][-1]["content"].strip()
            assert facts["check"]
            assert json.loads(json.dumps(record)) == record


# ------------------------------------------------------------------------------ tool prompts


def test_tool_prompts_ask_in_held_out_words_and_say_the_call() -> None:
    # The seed of the other module's records, whose programs are compiled there.
    prompts = tool_call_prompts(11, len(CALL_KINDS) + 2)
    once = dict.fromkeys(CALL_KINDS, 1)
    assert Counter(p.kind for p in prompts) == once | dict.fromkeys(CALL_KINDS[:2], 2)
    assert len({prompt.messages[1]["content"] for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert [message["role"] for message in prompt.messages] == ["system", "user"]
        name, arguments = prompt.expected["name"], prompt.expected["arguments"]
        assert f"- {name}(" in prompt.messages[0]["content"]
        assert quant.tools()[name](**arguments)["ok"]
        record = make(prompt.kind, 11, prompt.index, held_out=True)
        assert record["messages"][:2] == prompt.messages
        assert same_call(prompt.expected, json.loads(json.dumps(prompt.expected)))
    assert tool_call_prompts(11, 5) == prompts[:5]
    assert tool_call_prompts(4, 2) != prompts[:2]
    assert tool_call_prompts(11, 0) == []
    with pytest.raises(ConfigError, match="count is -1"):
        tool_call_prompts(3, -1)


BASE: dict[str, Any] = {
    "name": "black_scholes",
    "arguments": {
        "spot": 100, "strike": 105, "time": 0.5, "rate": 0.05, "volatility": 0.2,
        "option_type": "call",
    },
}  # fmt: skip


def changed(**arguments: Any) -> dict[str, Any]:
    """The base call with these arguments changed; those that are None are taken away."""
    merged = {**BASE["arguments"], **arguments}
    kept = {key: value for key, value in merged.items() if value is not None}
    return {"name": "black_scholes", "arguments": kept}


@pytest.mark.parametrize(
    "given",
    [
        changed(spot=100.0),
        changed(rate=0.05 * (1 + 5e-10)),
        changed(option_type=None),  # its default
        changed(dividend=0),
        changed(dividend=0.0, option_type=None),
        {"arguments": dict(reversed(BASE["arguments"].items())), "name": "black_scholes"},
    ],
)
def test_calls_that_are_the_same(given: dict[str, Any]) -> None:
    assert same_call(BASE, given)
    assert same_call(given, BASE)


@pytest.mark.parametrize(
    "given",
    [
        changed(spot=100.0001),
        changed(rate=0.05 * (1 + 5e-9)),
        changed(strike=None),
        changed(option_type="put"),
        changed(dividend=0.01),
        changed(sigma=0.2),
        changed(spot="100"),
        changed(spot=True),
        changed(spot=float("nan")),
        changed(spot=10**400),
        {**BASE, "name": "american_option"},
        {**BASE, "id": 1},
        {"name": "black_scholes"},
        {"name": "black_scholes", "arguments": [100, 105]},
        {"name": ["black_scholes"], "arguments": {}},
        "black_scholes(100, 105)",
        None,
    ],
)
def test_calls_that_are_not_the_same(given: Any) -> None:
    assert not same_call(BASE, given)


def test_true_is_not_the_number_one() -> None:
    assert same_call(changed(time=1), changed(time=1.0))
    assert not same_call(changed(time=1), changed(time=True))


def test_lists_and_tables_are_compared_entry_by_entry() -> None:
    table = {"A": [0.01, -0.02], "B": [0, 0.03]}
    expected: dict[str, Any] = {
        "name": "portfolio_optimize",
        "arguments": {"returns": table, "method": "min_variance", "periods_per_year": 12},
    }

    def given(**arguments: Any) -> dict[str, Any]:
        return {"name": "portfolio_optimize", "arguments": {**expected["arguments"], **arguments}}

    assert same_call(expected, given(returns={"B": [0.0, 0.03], "A": [0.01, -0.02]}))
    assert same_call(expected, given(periods_per_year=12.0, bounds=[0.0, 1.0]))
    assert not same_call(expected, given(returns={"A": [0.01, -0.02]}))
    assert not same_call(expected, given(returns={"A": [0.01], "B": [0, 0.03]}))
    assert not same_call(expected, given(returns={"A": [-0.02, 0.01], "B": [0, 0.03]}))
    assert not same_call(expected, given(method="max_sharpe"))


# ------------------------------------------------------------------------------ tools as text


def test_signatures_are_those_of_the_declared_parameters() -> None:
    tools = quant.tools()
    assert tool_text.signature(tools["black_scholes"]) == (
        "black_scholes(spot, strike, time, rate, volatility, dividend=0, option_type=call|put)"
    )
    assert tool_text.signature(tools["barrier_option"]) == (
        "barrier_option(spot, strike, barrier, time, rate, volatility, "
        "barrier_type:down-out|down-in|up-out|up-in, dividend=0, rebate=0, option_type=call|put)"
    )
    assert tool_text.signature(tools["portfolio_optimize"]) == (
        "portfolio_optimize(returns?, method=max_sharpe|min_variance|target_return|utility|"
        "risk_parity|..., risk_free_rate=0, periods_per_year=252, target_return?, ...)"
    )
    assert tool_text.signature(tools["stats_summary"]).startswith("stats_summary(data, ddof=1,")
    for name, tool in tools.items():
        line = tool_text.signature(tool)
        assert "\n" not in line
        assert line.endswith(", ...)") == (
            name in tool_text.SHOWN and len(tool_text.SHOWN[name]) < len(tool.parameters)
        )
    for name, shown in tool_text.SHOWN.items():
        assert set(shown) <= {own.name for own in tools[name].parameters}


def test_the_system_message_lists_the_tools() -> None:
    tools = [quant.tools()[name] for name in ("backtest", "black_scholes")]
    text = tool_text.system_message(tools, lambda headings: headings[0])
    assert text.startswith(tool_text.HEADINGS[0] + "\n- backtest(")
    assert re.findall(r"^- (\w+)", text, re.M) == ["backtest", "black_scholes"]
    assert "<tool_call>" in text


def test_brief_answers_hold_what_matters() -> None:
    answer = quant.black_scholes(100, 105, 0.5, 0.05, 0.2)
    shown = json.loads(tool_text.brief(answer))
    assert list(shown["result"]) == ["price", "delta", "gamma", "theta", "vega", "rho"]
    assert shown["result"]["price"] == 4.58168
    assert "warnings" not in shown
    assert ", " not in tool_text.brief(answer)
    refused = quant.black_scholes(-100, 105, 0.5, 0.05, 0.2)
    assert json.loads(tool_text.brief(refused)) == refused
    scaled = quant.black_scholes(100, 105, 0.5, 5, 0.2)
    assert json.loads(tool_text.brief(scaled))["warnings"] == scaled["warnings"] != []


def test_brief_answers_cut_lists_and_leave_tables_out() -> None:
    result = {"long": [0.123456789] * 11, "table": [[1.0, 2.0]], "whole": 49.0, "none": None,
              "nested": {"vanna": 1.0, "delta": -0.0000123456789}, "flag": True}  # fmt: skip
    warnings = ["result.adf is null: no", "the Cornish-Fisher expansion is not monotone", "look"]
    shown = tool_text.brief_answer({"ok": True, "result": result, "warnings": warnings})
    assert shown == {
        "ok": True,
        "result": {
            "long": [0.123457] * 8 + ["3 more"], "whole": 49, "none": None,
            "nested": {"delta": -1.23457e-05}, "flag": True,
        },
        "warnings": ["look"],
    }  # fmt: skip


def test_statistics_read_the_same_with_statsmodels_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]
    with_it = tool_text.brief(quant.stats_summary(data))
    monkeypatch.setitem(__import__("sys").modules, "statsmodels.tsa.stattools", None)
    without = quant.stats_summary(data)
    assert without["result"]["adf"] is None
    assert tool_text.brief(without) == with_it


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100", 100),
        ("100.00", 100),
        ("0.05", 0.05),
        ("1E+2", 100),
        ("0.3", 0.3),
        ("-0.012", -0.012),
    ],
)
def test_decimals_become_the_shortest_numbers(text: str, number: float) -> None:
    found = tool_text.exact(Decimal(text))
    assert (found, type(found)) == (number, type(number))
