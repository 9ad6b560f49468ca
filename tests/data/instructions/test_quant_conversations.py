"""Quant conversations: every figure recomputed, every call valid, the splits kept apart."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from drawn_records import Watched
from scipy.stats import norm

from lilith.data.instructions import quant_clauses, quant_exotics, quant_words
from lilith.data.instructions.drawing import HELD_OUT_BANDS, HELD_OUT_EVERY, Draw
from lilith.data.instructions.registry import kinds, make, user_prompt
from lilith.data.instructions.tool_text import brief
from lilith.quant import tools

# Those in the agent's words, such as agent_choice, are tested in test_agent_calls.
QUANT = sorted(
    name for name, kind in kinds().items() if kind.domain == "quant" and name.startswith("quant_")
)
EACH = 9  # records of a kind and split
# Of those that compile a program for each of their variants.
FEW = {
    "quant_american": 3, "quant_asian": 2, "quant_barrier": 1, "quant_monte_carlo": 2,
    "quant_portfolio": 2, "quant_session": 3,
}  # fmt: skip
SEED = 11
# Numbers that a text may hold without having them from a tool or the user: shares of a contract,
# the sizes of the samples, confidence levels, and the numbering of steps and of d1 and d2.
PLAIN_NUMBERS = {"1", "2", "3", "4", "5", "6", "95", "100", "1.00", "²"}
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    return [
        make(name, SEED, index, held_out=held_out)
        for name, held_out in itertools.product(QUANT, (False, True))
        for index in range(FEW.get(name, EACH))
    ]


def results(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of the calls that a record's figures are from, computed again."""
    answers = [
        tools()[one["name"]](**one["arguments"])
        for one in record["metadata"]["check"]["computed_by"]
    ]
    return [answer.get("result", {}) for answer in answers]


def figure(result: Any, path: list[Any]) -> float:
    for key in path:
        result = result[key]
    return float(result)


def parsed(text: str) -> tuple[float, float]:
    """The number of a quoted text, and half a unit of its last digit."""
    digits = re.sub(r"[^\d.-]", "", text)
    unit = 10.0 ** -len(digits.partition(".")[2])
    share = 100 if text.endswith("%") else 1
    return float(digits) / share, unit / 2 / share


def texts(record: dict[str, Any], role: str) -> str:
    return "\n".join(m["content"] for m in record["messages"] if m["role"] == role)


def test_there_are_generators_of_every_quant_task(records: list[dict[str, Any]]) -> None:
    assert len(QUANT) == 22
    assert len(records) >= 300
    called = {
        call["name"] for record in records for call in record["metadata"]["check"]["tool_calls"]
    }
    assert called == {
        "black_scholes", "implied_volatility", "american_option", "barrier_option",
        "asian_option", "monte_carlo_option", "portfolio_optimize", "efficient_frontier",
        "backtest_metrics", "backtest", "stats_summary",
    }  # fmt: skip


def test_metadata_says_what_a_record_is(records: list[dict[str, Any]]) -> None:
    for record in records:
        facts = record["metadata"]
        assert facts["domain"] == "quant"
        assert facts["difficulty"] in ("easy", "medium", "hard")
        assert facts["split"] in ("train", "held_out")
        assert facts["seed"] == SEED
        assert facts["requires_tools"] == bool(facts["check"]["tool_calls"])
        assert json.loads(json.dumps(record)) == record


def test_roles_follow_each_other(records: list[dict[str, Any]]) -> None:
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        body = roles[1:] if roles[0] == "system" else roles
        assert body[0] == "user"
        assert body[-1] == "assistant"
        assert record["messages"][-1]["content"]
        for message, following in itertools.pairwise(record["messages"]):
            calls = len(message.get("tool_calls", ()))
            if calls or following["role"] == "tool":
                assert following["role"] == "tool"
                assert calls or message["role"] == "tool"


def test_every_quoted_figure_is_what_the_tools_compute(records: list[dict[str, Any]]) -> None:
    count = 0
    for record in records:
        check, found = record["metadata"]["check"], results(record)
        for entry in check["quoted"]:
            value = figure(found[entry["call"]], entry["path"])
            slack = 0.0
            if "less" in entry:
                value -= figure(found[entry["less"]], entry["path"])
                slack = 0.0101  # both were rounded to the cent
            if "shown" in entry:
                value = round(value, entry["shown"])
            value *= entry["scale"]
            said, half = parsed(entry["text"])
            assert abs(said - value) <= half * 1.001 + slack + 1e-5 * abs(value), (record, entry)
            written_texts = texts(record, "assistant") + texts(record, "user")
            assert entry["text"] in written_texts
            count += 1
    assert count > 3 * len(records)


def test_every_number_in_an_answer_comes_from_a_tool_or_the_user(
    records: list[dict[str, Any]],
) -> None:
    for record in records:
        check = record["metadata"]["check"]
        known = {number for e in check["quoted"] for number in NUMBER.findall(e["text"])}
        known |= {f"{value:.4f}" for value in check.get("steps", {}).values()}
        for call in check["tool_calls"] + check["computed_by"]:
            known |= {str(value) for value in call["arguments"].values()}
        known |= set(NUMBER.findall(texts(record, "user"))) | PLAIN_NUMBERS
        known |= {number.lstrip("-") for number in known}
        for number in NUMBER.findall(texts(record, "assistant")):
            assert number in known or number.lstrip("-") in known, (number, record)


def test_calls_are_valid_and_end_as_stated(records: list[dict[str, Any]]) -> None:
    for record in records:
        check = record["metadata"]["check"]
        calls = [call for m in record["messages"] for call in m.get("tool_calls", ())]
        assert calls == check["tool_calls"]
        answers = [m["content"] for m in record["messages"] if m["role"] == "tool"]
        assert len(answers) == len(calls) == len(check["results"])
        for call, content, result in zip(calls, answers, check["results"]):
            tools()[call["name"]].validate(**call["arguments"])
            answer = tools()[call["name"]](**call["arguments"])
            assert content == brief(answer)
            assert json.loads(content) == result
            if "error" in check:
                assert answer["error"]["code"] == check["error"] == result["error"]["code"]
            else:
                assert answer["ok"] is True


def test_the_right_tool_is_among_four_to_eight(records: list[dict[str, Any]]) -> None:
    shown_but_not_called = set()
    for record in records:
        first = record["messages"][0]
        if first["role"] != "system":
            assert not record["metadata"]["requires_tools"]
            continue
        named = re.findall(r"^- (\w+)\(", first["content"], re.M)
        called = {call["name"] for call in record["metadata"]["check"]["tool_calls"]}
        assert 4 <= len(named) == len(set(named)) <= 8
        assert called <= set(named)
        assert set(named) <= set(tools())
        shown_but_not_called |= set(named) - called
    assert {"portfolio_optimize", "monte_carlo_option", "barrier_option"} <= shown_but_not_called


def numbers_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, (int, float)):
        yield value


def test_arguments_are_the_exact_numbers(records: list[dict[str, Any]]) -> None:
    for record in records:
        for call in record["metadata"]["check"]["tool_calls"]:
            for number in numbers_in(call["arguments"]):
                assert len(repr(number)) <= 8, call  # nothing like 0.30000000000000004
                assert not (isinstance(number, float) and number.is_integer())


def test_optional_arguments_are_given_where_the_user_states_them(
    records: list[dict[str, Any]],
) -> None:
    for record in records:
        asked = [m["content"] for m in record["messages"] if m["role"] == "user"]
        for number, call in enumerate(record["metadata"]["check"]["tool_calls"]):
            given = call["arguments"]
            own = record["metadata"]["kind"] == "quant_session"  # a question for each call
            said = (asked[number] if own else " ".join(asked)).lower()
            declared = {own.name for own in tools()[call["name"]].parameters}
            assert list(given) == [
                own.name for own in tools()[call["name"]].parameters if own.name in given
            ]
            if "option_type" in declared:
                assert given["option_type"] in said
                stated = re.search(r"dividend|yield|\bdiv=|\bq ?[=:]? ?[\d.]", said)
                assert ("dividend" in given) == bool(stated)
            if "risk_free_rate" in declared:
                assert ("risk_free_rate" in given) == ("risk-free" in said)
            assert ("seed" in given) == ("seed" in said)


def test_records_are_the_same_whatever_was_drawn_before(records: list[dict[str, Any]]) -> None:
    for record in reversed(records[:: EACH + 1]):
        facts = record["metadata"]
        split = facts["split"] == "held_out"
        assert make(facts["kind"], facts["seed"], facts["index"], held_out=split) == record
    assert make(QUANT[0], SEED + 1, 0) != make(QUANT[0], SEED, 0)
    assert make(QUANT[0], SEED, 1) != make(QUANT[0], SEED, 0)


def test_no_phrasing_and_no_number_band_is_in_both_splits(records: list[dict[str, Any]]) -> None:
    for facts in (record["metadata"] for record in records):
        name, held_out = facts["kind"], facts["split"] == "held_out"
        draw = Watched(SEED, name, facts["index"], held_out=held_out)
        kinds()[name].function(draw)
        assert draw.phrases
        for at in draw.phrases:
            assert (at % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out
        for at in draw.bands:
            assert (at in HELD_OUT_BANDS) == held_out
        assert draw.bands or name == "quant_concept"


def test_arguments_of_the_splits_lie_in_different_bands(records: list[dict[str, Any]]) -> None:
    ranges = quant_words.RANGES
    for record in records:
        held_out = record["metadata"]["split"] == "held_out"
        for call in record["metadata"]["check"]["tool_calls"]:
            given = {k: Decimal(str(v)) for k, v in call["arguments"].items()
                     if isinstance(v, (int, float))}  # fmt: skip
            checked = []
            for name in ("spot", "strike"):
                scale = "index" if given.get(name, 0) >= 1000 else "share"
                checked += [(given[name], ranges[scale][-1])] if name in given else []
            for name in ("volatility", "rate", "dividend"):
                if name in given:
                    checked.append((100 * given[name], ranges[name][0]))
            if "time" in given and given["time"] not in quant_words.TERM_YEARS:
                checked.append((given["time"], ranges["years"][0]))
            for value, (low, high, _) in checked:
                first, last = Decimal(low), _top(low, high)
                tenth = int((value - first) / (last - first) * 10)
                assert (tenth in HELD_OUT_BANDS) == held_out, (value, low, high, call)


def _top(low: str, high: str) -> Decimal:
    """Where the last band ends: ranges are written up to their last multiple."""
    tops = {"219.75": "220", "5995": "6000", "5.4": "5.5", "9.9": "10", "59": "60", "2.00": "2.05"}
    return Decimal(tops[high])


def test_prompts_of_the_splits_differ(records: list[dict[str, Any]]) -> None:
    by_split: dict[str, set[str]] = {"train": set(), "held_out": set()}
    for record in records:
        by_split[record["metadata"]["split"]].add(user_prompt(record).lower())
    assert not by_split["train"] & by_split["held_out"]


def test_notation_in_a_prompt_is_the_argument(records: list[dict[str, Any]]) -> None:
    seen = 0
    for record in records:
        calls = record["metadata"]["check"]["tool_calls"]
        said = user_prompt(record)
        if not calls or "spot" not in calls[0]["arguments"]:
            continue
        given = calls[0]["arguments"]
        for letter, name in (("S0?", "spot"), ("K", "strike"), ("T", "time"), ("r", "rate")):
            match = re.search(rf"\b{letter} ?[=:]? ?([\d.,]*\d)(%| percent)?", said)
            if match:
                value = float(match[1]) / (100 if match[2] else 1)
                assert value == pytest.approx(given[name], rel=1e-12)
                seen += 1
    assert seen > 50


def test_every_number_of_a_contract_is_worded_and_their_order_changes() -> None:
    orders: set[tuple[str, ...]] = set()
    for index in range(200):
        draw = Draw(SEED, "clauses", index, held_out=index % 2 == 1)
        contract = quant_words.draw_contract(draw, "hard")
        slots = {name: f"<{name}>" for name in contract.slots(draw)}
        has_dividend = contract.dividend is not None
        said = quant_clauses.described(draw, slots | ({} if has_dividend else {"yield": ""}))
        named = {"s": "spot", "k": "strike", "vol": "volatility", "points": "volatility",
                 "years": "time"}  # fmt: skip
        order = tuple(named.get(name, name) for name in re.findall(r"<(\w+)>", said))
        wanted = {"spot", "strike", "time", "rate", "volatility"}
        assert set(order) == wanted | ({"yield"} if has_dividend else set()), said
        assert len(order) == len(set(order))
        orders.add(tuple(name for name in order if name != "yield"))
    assert len(orders) > 60  # of 120
    without = quant_clauses.described(Draw(SEED, "clauses", 0), slots, "volatility", "strike")
    assert not re.search("vol|points|strike|<k>", without)


def test_a_session_asks_two_different_things_and_lists_both_tools() -> None:
    names = set()
    for index in range(6):
        record = make("quant_session", SEED, index)
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["system", *["user", "assistant", "tool", "assistant"] * 2]
        check, system = record["metadata"]["check"], record["messages"][0]["content"]
        for call in check["tool_calls"]:
            assert f"- {call['name']}(" in system
            names.add(call["name"])
        assert {entry["call"] for entry in check["quoted"]} == {0, 1}
        second = [m for m in record["messages"] if m["role"] == "user"][1]["content"]
        assert user_prompt(record) != second
    assert len(names) > 3


def test_a_hedge_offsets_the_delta() -> None:
    sides = set()
    for index in range(24):
        record = make("quant_delta_hedge", SEED, index)
        said = texts(record, "assistant")
        match = re.search(r"(Buy|Sell) ([\d,]+) shares.*the (long|short) (\d+) contracts", said)
        assert match
        verb, shares, side, lots = match.groups()
        long = side == "long"
        traded = int(shares.replace(",", "")) * (1 if verb == "Buy" else -1)
        delta = results(record)[0]["delta"]
        held = delta * int(lots) * 100 * (1 if long else -1)
        assert abs(traded + held) <= 0.51
        sides.add((verb, long))
    assert len(sides) == 4


def test_worked_steps_are_those_of_the_formula() -> None:
    for index in range(12):
        check = make("quant_worked_price", SEED, index)["metadata"]["check"]
        given = check["computed_by"][1]["arguments"]
        spread = given["volatility"] * math.sqrt(given["time"])
        d1 = (
            math.log(given["spot"] / given["strike"])
            + (given["rate"] + given["volatility"] ** 2 / 2) * given["time"]
        ) / spread
        sign = 1 if given["option_type"] == "call" else -1
        expected = {
            "d1": d1,
            "d2": d1 - spread,
            "n1": norm.cdf(sign * d1),
            "n2": norm.cdf(sign * (d1 - spread)),
        }
        assert check["steps"] == pytest.approx(expected, rel=1e-9)


def test_a_missing_number_is_asked_for_and_then_used() -> None:
    asked = set()
    for index in range(30):
        record = make("quant_missing_number", SEED, index)
        missing = record["metadata"]["check"]["missing"]
        question = next(m["content"] for m in record["messages"] if m["role"] == "assistant")
        words = {"spot": "underlying", "time": "time", "rate": "rate", "strike": "strike",
                 "volatility": "volatility"}  # fmt: skip
        assert words[missing] in question
        assert "?" in question
        first = user_prompt(record).lower()
        names = {"time": "expiry"}.get(missing, missing)
        assert not re.search(rf"\b{names}\b (?:[$€£]?\d)", first)
        asked.add(missing)
    assert len(asked) == 5


def test_impossible_prices_lie_beyond_both_bounds() -> None:
    codes = set()
    for index in range(20):
        record = make("quant_impossible_price", SEED, index)
        check = record["metadata"]["check"]
        price = check["tool_calls"][0]["arguments"]["price"]
        low, high = (result["price"] for result in results(record)[1:])
        assert price < low or price > high
        assert (check["error"] == "price_above_bounds") == (price > high)
        codes.add(check["error"])
        assert "check" in record["messages"][-1]["content"]
    assert len(codes) == 2


def test_barriers_are_on_their_side_and_worth_something(records: list[dict[str, Any]]) -> None:
    count = 0
    for record in records:
        if record["metadata"]["kind"] != "quant_barrier":
            continue
        given = record["metadata"]["check"]["tool_calls"][0]["arguments"]
        assert (given["barrier"] < given["spot"]) == given["barrier_type"].startswith("down")
        words = given["barrier_type"].replace("-", "-(and-)?")
        assert re.search(words, user_prompt(record))
        assert results(record)[0]["price"] >= quant_exotics.LEAST_PRICE
        count += 1
    assert count == 2 * FEW["quant_barrier"]
