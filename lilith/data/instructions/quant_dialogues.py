"""Quant conversations of several turns or calls: follow-ups, questions back, errors, spreads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_clauses import WORDINGS, described
from lilith.data.instructions.quant_options import contract_prompt, price_answer
from lilith.data.instructions.quant_talk import Talk, run, tool_call
from lilith.data.instructions.quant_words import (
    Contract,
    banded,
    changed,
    draw_contract,
    fill,
    money,
    near_the_money,
)
from lilith.data.instructions.tool_text import exact

FIRST = (
    "Let us start with a European {kind}: {contract}. Its price?",
    "What does Black-Scholes say for a {kind} with {contract}?",
    "I am looking at a European {kind}, {contract}. Please value it.",
    "Start by pricing this {kind}: {contract}.",
    "Base case, European {kind}: {contract}. What is it worth?",
    "First the base price of a {kind} given {contract}.",
    "Take a European {kind} with {contract}. What would you charge for it?",
    "For my scenario table, value a {kind}: {contract}.",
    "Scenario one, a vanilla {kind}, {contract}. Premium?",
    "Begin with the plain {kind} where {contract}. How much is it?",
)
FOLLOW_UPS = (
    "And if {change}?",
    "What if {change}?",
    "Now suppose {change}. How does the price change?",
    "Repeat that as if {change}.",
    "How much would that move if {change}?",
    "Same again, but imagine that {change}.",
    "Next scenario: what if {change}?",
    "Would it be worth more or less if {change}?",
    "Run it once more as though {change}.",
    "Consider the case where {change}. New value?",
)
INCOMPLETE = (
    "Price a European {kind} for me. I have {known}.",
    "What is a European {kind} worth? {known}.",
    "Value this {kind}: {known}.",
    "{known}. What does the European {kind} cost?",
    "I know only this of a {kind}: {known}. Its Black-Scholes price?",
    "Please quote me a European {kind} with {known}.",
    "Can you tell me the premium of a {kind}, {known}?",
    "Our {kind} has {known}. How much is it worth?",
    "Fair value of a vanilla {kind}, please; {known}.",
    "Here is what was sent to me on a European {kind}: {known}. Price it.",
)
SUPPLIED = ("I have {}.", "{}.", "Sorry, {}.", "Take {}.", "Use {}.", "Let us say {}.")
LABELS = {
    "spot": "the price of the underlying now",
    "strike": "the strike",
    "time": "the time to expiry",
    "rate": "the risk-free rate",
    "volatility": "the volatility",
}
ASK_BACK = (
    "To price it I still need {}. What is it?",
    "One number is missing: {}. I would rather ask than guess; what should I use?",
    "I can price this as soon as I know {}. Could you give it to me?",
    "The formula also needs {}, which you have not said. What is it?",
)
IMPOSSIBLE = (
    "What is the implied volatility of a European {kind} at {price}: {contract}?",
    "A {kind} is quoted at {price}, {contract}. Which volatility is that?",
    "Imply the vol from a {kind} premium of {price}, {contract}.",
    "Please find the sigma behind a {kind} price of {price} where {contract}.",
    "My broker shows {price} for this {kind}: {contract}. Implied vol?",
    "{contract}, {kind} marked at {price}. Back out its volatility.",
    "Solve Black-Scholes for volatility: {kind} price {price}, {contract}.",
    "I paid {price} for a {kind} with {contract}. What vol did I pay?",
    "Given {contract}, which volatility makes a {kind} worth {price}?",
    "The {kind} last traded at {price}. With {contract}, compute the implied volatility.",
)
SPREAD = (
    "What does a {spread} cost? Buy the {k1} {kind}, sell the {k2} {kind}; {market}.",
    "Price a {spread} with strikes {k1} (bought) and {k2} (sold): {market}.",
    "I buy a {k1} {kind} and sell a {k2} {kind}, both European, {market}. Net premium?",
    "Value this {spread}: long {k1}, short {k2} {kind}, {market}.",
    "How much do I pay for a {k1}/{k2} {spread}, long the first strike, given {market}?",
    "{market}. Long the {k1} {kind}, short the {k2} {kind}. What is the net cost?",
    "My {spread} is long the {k1} strike and short the {k2} strike; {market}. Its price?",
    "Set up a {spread}: purchase {k1}, write {k2}, {market}. Compute what it costs.",
    "A {spread} please, long {k1} and short {k2} {kind}s. Terms: {market}.",
    "Tell me the debit of buying the {k1} {kind} against selling the {k2} {kind} with {market}.",
)


def quant_follow_up(draw: Draw) -> Conversation:
    """A price, then the price with one number changed."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    other, change = changed(draw, contract, difficulty)
    talk = Talk(draw, "quant_follow_up", contract.symbol)
    talk.system("black_scholes")
    talk.user(contract_prompt(draw, FIRST, contract))
    talk.call(tool_call("black_scholes", **contract.arguments()))
    talk.say(price_answer(talk, contract))
    talk.user(draw.phrase(FOLLOW_UPS).format(change=change))
    talk.call(tool_call("black_scholes", **other.arguments()))
    before, after = talk.quote("price", form="money", call=0), talk.quote("price", form="money")
    rises = talk.figure("price") >= talk.figure("price", call=0)
    scale = 1.0 if rises else -1.0
    by = talk.quote("price", form="money", scale=scale, less=0)
    talk.say(
        f"Then the {other.option_type} is worth {after} instead of {before}: "
        f"{by} {'more' if rises else 'less'}. Its delta would be {talk.quote('delta')}."
    )
    return talk.record(difficulty)


def quant_missing_number(draw: Draw) -> Conversation:
    """A question that lacks a number, which the assistant asks for instead of inventing it."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    numbers = contract.slots(draw)
    missing = draw.choice(tuple(LABELS))
    talk = Talk(draw, "quant_missing_number", contract.symbol)
    talk.system("black_scholes")
    slots = {**numbers, "known": described(draw, numbers, missing)}
    asked = fill(draw, INCOMPLETE, slots)
    talk.user(asked[0].upper() + asked[1:])
    talk.say(draw.choice(ASK_BACK).format(LABELS[missing]))
    talk.user(draw.phrase(SUPPLIED).format(draw.phrase(WORDINGS[missing]).format_map(numbers)))
    talk.call(tool_call("black_scholes", **contract.arguments()))
    talk.say(price_answer(talk, contract))
    return talk.record(difficulty, missing=missing)


def _bounds(contract: Contract) -> tuple[dict, dict]:
    """Calls whose prices are the least and the most that the option can be worth.

    Without volatility it is worth its discounted payoff on the forward. A call is worth at most
    what the share is, a call of strike 0; a put at most the cash, a put on a share worth nothing.
    """
    arguments = contract.arguments()
    most = {"strike": 0} if contract.option_type == "call" else {"spot": 0}
    lower = tool_call("black_scholes", **{**arguments, "volatility": 0})
    return lower, tool_call("black_scholes", **{**arguments, **most})


def quant_impossible_price(draw: Draw) -> Conversation:
    """A price beyond the no-arbitrage bounds: the tool's error, explained."""
    difficulty = draw.difficulty()
    above = draw.count(0, 1) == 1
    while True:
        contract = draw_contract(draw, difficulty)
        least, most = (run(call)["result"]["price"] for call in _bounds(contract))
        if above or least >= 1:
            break
    factor = draw.number("1.02", "1.30", "0.01") if above else draw.number("0.30", "0.89", "0.01")
    worth = Decimal(repr(most if above else least)) * factor
    price = worth.quantize(Decimal("0.01"))
    talk = Talk(draw, "quant_impossible_price", contract.symbol)
    talk.system("implied_volatility")
    said = contract.symbol + plain(price)
    talk.user(contract_prompt(draw, IMPOSSIBLE, contract, "volatility", price=said))
    code = "price_above_bounds" if above else "price_below_bounds"
    arguments = contract.arguments("volatility")
    talk.call(tool_call("implied_volatility", price=exact(price), **arguments), error=code)
    for bound in _bounds(contract):
        talk.compute(bound)
    low, high = (talk.quote("price", form="money", call=call) for call in (-2, -1))
    where = "above" if above else "below"
    advice = (
        "Is the price for one unit of the underlying, and is the option type right?"
        if above
        else "Is it perhaps an American option's or an old price, or is a number wrong?"
    )
    talk.say(
        f"No volatility explains {said}: a European {contract.option_type} on these terms is worth "
        f"between {low} and {high}, and the price is {where} that, so it would be an arbitrage. "
        f"{advice} Please check and send me the right number."
    )
    return talk.record(difficulty, error=code)


def quant_spread(draw: Draw) -> Conversation:
    """A vertical spread: two calls in one turn."""
    difficulty = draw.difficulty()
    while True:
        bought = draw_contract(draw, difficulty)
        strike = banded(draw, "index" if bought.spot >= 1000 else "share", difficulty)
        further = strike > bought.strike if bought.option_type == "call" else strike < bought.strike
        near = near_the_money(bought.spot, strike, bought.years, bought.volatility)
        if further and near:
            break
    sold = replace(bought, strike=strike)
    numbers = bought.slots(draw)
    slots = {
        **numbers,
        "spread": "bull call spread" if bought.option_type == "call" else "bear put spread",
        "k1": numbers["strike"],
        "k2": money(draw, strike, bought.symbol),
        "market": described(draw, numbers, "strike"),
    }
    talk = Talk(draw, "quant_spread", bought.symbol)
    talk.system("black_scholes")
    asked = fill(draw, SPREAD, slots)
    talk.user(asked[0].upper() + asked[1:])
    talk.call(*(tool_call("black_scholes", **each.arguments()) for each in (bought, sold)))
    paid, got = (talk.quote("price", form="money", call=call) for call in (0, 1))
    net = talk.quote("price", form="money", call=0, less=1)
    talk.say(
        f"The {slots['spread']} costs {net}: {paid} for the {bought.on_paper()}, less {got} for "
        f"the {sold.on_paper()}. The net premium is the most you can lose; its delta is "
        f"{talk.quote('delta', call=0, less=1)}."
    )
    return talk.record(difficulty)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_follow_up": quant_follow_up,
    "quant_missing_number": quant_missing_number,
    "quant_impossible_price": quant_impossible_price,
    "quant_spread": quant_spread,
}
