"""Arithmetic with every step exact: fractions, percentages, interest, units, small stories."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from lilith.data.instructions.conversations import (
    assistant,
    conversation,
    grouped,
    money_format,
    months,
    percent,
    plain,
    rounded,
    user,
)
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.exact import Chain, shown

BARE = (
    "What is {task}?",
    "Compute {task}.",
    "Calculate {task} step by step.",
    "{task} = ?",
    "Please work out {task}.",
    "Show me how to get {task}.",
    "I need {task}, with the steps.",
    "Solve: {task}",
    "How much is {task}?",
    "Find {task}. Explain each step.",
    "Can you evaluate {task} for me?",
    "My homework: {task}.",
)
TOLD = (
    "{story}",
    "{story} Show the steps.",
    "A question: {story}",
    "Please help. {story}",
    "{story} Explain how you get there.",
    "{story} Think step by step.",
    "Quick one: {story}",
    "Can you solve this? {story}",
    "{story} I want to follow the calculation.",
    "Word problem. {story}",
    "Check me on this: {story}",
)


def _record(
    kind: str, difficulty: str, ask: str, chain: Chain, value: Fraction, text: str
) -> Conversation:
    messages = [user(ask), assistant(chain.answer(text))]
    return conversation(kind, "general", difficulty, messages, chain.check(value))


def fractions(draw: Draw) -> Conversation:
    """Sums, products and quotients of fractions, over a common denominator."""
    difficulty = draw.difficulty()
    count = {"easy": 2, "medium": 2, "hard": 3}[difficulty]
    parts = [Fraction(int(draw.number("1", "20")), draw.count(2, 12)) for _ in range(count)]
    written = [str(part) for part in parts]
    chain = Chain()
    if difficulty == "medium":
        sign = draw.choice(("×", "÷"))
        task = f"{written[0]} {sign} {written[1]}"
        first, second = parts
        if sign == "÷":
            second = 1 / second
            chain.step(
                f"Dividing by {written[1]} is multiplying by its inverse",
                f"1/({written[1]})",
                fraction=True,
            )
        top = chain.step("Multiply the numerators", f"{first.numerator} * {second.numerator}")
        low = chain.step("Multiply the denominators", f"{first.denominator} * {second.denominator}")
        value = Fraction(top, low)
        chain.step("Put together and cancel", f"{top}/{low}", fraction=True)
    else:
        signs = [draw.choice(("+", "-")) for _ in parts[1:]]
        task = written[0] + "".join(f" {s} {w}" for s, w in zip(signs, written[1:]))
        common = math.lcm(*(part.denominator for part in parts))
        tops = [
            chain.step(
                f"{text} over {common} has the numerator",
                f"{part.numerator} * {common // part.denominator}",
            )
            for part, text in zip(parts, written)
        ]
        line = str(tops[0]) + "".join(f" {s} {t}" for s, t in zip(signs, tops[1:]))
        top = chain.step("Combine the numerators", line)
        value = top / common
        chain.step(f"Over {common}, in lowest terms", f"{top}/{common}", fraction=True)
    ask = draw.phrase(BARE).format(task=task)
    text = str(value)
    if difficulty == "hard" and value.denominator > 1:
        text += f", about {plain(value, 4)}"
    return _record("fractions", difficulty, ask, chain, value, text)


def percentages(draw: Draw) -> Conversation:
    """A share of an amount, a share found, a change undone, two changes in a row."""
    difficulty = draw.difficulty()
    amount, points = int(draw.number("40", "2035", "5")), draw.number("1", "60.5", "0.5")
    money, chain = money_format(draw), Chain()
    given, rate = money.format(grouped(amount)), percent(draw, points)
    factor = plain(points / 100, 4)
    if difficulty == "easy":
        ask = draw.phrase(BARE).format(task=f"{plain(points)}% of {given}")
        chain.step("The percentage as a number", f"{plain(points)} / 100")
        value = chain.step("Multiply", f"{amount} * {factor}")
    elif difficulty == "medium":
        second = draw.count(5, 40)
        story = (
            f"A price of {given} rises by {plain(points)}% and then falls by {second}%. "
            "What is it then?"
        )
        ask = draw.phrase(TOLD).format(story=story)
        up = chain.step("After the rise", f"{amount} * (1 + {factor})")
        value = chain.step("After the fall", f"{shown(up)} * (1 - {plain(Fraction(second, 100))})")
    else:
        # the price before must come out exact
        after = Fraction(amount) * (1 + Fraction(points) / 100)
        story = (
            f"After a rise of {rate} a position is worth {money.format(shown(after))}. "
            "What was it worth before?"
        )
        ask = draw.phrase(TOLD).format(story=story)
        growth = chain.step("The rise multiplies by", f"1 + {factor}")
        value = chain.step("Divide to undo it", f"{shown(after)} / {shown(growth)}")
    text = money.format(grouped(rounded(value, 2)))
    if rounded(value, 2) != value:
        text += ", rounded to cents"
    return _record("percentages", difficulty, ask, chain, value, text)


def compound_interest(draw: Draw) -> Conversation:
    """Yearly interest on a deposit, year by year, by the power, or with a payment in between."""
    difficulty = draw.difficulty()
    amount, points = int(draw.number("500", "20450", "50")), draw.number("1", "10.75", "0.25")
    years = {"easy": 2, "medium": 3, "hard": 3}[difficulty]
    money, chain = money_format(draw), Chain()
    rate = f"1 + {plain(points / 100, 5)}"
    given = money.format(grouped(amount))
    rule = f"{given} earns {percent(draw, points)} a year, compounded yearly."
    growth = shown(chain.step("The yearly factor", rate))
    if difficulty == "hard":
        extra = draw.count(1, 20) * 50
        story = (
            f"{rule} After the first year {money.format(grouped(extra))} is added. What is there "
            f"after {years} years?"
        )
        first = chain.step("After year 1", f"{amount} * {growth}")
        more = chain.step("With the payment", f"{shown(first)} + {extra}")
        factor = chain.step("Two more years multiply by", f"{growth} ** 2")
        value = chain.step("At the end", f"{shown(more)} * {shown(factor)}")
    elif difficulty == "medium":
        story = f"{rule} How much is it after {years} years?"
        factor = chain.step(f"{years} years multiply by", f"{growth} ** {years}")
        value = chain.step("At the end", f"{amount} * {shown(factor)}")
    else:
        story = f"{rule} How much is it after {years} years?"
        first = chain.step("After year 1", f"{amount} * {growth}")
        value = chain.step("After year 2", f"{shown(first)} * {growth}")
    text = money.format(f"{rounded(value, 2):,f}")
    text += ", rounded to cents" if rounded(value, 2) != value else ""
    ask = draw.phrase(TOLD).format(story=story)
    return _record("compound_interest", difficulty, ask, chain, value, text)


def simple_interest(draw: Draw) -> Conversation:
    """Interest for some months without compounding; a fee or the final sum at higher levels."""
    difficulty = draw.difficulty()
    amount, points = int(draw.number("500", "20450", "50")), draw.number("1", "10.75", "0.25")
    count = draw.choice((1, 2, 3, 4, 6, 9, 12, 15, 18, 24))
    money, chain = money_format(draw), Chain()
    story = (
        f"{money.format(grouped(amount))} for {months(draw, count)} at {percent(draw, points)} a "
        "year, simple interest."
    )
    year = chain.step("Interest of a year", f"{amount} * {plain(points / 100, 4)}")
    value = chain.step(f"For {count} of 12 months", f"{shown(year)} * {count} / 12")
    if difficulty == "easy":
        story += " How much interest is that?"
    else:
        fee = draw.count(1, 30) if difficulty == "hard" else 0
        story += " What is paid back in total"
        story += f", with a fee of {money.format(fee)}?" if fee else "?"
        tail = f" + {fee}" if fee else ""
        value = chain.step("With the capital", f"{amount} + {shown(value)}{tail}")
    text = money.format(f"{rounded(value, 2):,f}")
    text += ", rounded to cents" if rounded(value, 2) != value else ""
    ask = draw.phrase(TOLD).format(story=story)
    return _record("simple_interest", difficulty, ask, chain, value, text)


# from, to, what one of the first is in the second; all exact by definition
UNITS = (
    ("miles", "kilometres", "1.609344"), ("pounds", "kilograms", "0.45359237"),
    ("inches", "centimetres", "2.54"), ("feet", "metres", "0.3048"), ("hours", "seconds", "3600"),
    ("days", "minutes", "1440"), ("percent", "basis points", "100"), ("weeks", "hours", "168"),
    ("troy ounces", "grams", "31.1034768"), ("gibibytes", "mebibytes", "1024"),
    ("hectares", "square metres", "10000"), ("barrels", "US gallons", "42"),
)  # fmt: skip
UNIT_ASKS = (
    "Convert {amount} {a} to {b}.",
    "How many {b} are {amount} {a}?",
    "{amount} {a} in {b}?",
    "What is {amount} {a} in {b}?",
    "Express {amount} {a} in {b}, please.",
    "I have {amount} {a}. How many {b} is that?",
    "Turn {amount} {a} into {b}.",
    "Unit conversion: {amount} {a} to {b}.",
    "Our report needs {b}, I have {amount} {a}.",
    "Give {amount} {a} in {b}, with the calculation.",
    "From {a} to {b}: {amount}.",
)


def unit_conversion(draw: Draw) -> Conversation:
    """One unit in another, there, back, or in two stages with a rate."""
    difficulty = draw.difficulty()
    first, second, factor = draw.choice(UNITS)
    chain = Chain()
    tenths = plain(draw.number("2", "401.5", "0.5"))
    if difficulty == "medium":  # from the small unit to the large one
        first, second = second, first
        value = chain.step(
            f"From {second} to {first} the factor is {factor}, so divide", f"{tenths} / {factor}"
        )
    else:
        value = chain.step(
            f"From {first} to {second} the factor is {factor}, so multiply", f"{tenths} * {factor}"
        )
    ask = draw.phrase(UNIT_ASKS).format(amount=tenths, a=first, b=second)
    text = f"{shown(value) if '/' not in shown(value) else 'about ' + plain(value, 4)} {second}"
    if difficulty == "hard":
        price = int(draw.number("2", "99"))
        ask += f" And what do they cost at ${price} for each of the {second}?"
        cost = chain.step("Times the price", f"{shown(value)} * {price}")
        text += f", which cost ${rounded(cost, 2):,f}"
        value = cost
    return _record("unit_conversion", difficulty, ask, chain, value, text)


def _trade(draw: Draw, chain: Chain, level: int) -> tuple[str, Fraction, str]:
    shares, price = int(draw.number("10", "409")), draw.number("5", "204.75", "0.25")
    gain, fee = draw.count(-12, 20), draw.count(2, 15)
    later = price + gain if price + gain > 0 else price + 20
    story = f"I buy {shares} shares at ${plain(price)} and sell them at ${plain(later)}"
    story += f", with a fee of ${fee} on each trade." if level else "."
    paid = chain.step("Paid", f"{shares} * {plain(price)}")
    got = chain.step("Received", f"{shares} * {plain(later)}")
    value = chain.step("Difference", f"{shown(got)} - {shown(paid)}")
    if level:
        value = chain.step("Less two fees", f"{shown(value)} - 2 * {fee}")
    story += " What is my profit or loss?"
    return story, value, f"${{}}, a {'profit' if value > 0 else 'loss' if value < 0 else 'wash'}"


def _average(draw: Draw, chain: Chain, level: int) -> tuple[str, Fraction, str]:
    lots = [(int(draw.number("10", "209")), draw.count(10, 90)) for _ in range(2 + level)]
    bought = ", then ".join(f"{n} at ${p}" for n, p in lots)
    value = chain.step("Total cost", " + ".join(f"{n} * {p}" for n, p in lots))
    count = chain.step("Shares", " + ".join(str(n) for n, _ in lots))
    mean = chain.step("Average", f"{value} / {count}")
    return f"I bought {bought}. What is my average price per share?", mean, "${}"


def _shared(draw: Draw, chain: Chain, level: int) -> tuple[str, Fraction, str]:
    bonus, share = int(draw.number("1000", "20900", "100")), draw.count(2, 6) * 5
    people = draw.count(3, 8)
    story = f"A bonus of ${grouped(bonus)} is split: {share}% to the lead, the rest equally among "
    story += f"{people} analysts. What does each analyst get?"
    rest = chain.step("The rest", f"{bonus} * (1 - {plain(Fraction(share, 100))})")
    value = chain.step("Each analyst", f"{shown(rest)} / {people}")
    if level > 1:
        story = story.replace("What does", "Half of an analyst's part is paid next year. What does")
        story = story.replace(" get?", " get this year?")
        value = chain.step("Half of it now", f"({shown(rest)} / {people}) / 2")
    return story, value, "${}"


def _rate_of_work(draw: Draw, chain: Chain, level: int) -> tuple[str, Fraction, str]:
    a, b = int(draw.number("2", "21")), draw.count(3, 12)
    story = f"One batch server needs {a} hours for the risk run, another one {b} hours. How long "
    story += "do they need together?"
    rate = chain.step("Share of the run in an hour", f"1/{a} + 1/{b}")
    value = chain.step("Hours for the whole run", f"1 / ({shown(rate)})")
    if level > 1:
        story = story.replace("How long", "A third one needs 6 hours. How long")
        rate = chain.step("With the third server", f"{rate.numerator}/{rate.denominator} + 1/6")
        value = chain.step("Hours with all three", f"1 / ({rate.numerator}/{rate.denominator})")
    return story, value, "{} hours"


def _breakeven(draw: Draw, chain: Chain, level: int) -> tuple[str, Fraction, str]:
    fixed, price = int(draw.number("500", "5400", "100")), draw.count(20, 60)
    unit = draw.count(5, 15)
    story = f"A data service costs ${grouped(fixed)} a month to run and ${unit} for each client. "
    story += f"Each client pays ${price}. How many clients cover the costs?"
    margin = chain.step("Margin for a client", f"{price} - {unit}")
    value = chain.step("Clients", f"{fixed} / {margin}")
    whole = math.ceil(value)
    if level > 1:
        story += " And what is the profit with twice as many (rounded up) clients?"
        profit = chain.step("Profit with twice as many", f"2 * {whole} * {margin} - {fixed}")
        return story, profit, f"{whole} clients (rounded up); with {2 * whole} the profit is ${{}}"
    return story, Fraction(whole), "{} clients, rounded up to whole ones"


STORIES: Sequence[Callable[[Draw, Chain, int], tuple[str, Fraction, str]]] = (
    _trade, _average, _shared, _rate_of_work, _breakeven,
)  # fmt: skip


def word_problem(draw: Draw) -> Conversation:
    """A small story of a desk: trades, averages, shares, rates of work, break-even."""
    difficulty = draw.difficulty()
    chain = Chain()
    level = ("easy", "medium", "hard").index(difficulty)
    story, value, pattern = draw.choice(STORIES)(draw, chain, level)
    text = pattern.format(grouped(rounded(value, 2)))
    if rounded(value, 2) != value:
        text += f" (rounded; exactly {shown(value)})"
    ask = draw.phrase(TOLD).format(story=story)
    return _record("word_problem", difficulty, ask, chain, value, text)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "fractions": fractions,
    "percentages": percentages,
    "compound_interest": compound_interest,
    "simple_interest": simple_interest,
    "unit_conversion": unit_conversion,
    "word_problem": word_problem,
}
