"""Quant answers without tool calls: Greeks read, prices worked by steps, parity, concepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_concepts import CONCEPTS
from lilith.data.instructions.quant_options import contract_prompt
from lilith.data.instructions.quant_talk import COMPANIONS, Talk, tool_call
from lilith.data.instructions.quant_words import (
    HUNDRED,
    Contract,
    draw_contract,
    fill,
)
from lilith.quant import special
from lilith.quant.options import black_scholes

READ = (
    "My {option} has a {greek} of {value}{unit}. What does that mean for {scenario}?",
    "{Greek} is {value}{unit} on a {option}. What happens with {scenario}?",
    "My screen shows {greek} {value}{unit} for the {option}. Explain it for {scenario}.",
    "Explain a {greek} of {value}{unit} ({option}), taking {scenario} as the example.",
    "What should I expect from {scenario} if my {option} shows {greek} {value}{unit}?",
    "We hold one {option}, {greek} {value}{unit}. What is the effect of {scenario}?",
    "How do I read {greek} = {value}{unit} on the {option}, say for {scenario}?",
    "The risk report says {greek} {value}{unit} for our {option}. In plain words, with {scenario}?",
    "If {greek} is {value}{unit} for a {option}, what does {scenario} do?",
    "A colleague quotes a {option} with {greek} at {value}{unit}. Interpret it for {scenario}.",
)
# Of each Greek: its unit, a scenario of n, what n = 1 does in units of the Greek, and the answer.
SCENARIOS = {
    "delta": (
        "", "a rise of {} in the underlying", 1.0,
        "Delta is the change of the price for a move of 1 in the underlying. A rise of {n} changes "
        "the option by about {effect}; gamma makes the true result a little better for the holder.",
    ),
    "gamma": (
        "", "a rise of {} in the underlying", 1.0,
        "Gamma is the change of delta for a move of 1 in the underlying. After a rise of {n} the "
        "delta is higher by about {effect}, so a delta hedge must be adjusted by that much.",
    ),
    "vega": (
        " per 1.00 of volatility", "a rise of {} points in volatility", 0.01,
        "Vega is the change of the price for a change of volatility. It is quoted per 1.00, so a "
        "rise of {n} points, all else equal, changes the price by about {effect}.",
    ),
    "theta": (
        " per year", "the next {} calendar days", 1 / 365,
        "Theta is the change of the price as time passes. It is quoted per year, so over {n} "
        "calendar days, all else equal, the option changes by about {effect}.",
    ),
    "rho": (
        " per 1.00 of rate", "a rise of {} percentage points in rates", 0.01,
        "Rho is the change of the price for a change of the interest rate. It is quoted per 1.00, "
        "so a rise of {n} percentage points changes the price by about {effect}.",
    ),
}  # fmt: skip
WORKED = (
    "Show me step by step how Black-Scholes prices a European {kind}: {contract}.",
    "Work through the Black-Scholes formula by hand for a {kind}, {contract}.",
    "Derive the price of this {kind} with d1 and d2: {contract}.",
    "Explain each step of pricing a {kind} with {contract}.",
    "Walk me through d1, d2 and the price of a European {kind} when {contract}.",
    "I want to see the calculation, not only the result: European {kind}, {contract}.",
    "How do I get from {contract} to the {kind} price? Show the steps.",
    "Without a tool, lay out the BSM calculation of a {kind}: {contract}.",
    "Teach me the arithmetic of pricing a {kind}; use {contract}.",
    "Please write out the formula and the numbers for a European {kind} given {contract}.",
)
PARITY = (
    "A European {kind} costs {price}. With {contract}, what must the {other} cost?",
    "Use put-call parity: {kind} at {price}, {contract}. Price of the {other}?",
    "If the {kind} trades at {price} and {contract}, what is the {other} worth?",
    "{contract}. The {kind} is {price}. Find the {other} by parity.",
    "The {kind} is quoted at {price}. What is an arbitrage-free {other} price given {contract}?",
    "Turn a {kind} price of {price} into the {other} price: {contract}.",
    "I know the {kind} is worth {price} ({contract}). How much is the {other} of the same strike?",
    "No model please, only parity: {contract}, {kind} {price}. What is the {other}?",
    "What does put-call parity say about the {other}? {kind} {price}, {contract}.",
    "Given a {price} {kind} and {contract}, deduce the {other} on the same terms.",
)
CONCEPT = (
    "What is {concept}?",
    "Explain {concept} in a few sentences.",
    "Can you tell me what {concept} is?",
    "I keep hearing about {concept}. What does it mean?",
    "In plain words, what is {concept}?",
    "Define {concept} for a new analyst.",
    "Help me understand {concept}.",
    "Give a short explanation of {concept}.",
    "How would you explain {concept} to a client?",
    "What do traders mean by {concept}?",
    "A question of theory: what is {concept}?",
    "Describe {concept} briefly.",
)


def quant_greek_meaning(draw: Draw) -> Conversation:
    """A Greek that the user quotes, turned into an amount."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    greek = draw.choice(tuple(SCENARIOS))
    unit, scenario, scale, answer = SCENARIOS[greek]
    moves = greek in ("delta", "gamma", "rho")
    n = draw.number("0.1", "2.0", "0.1") if moves else draw.number("2", "21")
    talk = Talk(draw, "quant_greek_meaning", contract.symbol)
    talk.compute(tool_call("black_scholes", **contract.arguments()))
    slots = {
        "option": contract.on_paper(),
        "greek": greek,
        "Greek": greek.capitalize(),
        "value": talk.quote(greek, places=4),
        "unit": unit,
        "scenario": scenario.format(plain(n)),
    }
    talk.user(fill(draw, READ, slots))
    form = "number" if greek == "gamma" else "money"
    effect = talk.quote(greek, form=form, places=4, scale=scale * float(n), shown=4)
    talk.say(answer.format(n=plain(n), effect=effect))
    return talk.record(difficulty)


def black_scholes_steps(contract: Contract) -> dict[str, float]:
    """d1, d2 and the normal probabilities of the formula, N(-d) for a put; no dividend."""
    values = contract.arguments("option_type")
    ordered = [values[name] for name in ("spot", "strike", "time", "rate", "volatility")]
    sign = 1 if contract.option_type == "call" else -1
    with jax.enable_x64(True):
        numbers = _steps(sign, *black_scholes.as_floating(*ordered, 0.0))
        return dict(zip(("d1", "d2", "n1", "n2"), map(float, numbers)))


@jax.jit
def _steps(sign: jax.Array, *option: jax.Array) -> tuple[jax.Array, ...]:
    parts = black_scholes.terms(*option)
    d1 = parts.x / parts.total + parts.total / 2
    d2 = d1 - parts.total
    return d1, d2, special.ndtr(sign * d1), special.ndtr(sign * d2)


def quant_worked_price(draw: Draw) -> Conversation:
    """The Black-Scholes formula, step by step."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty, dividends=False)
    talk = Talk(draw, "quant_worked_price", contract.symbol)
    talk.user(contract_prompt(draw, WORKED, contract))
    steps = black_scholes_steps(contract)
    arguments = {**contract.arguments(), "spot": 0, "option_type": "put"}
    talk.compute(tool_call("black_scholes", **arguments))  # on a share worth nothing: K exp(-rT)
    cash = talk.quote("price", places=4)
    talk.compute(tool_call("black_scholes", **contract.arguments()))
    price = talk.quote("price", places=4)
    said = {name: f"{value:.4f}" for name, value in steps.items()}
    sign = "" if contract.option_type == "call" else "-"
    formula = "S N(d1) - K exp(-rT) N(d2)"
    terms = f"{plain(contract.spot)} × {said['n1']} - {cash} × {said['n2']}"
    if sign:
        formula = "K exp(-rT) N(-d2) - S N(-d1)"
        terms = f"{cash} × {said['n2']} - {plain(contract.spot)} × {said['n1']}"
    talk.say(
        f"With S = {plain(contract.spot)}, K = {plain(contract.strike)}, T = "
        f"{plain(contract.years)}, r = {plain(contract.rate / HUNDRED)} and sigma = "
        f"{plain(contract.volatility / HUNDRED)}:\n"
        f"1. d1 = [ln(S/K) + (r + sigma²/2) T] / (sigma √T) = {said['d1']}\n"
        f"2. d2 = d1 - sigma √T = {said['d2']}\n"
        f"3. N({sign}d1) = {said['n1']} and N({sign}d2) = {said['n2']}\n"
        f"4. The discounted strike is K exp(-rT) = {cash}\n"
        f"5. The price is {formula} = {terms} ≈ {price}\n"
        f"So the {contract.option_type} is worth about {talk.quote('price', form='money')}."
    )
    return talk.record(difficulty, steps=steps)


def quant_parity(draw: Draw) -> Conversation:
    """A put from a call, or a call from a put, by parity."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty, dividends=False)
    other = "put" if contract.option_type == "call" else "call"
    talk = Talk(draw, "quant_parity", contract.symbol)
    talk.compute(tool_call("black_scholes", **contract.arguments()))
    price = talk.quote("price", places=4)
    known = contract.symbol + price
    talk.user(contract_prompt(draw, PARITY, contract, "volatility", price=known, other=other))
    arguments = {**contract.arguments(), "spot": 0, "option_type": "put"}
    talk.compute(tool_call("black_scholes", **arguments))  # on a share worth nothing: K exp(-rT)
    cash = talk.quote("price", places=4)
    talk.compute(tool_call("black_scholes", **replace(contract, option_type=other).arguments()))
    found, spot = talk.quote("price", places=4), plain(contract.spot)
    formula = "put = call - S + K exp(-rT)" if other == "put" else "call = put + S - K exp(-rT)"
    numbers = f"{price} - {spot} + {cash}" if other == "put" else f"{price} + {spot} - {cash}"
    talk.say(
        f"By put-call parity {formula}. The discounted strike is {cash}, so the {other} is "
        f"{numbers} ≈ {found}. That holds for European options of one strike and expiry, without "
        "dividends, whatever the volatility."
    )
    return talk.record(difficulty)


def quant_concept(draw: Draw) -> Conversation:
    """A question that needs no tool, with tools at hand or without."""
    concept = draw.choice(tuple(CONCEPTS))
    talk = Talk(draw, "quant_concept")
    if draw.count(0, 1):
        talk.system(draw.choice(COMPANIONS))
    talk.user(fill(draw, CONCEPT, {"concept": concept}))
    talk.say(draw.choice(CONCEPTS[concept]))
    return talk.record("easy")


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_greek_meaning": quant_greek_meaning,
    "quant_worked_price": quant_worked_price,
    "quant_parity": quant_parity,
    "quant_concept": quant_concept,
}
