"""How people write the numbers of an option, read back by a parser of the test's own."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from lilith.data.instructions import quant_words
from lilith.data.instructions.drawing import Draw
from lilith.data.instructions.quant_portfolios import written
from lilith.data.instructions.quant_talk import Talk, tool_call
from lilith.data.instructions.registry import make, user_prompt

SEED = 11

WORDS = {
    "3 months": 0.25, "three months": 0.25, "a quarter of a year": 0.25, "6 months": 0.5,
    "six months": 0.5, "half a year": 0.5, "6m": 0.5, "9 months": 0.75, "nine months": 0.75,
    "12 months": 1, "one year": 1, "a year": 1, "18 months": 1.5, "a year and a half": 1.5,
    "24 months": 2, "two years": 2,
}  # fmt: skip


def read_time(text: str) -> float:
    days = re.fullmatch(r"(\d+) days of a (\d+)-day year", text)
    if days:
        return int(days[1]) / int(days[2])
    if text in WORDS:
        return WORDS[text]
    number = re.fullmatch(r"([\d.]+) ?(?:years?|yr|y)", text)
    assert number, text
    return float(number[1])


def read_percent(text: str) -> float:
    number = re.fullmatch(r"([\d.]+)(%| percent)?", text)
    assert number, text
    return float(number[1]) / (100 if number[2] else 1)


def read_money(text: str) -> float:
    number = re.fullmatch(r"[$€£]?([\d.,]+)(?: dollars)?", text)
    assert number, text
    return float(number[1].replace(",", ""))


def test_what_people_write_is_what_the_tool_gets() -> None:
    forms: set[str] = set()
    for index in range(400):
        draw = Draw(SEED, "formats", index, held_out=index % 2 == 1)
        contract = quant_words.draw_contract(draw, draw.difficulty())
        slots, given = contract.slots(draw), contract.arguments()
        assert read_time(slots["time"]) == pytest.approx(given["time"], rel=1e-12)
        assert float(slots["years"]) == given["time"]
        assert float(slots["points"]) == pytest.approx(100 * given["volatility"], rel=1e-12)
        for slot, name in (("rate", "rate"), ("vol", "volatility")):
            assert read_percent(slots[slot]) == pytest.approx(given[name], rel=1e-12)
        for slot, name in (("spot", "spot"), ("strike", "strike"), ("s", "spot"), ("k", "strike")):
            assert read_money(slots[slot]) == given[name]
        if "dividend" in given:
            stated = read_percent(slots["yield"])
            assert stated == pytest.approx(given["dividend"], rel=1e-12)
        forms |= {re.sub(r"\d+", "N", slots[slot]) for slot in ("time", "vol", "spot")}
    assert {
        "N months", "half a year", "N.Nyr", "N days of a N-day year", "N%", "N.N", "N percent",
        "$N", "N", "N,N", "N dollars", "N.N years",
    } <= forms  # fmt: skip


def test_lists_are_written_as_fractions_or_percent() -> None:
    series = [Decimal("1.2"), Decimal("-0.4"), Decimal("3")]
    assert written(series, True) == "1.2%, -0.4%, 3%"
    assert written(series, False) == "0.012, -0.004, 0.03"


def test_a_risk_free_rate_is_the_stated_one() -> None:
    count = 0
    for index in range(20):
        record = make("quant_backtest_metrics", SEED, index)
        given = record["metadata"]["check"]["tool_calls"][0]["arguments"].get("risk_free_rate")
        if given is not None:
            forms = (f"{100 * given:g}%", f"{100 * given:g} percent", f"{given:g}")
            assert any(form in user_prompt(record) for form in forms)
            assert given < 0.1
            count += 1
    assert count > 5


def test_a_spread_buys_one_strike_and_sells_another() -> None:
    for index in range(10):
        record = make("quant_spread", SEED, index)
        bought, sold = (c["arguments"] for c in record["metadata"]["check"]["tool_calls"])
        assert (bought["strike"] < sold["strike"]) == (bought["option_type"] == "call")
        assert {**bought, "strike": 0} == {**sold, "strike": 0}
        said = user_prompt(record).replace(",", "")
        assert f"{bought['strike']}" in said
        assert f"{sold['strike']}" in said


def test_a_call_that_ends_otherwise_than_expected_is_a_fault() -> None:
    talk = Talk(Draw(SEED, "fault", 0), "fault")
    wrong = tool_call("black_scholes", spot=-1, strike=1, time=1, rate=0, volatility=0.2)
    with pytest.raises(ValueError, match="ended in"):
        talk.call(wrong)
    with pytest.raises(ValueError, match="ended in"):
        talk.compute(wrong)
