"""European options by tool: prices, Greeks, delta hedges, implied volatilities."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_clauses import described
from lilith.data.instructions.quant_talk import Talk, run, tool_call
from lilith.data.instructions.quant_words import Contract, draw_contract, fill

PRICE = (
    "Price a European {kind}: {contract}.",
    "What is a European {kind} worth with {contract}?",
    "Black-Scholes value of this {kind}, please: {contract}.",
    "I need the fair premium of a {kind}: {contract}.",
    "Find the theoretical price of one European-style {kind} given {contract}.",
    "{contract}. What does the European {kind} cost?",
    "How much should I pay for a European {kind}? {contract}.",
    "Can you value this European {kind} for me: {contract}?",
    "Compute the BSM {kind} price for {contract}.",
    "Someone offers me a vanilla {kind}; {contract}. What is it worth today?",
    "European {kind}, {contract}: price?",
    "Use Black-Scholes to price a {kind} option with {contract}.",
    "Give me today's value of the {kind} ({contract}).",
    "Our client wants a quote on a European {kind}. The terms: {contract}.",
    "Work out what a plain {kind} is worth if we have {contract}.",
)
GREEK = (
    "What is the {greek} of a European {kind}: {contract}?",
    "Compute the {greek} of this {kind}: {contract}.",
    "I hold a European {kind} with {contract}. What is its {greek}, and what does it mean?",
    "Give me {greek} for a {kind} with {contract}.",
    "For risk control I must know how large {greek} is for this European {kind}: {contract}.",
    "{contract}. {Greek} of the European {kind}?",
    "How big is the {greek} of a vanilla {kind} ({contract})?",
    "Please calculate {greek} under Black-Scholes for a {kind}: {contract}.",
    "Tell me the {greek} of the {kind} and how to read it. {contract}.",
    "A {kind} on our book has {contract}; report its {greek}.",
    "Black-Scholes {greek}, European {kind}, {contract}.",
    "Which {greek} does a European {kind} have when we assume {contract}?",
)
HEDGE = (
    "I am {side} {lots} contracts of 100 shares each of a European {kind}: {contract}. How do I "
    "delta hedge?",
    "Delta-hedge my position: {side} {lots} European {kind} contracts (100 shares per contract), "
    "{contract}.",
    "How many shares make me delta neutral? I am {side} {lots} {kind} contracts on 100 shares each "
    "with {contract}.",
    "We are {side} {lots} lots (100 shares a lot) of a European {kind}, {contract}. What stock "
    "trade flattens the delta?",
    "My book is {side} {lots} {kind}s, 100 shares to the contract; {contract}. Which number of "
    "shares neutralises it?",
    "Position: {side} {lots} European {kind} contracts, multiplier 100. Market: {contract}. "
    "Compute the delta hedge.",
    "Work out the share hedge for being {side} {lots} contracts (x100) of a {kind} with "
    "{contract}.",
    "The desk is {side} {lots} European {kind} contracts with a multiplier of 100. With "
    "{contract}, what should we trade in the stock?",
    "{contract}. I am {side} {lots} {kind} contracts of 100 shares. Hedge the delta for me.",
    "What is the delta-neutral stock position against {lots} European {kind} contracts that I am "
    "{side}, each on 100 shares, given {contract}?",
)
IMPLIED = (
    "What volatility is implied by a price of {price} for a European {kind}: {contract}?",
    "A European {kind} trades at {price}; {contract}. What is its implied volatility?",
    "Back out the implied vol: {kind} at {price}, {contract}.",
    "Find sigma so that the Black-Scholes {kind} price is {price}, with {contract}.",
    "The market pays {price} for this {kind} ({contract}). Which volatility does that mean?",
    "{contract}. The {kind} costs {price}. Implied volatility?",
    "Solve for IV: European {kind}, premium {price}, {contract}.",
    "I see a {kind} quoted at {price}. With {contract}, what vol is the market using?",
    "Compute the implied volatility of a {kind} option with premium {price} and {contract}.",
    "Which sigma fits a quote of {price} on a European {kind} where we have {contract}?",
    "IV of a {price} {kind}, please: {contract}.",
)
# How each Greek is quoted: its scale and decimals, and what it means.
MEANINGS = {
    "delta": (1.0, 4, "the option's price moves by about {} for a move of 1 in the underlying"),
    "gamma": (1.0, 5, "delta itself changes by about {} when the underlying moves by 1"),
    "vega": (0.01, 4, "one point more of volatility changes the price by about {}"),
    "theta": (1 / 365, 4, "a calendar day that passes, with all else equal, changes it by {}"),
    "rho": (0.01, 4, "a rate one percentage point higher changes the price by about {}"),
}
UNITS = {
    "delta": "per 1.00 of spot",
    "gamma": "per 1.00 of spot",
    "vega": "per 1.00 of volatility",
    "theta": "per year",
    "rho": "per 1.00 of rate",
}


def contract_prompt(
    draw: Draw,
    asks: tuple[str, ...],
    contract: Contract,
    *without: str,
    **slots: str,
) -> str:
    """A question on an option: a phrasing of ``asks`` around its terms, but those ``without``."""
    numbers = contract.slots(draw)
    text = described(draw, numbers, *without)
    asked = fill(draw, asks, {**numbers, "contract": text, **slots})
    return asked[0].upper() + asked[1:]


def price_answer(talk: Talk, contract: Contract, call: int = -1) -> str:
    """A sentence or two on what an option is worth."""
    price = talk.quote("price", form="money", call=call)
    delta = talk.quote("delta", call=call)
    right = "buy" if contract.option_type == "call" else "sell"
    at = f"{talk.symbol}{plain(contract.strike)}"
    forms = (
        f"The {contract.option_type} is worth about {price}. That is today's fair premium for the "
        f"right to {right} at {at} at expiry; its delta is {delta}.",
        f"Its Black-Scholes price is {price}, with a delta of {delta}: that is what a move of 1 in "
        "the spot changes it by.",
        f"Fair value: {price}. With a delta of {delta} it moves by that share of a move in the "
        "underlying.",
        f"About {price}, which is what hedging the right to {right} at {at} costs on average "
        f"(delta {delta}).",
    )
    return talk.draw.choice(forms)


def quant_price_european(draw: Draw) -> Conversation:
    """The price of a European option."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    talk = Talk(draw, "quant_price_european", contract.symbol)
    talk.system("black_scholes")
    talk.user(contract_prompt(draw, PRICE, contract))
    talk.call(tool_call("black_scholes", **contract.arguments()))
    talk.say(price_answer(talk, contract))
    return talk.record(difficulty)


def quant_greeks(draw: Draw) -> Conversation:
    """One Greek of a European option, and its meaning."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    greek = draw.choice(tuple(MEANINGS))
    talk = Talk(draw, "quant_greeks", contract.symbol)
    talk.system("black_scholes")
    talk.user(contract_prompt(draw, GREEK, contract, greek=greek, Greek=greek.capitalize()))
    talk.call(tool_call("black_scholes", **contract.arguments()))
    scale, places, meaning = MEANINGS[greek]
    value = talk.quote(greek, places=places)
    effect = meaning.format(talk.quote(greek, places=places, scale=scale))
    opening = draw.choice(("{} is {} {}:", "The {} is {} {}, so", "{} comes out at {} {};"))
    said = opening.format(greek, value, UNITS[greek])
    price = talk.quote("price", form="money")
    talk.say(f"{said[0].upper()}{said[1:]} {effect}. The option is worth {price}.")
    return talk.record(difficulty)


def quant_delta_hedge(draw: Draw) -> Conversation:
    """The shares that make a position in an option delta neutral."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    lots, side = draw.number("1", "100"), draw.choice(("long", "short"))
    talk = Talk(draw, "quant_delta_hedge", contract.symbol)
    talk.system("black_scholes")
    talk.user(contract_prompt(draw, HEDGE, contract, lots=plain(lots), side=side))
    talk.call(tool_call("black_scholes", **contract.arguments()))
    held = int(lots) * 100 * (1 if side == "long" else -1)
    verb = "sell" if talk.figure("delta") * held > 0 else "buy"
    size = held if verb == "sell" else -held  # the sign that makes the trade positive
    shares = talk.quote("delta", places=0, scale=float(size))
    delta = talk.quote("delta", places=4)
    position = talk.quote("delta", places=0, scale=float(held))
    talk.say(
        f"{verb.capitalize()} {shares} shares. One {contract.option_type} has a delta of {delta}, "
        f"so the {side} {plain(lots)} contracts are worth {position} shares of exposure, which the "
        "trade offsets. Gamma will move the delta: rebalance as the stock moves."
    )
    return talk.record(difficulty)


def draw_quote(draw: Draw, difficulty: str) -> tuple[Contract, Decimal]:
    """An option and its price to the cent, far enough from its bounds to imply a volatility."""
    while True:
        contract = draw_contract(draw, difficulty)
        worth = run(tool_call("black_scholes", **contract.arguments()))["result"]["price"]
        price = Decimal(f"{worth:.2f}")
        one = tool_call(
            "implied_volatility", price=float(price), **contract.arguments("volatility")
        )
        answer = run(one)
        if price >= Decimal("0.1") and answer["ok"] and not answer["warnings"]:
            return contract, price


def quant_implied_volatility(draw: Draw) -> Conversation:
    """The volatility that a price implies."""
    difficulty = draw.difficulty()
    contract, price = draw_quote(draw, difficulty)
    talk = Talk(draw, "quant_implied_volatility", contract.symbol)
    talk.system("implied_volatility")
    said = contract.symbol + plain(price)
    talk.user(contract_prompt(draw, IMPLIED, contract, "volatility", price=said))
    arguments = contract.arguments("volatility")
    talk.call(tool_call("implied_volatility", price=float(price), **arguments))
    found = talk.quote("implied_volatility", form="percent")
    forms = (
        f"The implied volatility is {found} a year: at that volatility Black-Scholes gives the "
        f"quoted {said}.",
        f"About {found} a year. The price of {said} is fair if the underlying moves that much.",
        f"Solving for sigma gives {found}. Compare it with your own forecast: if that is higher, "
        f"the {contract.option_type} is cheap at {said}.",
    )
    talk.say(draw.choice(forms))
    return talk.record(difficulty)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_price_european": quant_price_european,
    "quant_greeks": quant_greeks,
    "quant_delta_hedge": quant_delta_hedge,
    "quant_implied_volatility": quant_implied_volatility,
}
