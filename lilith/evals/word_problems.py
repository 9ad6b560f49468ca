"""Word problems of arithmetic and finance, written here, with answers that are exact.

Each template's numbers are drawn from a seed until its answer has at most two decimals. None of
them repeats a template of :mod:`lilith.data.instructions`, which models are tuned on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from lilith.config import UserError

SEED = 0
MOST_DRAWS = 1_000  # of the numbers of one problem
UNFIT = Fraction(-1)  # the value of numbers that do not come out even
Numbers = random.Random
Drawn = tuple[str, Fraction]  # a problem's text and its answer


@dataclass(frozen=True)
class Item:
    """A problem with its answer as it is written, such as "12.5" or "12%", and its topic."""

    problem: str
    answer: str
    topic: str


def word_problems(count: int = 100, seed: int = SEED) -> list[Item]:
    """``count`` different problems, their topics in turn; the same arguments give the same ones.

    Raises:
      UserError: the count is negative, or more than the templates can give.
    """
    if count < 0:
        raise UserError(f"count is {count}; give 0 or more problems")
    found: dict[str, Item] = {}
    topics = list(TEMPLATES)
    for place in range(count):
        topic = topics[place % len(topics)]
        own = TEMPLATES[topic]
        template = own[place // len(topics) % len(own)]
        item = _unseen(template, topic, random.Random(f"{seed}/{place}"), found)
        found[item.problem] = item
    return list(found.values())


def _unseen(
    template: Callable[[Numbers], Drawn], topic: str, numbers: Numbers, found: dict[str, Item]
) -> Item:
    """A problem of the template that is not in ``found``, with a short positive answer."""
    for _ in range(MOST_DRAWS):
        problem, value = template(numbers)
        if value > 0 and (value * 100).denominator == 1 and problem not in found:
            return Item(problem, _written(value) + ("%" if template in PERCENT else ""), topic)
    raise UserError(f"{template.__name__} has no more problems; ask for fewer than {len(found)}")


def _written(value: Fraction) -> str:
    """A number of at most two decimals, without zeros at its end."""
    whole = f"{float(value):.2f}"
    return whole.rstrip("0").rstrip(".")


def _money(value: Fraction | int) -> str:
    text = f"{float(value):,.2f}".removesuffix(".00")
    return f"${text}"


def _cents(numbers: Numbers, low: int, high: int, step: int = 5) -> Fraction:
    """An amount between two numbers of cents."""
    return Fraction(numbers.randrange(low, high + 1, step), 100)


def _crates(numbers: Numbers) -> Drawn:
    crates, each, bad = numbers.randint(6, 28), numbers.randint(12, 48), numbers.randint(5, 60)
    text = (
        f"A lorry brings {crates} crates with {each} melons in each. While it is unloaded, {bad} "
        "melons break. How many whole melons are there?"
    )
    return text, Fraction(crates * each - bad)


def _seats(numbers: Numbers) -> Drawn:
    rows, seats = numbers.randint(9, 32), numbers.randint(8, 26)
    boxes, places = numbers.randint(3, 9), numbers.randint(4, 8)
    text = (
        f"A theatre has {rows} rows of {seats} seats and {boxes} boxes for {places} people each. "
        "How many people can watch a play?"
    )
    return text, Fraction(rows * seats + boxes * places)


def _pages(numbers: Numbers) -> Drawn:
    pages, first, days = numbers.randint(180, 640), numbers.randint(20, 90), numbers.randint(4, 12)
    text = (
        f"Noor reads a novel of {pages} pages. On the first day she reads {first} pages. She wants "
        f"to finish the rest in {days} days with the same number each day. How many pages is that "
        "a day?"
    )
    left = Fraction(pages - first, days)
    return text, left if left.denominator == 1 else UNFIT


def _tank(numbers: Numbers) -> Drawn:
    liters, inflow, leak = numbers.randint(40, 300), numbers.randint(9, 25), numbers.randint(2, 7)
    minutes = numbers.randint(8, 40)
    text = (
        f"A tank holds {liters} litres. A pipe adds {inflow} litres a minute and a leak loses "
        f"{leak} litres a minute. How many litres are in it after {minutes} minutes?"
    )
    return text, Fraction(liters + minutes * (inflow - leak))


def _discount(numbers: Numbers) -> Drawn:
    price, share = numbers.randint(24, 480), numbers.randrange(5, 65, 5)
    text = f"A coat costs {_money(price)}. In a sale it is {share}% off. What is the sale price?"
    return text, Fraction(price * (100 - share), 100)


def _turnout(numbers: Numbers) -> Drawn:
    whole = numbers.randrange(200, 2_000, 20)
    came = numbers.randrange(whole // 5, whole * 9 // 10)
    text = f"Of {whole:,} members, {came:,} vote. What percent of the members vote?"
    return text, Fraction(100 * came, whole)


def _tip(numbers: Numbers) -> Drawn:
    bill, share = numbers.randint(36, 240), numbers.choice((10, 12, 15, 18, 20))
    people = numbers.randint(2, 6)
    text = (
        f"{people} friends eat for {_money(bill)}, add a tip of {share}% and pay equal parts. What "
        "does one of them pay?"
    )
    return text, Fraction(bill * (100 + share), 100 * people)


def _part_of_part(numbers: Numbers) -> Drawn:
    staff = numbers.randrange(200, 1_600, 50)
    office, bicycle = numbers.randrange(20, 90, 10), numbers.randrange(10, 70, 10)
    text = (
        f"A firm employs {staff:,} people. {office}% of them work in the head office, and "
        f"{bicycle}% of those come by bicycle. How many people come to the head office by bicycle?"
    )
    value = Fraction(staff * office * bicycle, 10_000)
    return text, value if value.denominator == 1 else UNFIT


def _savings_interest(numbers: Numbers) -> Drawn:
    amount, rate = numbers.randrange(400, 9_000, 100), numbers.randrange(2, 18)
    text = (
        f"Ines puts {_money(amount)} into a savings account that pays {rate / 2:g}% interest once "
        "a year. How many dollars of interest does she get for the first year?"
    )
    return text, Fraction(amount * rate, 200)


def _loan_rate(numbers: Numbers) -> Drawn:
    amount, rate = numbers.randrange(1_000, 12_000, 500), numbers.randint(3, 12)
    years = numbers.randint(2, 6)
    interest = amount * rate * years // 100
    text = (
        f"Omar borrows {_money(amount)} for {years} years. The interest, not compounded, comes to "
        f"{_money(interest)} over the whole time. What is the yearly interest rate in percent?"
    )
    return text, Fraction(rate)


def _card(numbers: Numbers) -> Drawn:
    debt, rate = numbers.randrange(200, 3_000, 50), numbers.choice((1, 2, 3))
    paid = numbers.randrange(20, 180, 10)
    text = (
        f"A credit card charges {rate}% a month on what is owed. Lena owes {_money(debt)}; first "
        f"the month's charge is added, then she pays {_money(paid)}. What does she owe then?"
    )
    return text, Fraction(debt * (100 + rate), 100) - paid


def _two_accounts(numbers: Numbers) -> Drawn:
    one, two = numbers.randrange(500, 6_000, 100), numbers.randrange(500, 6_000, 100)
    low, high = numbers.randint(1, 4), numbers.randint(5, 9)
    text = (
        f"Account A holds {_money(one)} at {low}% and account B {_money(two)} at {high}% a year. "
        "How much interest do both pay together in one year?"
    )
    return text, Fraction(one * low + two * high, 100)


def _kilo(numbers: Numbers) -> Drawn:
    kilos, price = numbers.randint(2, 12), _cents(numbers, 150, 960)
    text = (
        f"A bag of {kilos} kg of rice costs {_money(kilos * price)}. What does one kilogram cost?"
    )
    return text, price


def _cheaper(numbers: Numbers) -> Drawn:
    small, large = numbers.randint(2, 5), numbers.randint(6, 12)
    one, two = _cents(numbers, 60, 240), _cents(numbers, 30, 200)
    text = (
        f"A pack of {small} batteries costs {_money(small * one)} and a pack of {large} costs "
        f"{_money(large * two)}. How many dollars less does one battery of the large pack cost?"
    )
    return text, one - two


def _fabric(numbers: Numbers) -> Drawn:
    metres, price = numbers.randint(3, 9), _cents(numbers, 400, 1_900)
    wanted = metres + numbers.randint(2, 9)
    text = (
        f"{metres} metres of cloth cost {_money(metres * price)}. At the same price a metre, what "
        f"do {wanted} metres cost?"
    )
    return text, wanted * price


def _basket(numbers: Numbers) -> Drawn:
    pears, figs = numbers.randint(3, 14), numbers.randint(2, 9)
    one, two = _cents(numbers, 25, 120), _cents(numbers, 40, 190)
    text = (
        f"Pears cost {_money(one)} and figs {_money(two)} apiece. What do {pears} pears and {figs} "
        "figs cost together?"
    )
    return text, pears * one + figs * two


def _shift(numbers: Numbers) -> Drawn:
    start, minutes = numbers.randint(6, 10), numbers.randrange(5, 60, 5)
    hours, rest = numbers.randint(3, 9), numbers.choice((15, 20, 30, 45))
    end = start * 60 + minutes + hours * 60
    text = (
        f"A shift goes from {start}:{minutes:02d} to {end // 60}:{end % 60:02d} with a break of "
        f"{rest} minutes, which is not paid. How many minutes are paid?"
    )
    return text, Fraction(hours * 60 - rest)


def _buses(numbers: Numbers) -> Drawn:
    one, two = numbers.choice(((6, 8), (6, 9), (8, 12), (9, 12), (10, 15), (12, 18), (8, 10)))
    start = numbers.randint(5, 11)
    text = (
        f"Line 1 leaves every {one} minutes and line 2 every {two} minutes. Both leave at "
        f"{start}:00. After how many minutes do they next leave together?"
    )
    return text, Fraction(math.lcm(one, two))


def _sprint(numbers: Numbers) -> Drawn:
    points, pace, off = numbers.randint(60, 240), numbers.randint(4, 12), numbers.randint(5, 40)
    text = (
        f"A team has {points} points of work left and finishes {pace} points a day. After {off} "
        "points are taken out of the plan, how many days does it need?"
    )
    left = Fraction(points - off, pace)
    return text, left if left.denominator == 1 else UNFIT


def _train(numbers: Numbers) -> Drawn:
    speed, hours = numbers.randrange(60, 180, 10), numbers.randint(2, 6)
    late = numbers.randrange(10, 35, 5)
    text = (
        f"A train goes {speed} km in an hour. It drives for {hours} hours, waits for {late} "
        "minutes and drives for another half hour. How many kilometres has it gone?"
    )
    return text, Fraction(speed * (2 * hours + 1), 2)


def _price_return(numbers: Numbers) -> Drawn:
    price, change = numbers.randrange(20, 200, 5), numbers.randint(2, 24)
    later = price * Fraction(100 + change, 100)
    text = f"A share rises from {_money(price)} to {_money(later)}. What is its return in percent?"
    return text, Fraction(change) if (later * 100).denominator == 1 else UNFIT


def _total_return(numbers: Numbers) -> Drawn:
    price, gain = numbers.randrange(25, 160, 5), numbers.randint(1, 20)
    dividend = numbers.randint(1, 6)
    text = (
        f"A share costs {_money(price)} at the start of the year and {_money(price + gain)} at its "
        f"end. It pays a dividend of {_money(dividend)}. What is the total return in percent, "
        "dividend included?"
    )
    return text, Fraction(100 * (gain + dividend), price)


def _two_years(numbers: Numbers) -> Drawn:
    up, down = numbers.randrange(5, 45, 5), numbers.randrange(5, 35, 5)
    text = (
        f"A fund gains {up}% in its first year and loses {down}% in its second. Out of each $100 "
        "that were put in at the start, how many dollars are there at the end?"
    )
    return text, Fraction((100 + up) * (100 - down), 100)


def _recover(numbers: Numbers) -> Drawn:
    before = numbers.randrange(80, 900, 20)
    loss = numbers.choice((10, 20, 25, 40, 50, 60, 75))
    after = Fraction(before * (100 - loss), 100)
    text = (
        f"A position of {_money(before)} loses {loss}%. By how many dollars must it rise to be "
        "back at its first value?"
    )
    return text, before - after


def _weights(numbers: Numbers) -> Drawn:
    stocks = numbers.randrange(10, 95, 5)
    high, low = numbers.randint(6, 14), numbers.randint(1, 5)
    text = (
        f"A portfolio is {stocks}% shares and {100 - stocks}% bonds. The shares return {high}% and "
        f"the bonds {low}%. What is the portfolio's return in percent?"
    )
    return text, Fraction(stocks * high + (100 - stocks) * low, 100)


def _rebalance(numbers: Numbers) -> Drawn:
    shares, bonds = numbers.randrange(3_000, 9_000, 100), numbers.randrange(1_000, 6_000, 100)
    target = numbers.randrange(30, 70, 10)
    text = (
        f"Yara holds {_money(shares)} in shares and {_money(bonds)} in bonds and wants {target}% "
        "of the whole in shares. For how many dollars must she sell shares and buy bonds?"
    )
    return text, shares - Fraction((shares + bonds) * target, 100)


def _holdings(numbers: Numbers) -> Drawn:
    one, two = numbers.randint(5, 60), numbers.randint(5, 60)
    high, low, cash = numbers.randint(30, 190), numbers.randint(8, 70), numbers.randint(50, 900)
    text = (
        f"A portfolio holds {one} shares worth {_money(high)} each, {two} shares worth "
        f"{_money(low)} each, and {_money(cash)} in cash. What is the portfolio worth?"
    )
    return text, Fraction(one * high + two * low + cash)


def _weight_of(numbers: Numbers) -> Drawn:
    gold, rest = numbers.randrange(500, 4_000, 100), numbers.randrange(2_000, 12_000, 100)
    text = (
        f"Of a portfolio of {_money(gold + rest)}, {_money(gold)} are in gold. What percent of the "
        "portfolio is gold?"
    )
    return text, Fraction(100 * gold, gold + rest)


def _call(numbers: Numbers) -> Drawn:
    strike, above = numbers.randrange(40, 160, 5), numbers.randint(4, 30)
    premium = _cents(numbers, 100, 350, 25)
    text = (
        f"Kai buys a call with strike {_money(strike)} for {_money(premium)} a share. At expiry "
        f"the share is at {_money(strike + above)}. What is the profit per share in dollars?"
    )
    return text, above - premium


def _put(numbers: Numbers) -> Drawn:
    strike, below = numbers.randrange(50, 160, 5), numbers.randint(3, 25)
    lots = numbers.randint(2, 9)
    text = (
        f"A trader holds {lots} put contracts on 100 shares each, strike {_money(strike)}. At "
        f"expiry the share is at {_money(strike - below)}. What do the contracts pay in all?"
    )
    return text, Fraction(lots * 100 * below)


def _breakeven_call(numbers: Numbers) -> Drawn:
    strike, premium = numbers.randrange(40, 160, 5), _cents(numbers, 100, 950, 25)
    text = (
        f"A call with strike {_money(strike)} costs {_money(premium)}. At what share price at "
        "expiry does its buyer neither gain nor lose?"
    )
    return text, strike + premium


def _covered(numbers: Numbers) -> Drawn:
    paid, gap = numbers.randint(40, 120), numbers.randint(2, 15)
    premium, end = _cents(numbers, 100, 400, 50), numbers.randint(1, 20)
    text = (
        f"Mara owns a share bought at {_money(paid)} and sells a call on it with strike "
        f"{_money(paid + gap)} for {_money(premium)}. The share ends at "
        f"{_money(paid + gap + end)} and is called away. What is her whole gain in dollars?"
    )
    return text, gap + premium


TEMPLATES: dict[str, tuple[Callable[[Numbers], Drawn], ...]] = {
    "arithmetic": (_crates, _seats, _pages, _tank),
    "percentages": (_discount, _turnout, _tip, _part_of_part),
    "interest": (_savings_interest, _loan_rate, _card, _two_accounts),
    "unit prices": (_kilo, _cheaper, _fabric, _basket),
    "schedules": (_shift, _buses, _sprint, _train),
    "returns": (_price_return, _total_return, _two_years, _recover),
    "portfolios": (_weights, _rebalance, _holdings, _weight_of),
    "option payoffs": (_call, _put, _breakeven_call, _covered),
}
# Their answers are percentages.
PERCENT = frozenset({_turnout, _loan_rate, _price_return, _total_return, _weights, _weight_of})
