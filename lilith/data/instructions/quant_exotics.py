"""Options beyond the European ones, by tool: American, barrier, Asian, Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_options import contract_prompt
from lilith.data.instructions.quant_talk import Talk, run, tool_call
from lilith.data.instructions.quant_words import Contract, draw_contract, money
from lilith.data.instructions.tool_text import exact

AMERICAN = (
    "Price an American {kind}{how}: {contract}.",
    "What is an American-style {kind} worth{how}, with {contract}?",
    "Value this {kind}, which may be exercised early{how}: {contract}.",
    "I need the premium of an American {kind}{how}. {contract}.",
    "How much does the holder pay for an American {kind}{how} if we have {contract}?",
    "{contract}. Price of the American {kind}{how}?",
    "American exercise, {kind}, {contract}. Find the price{how}.",
    "Compute an American {kind}{how} for {contract}.",
    "How much is early exercise worth here? American {kind}{how}, {contract}.",
    "Please tell me the fair value of an American {kind} option{how} given {contract}.",
    "An American {kind} is on offer; {contract}. What should it cost{how}?",
)
BARRIER = (
    "Price a {style} {kind} with a barrier at {barrier}: {contract}.",
    "What is a {style} {kind} worth, barrier {barrier}, {contract}?",
    "Value a European {style} barrier {kind}: barrier {barrier}, {contract}.",
    "I want a {style} {kind}. The barrier is {barrier}; {contract}. Premium?",
    "Give the fair price of this {style} {kind} whose barrier lies at {barrier}: {contract}.",
    "{contract}. The option is a {style} {kind}, barrier level {barrier}. Price it.",
    "How much cheaper than the vanilla is a {style} {kind} with barrier {barrier}? {contract}.",
    "Compute the {style} {kind} price, H={barrier}, {contract}.",
    "A client asks for a {style} {kind} struck away from its {barrier} barrier: {contract}. Quote.",
    "With {contract}, what does a {style} {kind} cost if its barrier sits at {barrier}?",
    "Barrier option, {style}, level {barrier}, {kind}: {contract}.",
    "Price this {kind}, {style} at {barrier}, with {contract}.",
    "I hold a {kind} that is {style} at {barrier}; {contract}. Its value?",
    "Please value a {style} {kind}: {contract}, and the barrier is {barrier}.",
    "The {kind} is {style} with H at {barrier}. Terms: {contract}. Find its price.",
)
ASIAN = (
    "Price an Asian {kind} on the {average} average of {fixings} fixings: {contract}.",
    "What is a {kind} on the {average} mean worth ({fixings} fixings), {contract}?",
    "Value an {average}-average Asian {kind} with {fixings} fixings and {contract}.",
    "I need an Asian {kind}: {average} average, {fixings} equally spaced fixings, {contract}.",
    "Find the premium of a {kind} paid on the {average} average over {fixings} dates: {contract}.",
    "{contract}. Asian {kind}, {average} averaging, {fixings} fixings. Price?",
    "Average-price {kind}, {average}, {fixings} observations: {contract}. What does it cost?",
    "Compute the price of an Asian option ({average}, {fixings} fixings, {kind}) for {contract}.",
    "Our commodity desk buys an {average} Asian {kind} with {fixings} fixings; {contract}. Value?",
    "How much is an average-rate {kind} ({fixings} fixings, {average} mean) when {contract}?",
    "Asian {kind}: {contract}; {fixings} fixings, {average}. Premium?",
    "With {contract}, what is an Asian {kind} worth ({average} average, {fixings} fixings)?",
    "Averaging is {average} over {fixings} fixings. Price the {kind} if {contract}.",
    "Give me the value of a {kind} on {fixings} {average} average fixings; {contract}.",
    "Please quote an Asian {kind}, {fixings} fixings and {average} averaging: {contract}.",
)
SIMULATION = (
    "Run a Monte Carlo with {paths} paths for {what} {kind}: {contract}.",
    "Price {what} {kind} by simulation, {paths} paths, {contract}.",
    "Simulate {paths} paths and value {what} {kind}: {contract}.",
    "Monte Carlo price of {what} {kind}, please, {paths} paths: {contract}.",
    "Estimate by {paths} random paths what {what} {kind} is worth if {contract}.",
    "{contract}. Use {paths} Monte Carlo paths to price {what} {kind}.",
    "What does a simulation of {paths} paths say about {what} {kind} with {contract}?",
    "I want a simulated value ({paths} paths) of {what} {kind} and its standard error: {contract}.",
    "Value {what} {kind} with Monte Carlo. Paths: {paths}. Market: {contract}.",
    "With {paths} simulated paths, how much is {what} {kind}? Assume {contract}.",
    "Please price {what} {kind} by Monte Carlo ({paths} paths), given {contract}.",
    "Simulation, {paths} paths, {what} {kind}: {contract}.",
    "Take {what} {kind} with {contract}. How much is it worth on {paths} simulated paths?",
    "Check this by brute force: {what} {kind}, {contract}, {paths} random paths.",
    "How much is {what} {kind} by Monte Carlo? Draw {paths} paths; {contract}.",
)
SEEDS = ("Use seed {}.", "Seed {}.", "Set the random seed to {}.", "Seed: {}.", "The seed is {}.")
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("", {}),
    ("", {}),
    (" on a CRR tree of 200 steps", {"method": "binomial_crr", "steps": 200}),
    (" with a 200-step Cox-Ross-Rubinstein lattice", {"method": "binomial_crr", "steps": 200}),
)
STYLES = {
    "down-out": ("down-and-out", "down-out"),
    "down-in": ("down-and-in", "down-in"),
    "up-out": ("up-and-out", "up-out"),
    "up-in": ("up-and-in", "up-in"),
}
DISTANCES = ("0.70", "0.95")  # of a barrier below the spot; above it is as far
LEAST_PRICE = 0.01
SMALL = 5e-4  # an early exercise premium that is not worth a word
FIXINGS = ("4", "6", "12", "24")
# What is simulated, of how many steps, and the simulation's kind.
SIMULATED = (
    ("a European", "european"),
    ("a plain European", "european"),
    ("a {}-fixing arithmetic Asian", "asian_arithmetic"),
    ("an arithmetic-average, {}-step Asian", "asian_arithmetic"),
)
STEPS = (6, 12)
PATHS = (("10,000", 10_000), ("10000", 10_000), ("50,000", 50_000), ("50k", 50_000),
         ("10k", 10_000))  # fmt: skip


def quant_american(draw: Draw) -> Conversation:
    """An American option and what early exercise adds."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    how, chosen = draw.choice(METHODS)
    talk = Talk(draw, "quant_american", contract.symbol)
    talk.system("american_option")
    talk.user(contract_prompt(draw, AMERICAN, contract, how=how))
    talk.call(tool_call("american_option", **contract.arguments(), **chosen))
    price = talk.quote("price", form="money")
    european = talk.quote("european_price", form="money")
    gap = talk.figure("early_exercise_premium")
    text = f"The American {contract.option_type} is worth {price}. The European one is worth "
    text += european
    if gap < SMALL:
        text += ", so the right to exercise early adds next to nothing here."
    elif chosen:
        difference = talk.quote("early_exercise_premium", form="money")
        text += (
            f" by formula. The difference of {difference} is what early exercise adds, and the "
            "small error of the lattice."
        )
    else:
        premium = talk.quote("early_exercise_premium", form="money")
        text += f", so the right to exercise early adds {premium}."
    talk.say(text)
    return talk.record(difficulty)


def barrier_call(contract: Contract, kind: str, level: Decimal) -> dict[str, Any]:
    """The tool call for an option with a barrier of ``kind`` at ``level``."""
    arguments = {**contract.arguments(), "barrier": exact(level), "barrier_type": kind}
    return tool_call("barrier_option", **arguments)


def draw_barrier(draw: Draw, difficulty: str) -> tuple[Contract, str, Decimal]:
    """An option, a kind of barrier and its level, such that the option is worth something."""
    while True:
        contract, kind = draw_contract(draw, difficulty), draw.choice(tuple(STYLES))
        distance = draw.number(*DISTANCES, "0.01")
        ratio = distance if kind.startswith("down") else 2 - distance
        unit = Decimal(10) if contract.spot >= 1000 else Decimal(1)
        level = (contract.spot * ratio / unit).to_integral_value() * unit
        if run(barrier_call(contract, kind, level))["result"]["price"] >= LEAST_PRICE:
            return contract, kind, level


def quant_barrier(draw: Draw) -> Conversation:
    """A barrier option beside the option without the barrier."""
    difficulty = draw.difficulty()
    contract, kind, level = draw_barrier(draw, difficulty)
    talk = Talk(draw, "quant_barrier", contract.symbol)
    talk.system("barrier_option")
    said = money(draw, level, contract.symbol)
    style = draw.choice(STYLES[kind])
    talk.user(contract_prompt(draw, BARRIER, contract, barrier=said, style=style))
    talk.call(barrier_call(contract, kind, level))
    price = talk.quote("price", form="money")
    plain_price = talk.quote("european_price", form="money")
    fate = "ends" if kind.endswith("out") else "starts"
    talk.say(
        f"The {STYLES[kind][0]} {contract.option_type} is worth {price}, against {plain_price} "
        f"without the barrier: touching {contract.symbol}{plain(level)} {fate} the option, and the "
        "buyer pays only for the paths that remain."
    )
    return talk.record(difficulty)


def quant_asian(draw: Draw) -> Conversation:
    """An option on an average."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    average, fixings = draw.choice(("arithmetic", "geometric")), draw.choice(FIXINGS)
    talk = Talk(draw, "quant_asian", contract.symbol)
    talk.system("asian_option")
    talk.user(contract_prompt(draw, ASIAN, contract, average=average, fixings=fixings))
    chosen = {"average": average, "fixings": int(fixings)}
    talk.call(tool_call("asian_option", **contract.arguments(), **chosen))
    price = talk.quote("price", form="money")
    forms = (
        f"The Asian {contract.option_type} is worth {price}. Averaging {fixings} fixings smooths "
        "the payoff, so it usually costs less than the European option.",
        f"About {price}: what one pays today for a {contract.option_type} on the {average} mean of "
        f"{fixings} prices.",
    )
    talk.say(draw.choice(forms))
    return talk.record(difficulty)


def quant_monte_carlo(draw: Draw) -> Conversation:
    """A simulated price with its error."""
    difficulty = draw.difficulty()
    contract = draw_contract(draw, difficulty)
    what, simulated = draw.choice(SIMULATED)
    said, paths = draw.choice(PATHS)
    chosen: dict[str, Any] = {"paths": paths}
    if simulated != "european":
        chosen |= {"kind": simulated, "steps": draw.choice(STEPS)}
        what = what.format(chosen["steps"])
    if difficulty == "hard":
        chosen["seed"] = draw.count(1, 99)
    talk = Talk(draw, "quant_monte_carlo", contract.symbol)
    talk.system("monte_carlo_option")
    asked = contract_prompt(draw, SIMULATION, contract, what=what, paths=said)
    if "seed" in chosen:
        asked += " " + draw.phrase(SEEDS).format(chosen["seed"])
    talk.user(asked)
    talk.call(tool_call("monte_carlo_option", **contract.arguments(), **chosen))
    low = talk.quote("confidence_interval_95", 0, form="money")
    high = talk.quote("confidence_interval_95", 1, form="money")
    talk.say(
        f"The simulation gives {talk.quote('price', form='money')} with a standard error of "
        f"{talk.quote('standard_error', places=4)}: the 95% confidence interval is {low} to "
        f"{high}. The exact price is {talk.quote('exact_price', form='money')}."
    )
    return talk.record(difficulty)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_american": quant_american,
    "quant_barrier": quant_barrier,
    "quant_asian": quant_asian,
    "quant_monte_carlo": quant_monte_carlo,
}
