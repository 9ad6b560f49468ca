"""Arithmetic done with tools: a calculator call, or a program run in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from string import Template
from typing import Any, NamedTuple

from lilith.data.instructions.code_reading import printed
from lilith.data.instructions.conversations import assistant, called, conversation, plain, user
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.exact import CALCULATOR, EXECUTE_PYTHON, evaluate, json_number
from lilith.data.instructions.tool_text import system_message

SURE = (
    "{question}",
    "Please use the calculator: {question}",
    "{question} Use a tool, I need it exact.",
    "Quick calculation: {question}",
    "{question} Do not guess.",
    "Can you work this out? {question}",
    "For my sheet: {question}",
    "{question} Two decimals are fine.",
    "One number, please. {question}",
    "I trust your calculator more than mine: {question}",
    "Help me with a sum. {question}",
)


class Sum(NamedTuple):
    """A question, its expression, what the answer says about the value, and a second stage.

    ``then``: a further question and an expression of ``$value``, for the hard level.
    """

    question: str
    expression: str
    says: str
    then: tuple[str, str, str]


SUMS = (
    Sum("what do $n shares at $$$p cost, with a commission of $f%?", "$n * $p * (1 + $f / 100)",
        "The shares cost ${}, commission included.",
        ("And what is a tenth of that?", "$value / 10", "A tenth is ${}.")),
    Sum("what is $n × $p − $q × $k?", "$n * $p - $q * $k", "The result is {}.",
        ("And its square?", "($value) ** 2", "Its square is {}.")),
    Sum("an index goes from $n to $q. How many percent is that?", "($q - $n) / $n * 100",
        "That is a change of {}%.",
        ("How many percent would undo it?", "(1 / (1 + $value / 100) - 1) * 100",
         "A change of {}% would undo it.")),
    Sum("$$$q grow at $k% a year for $y years. To how much?", "$q * (1 + $k / 100) ** $y",
        "They grow to ${}.",
        ("How much of it is interest?", "$value - $q", "Of that ${} is interest.")),
    Sum("a bond pays $k% on $$$q, $y times. How much in all?", "$q * $k / 100 * $y",
        "The coupons sum to ${}.",
        ("After a tax of 25%?", "$value * (1 - 0.25)", "After tax ${} is left.")),
    Sum("what is the mean of $n, $p, $q and $k?", "($n + $p + $q + $k) / 4", "The mean is {}.",
        ("And how far is $q above it?", "$q - ($value)", "{q} is {} above it.")),
    Sum("a fund charges $k basis points on $$$q. What is the yearly fee?", "$q * $k / 10000",
        "The fee is ${} a year.",
        ("And over $y years, the amount unchanged?", "$value * $y", "Over that time it is ${}.")),
    Sum("what is the cube of $p divided by $n?", "$p ** 3 / $n", "The result is {}.",
        ("Add $q to it.", "$value + $q", "With {q} added it is {}.")),
)  # fmt: skip


def _numbers(draw: Draw) -> dict[str, str]:
    return {
        "n": str(int(draw.number("11", "410"))), "p": plain(draw.number("5", "104.75", "0.25")),
        "q": str(int(draw.number("1000", "9990", "10"))), "k": str(draw.count(2, 45)),
        "y": str(draw.count(2, 6)), "f": plain(Fraction(draw.count(1, 19), 20)),
    }  # fmt: skip


def _said(value: Fraction) -> str:
    """As an answer says it: two decimals, or four where the value is below 1."""
    return plain(value, 2 if abs(value) >= 1 else 4)


def calculator(draw: Draw) -> Conversation:
    """A sum by a call of the calculator; two in a row at the hard level."""
    difficulty = draw.difficulty()
    numbers = _numbers(draw)
    kind = draw.choice(SUMS[:2] + SUMS[4:7] if difficulty == "easy" else SUMS)
    question = Template(kind.question).substitute(numbers)
    expression = Template(kind.expression).substitute(numbers)
    value = evaluate(expression)
    calls = [[expression, str(value)]]
    messages = called("calculator", {"expression": expression}, {"value": json_number(value)})
    text = _sentence(kind.says, numbers, value)
    if difficulty == "hard":
        further, next_expression, says = kind.then
        question += " " + Template(further).substitute(numbers)
        carried = str(json_number(value))  # what the tool answered, in the next call
        second = Template(next_expression).substitute(numbers | {"value": carried})
        value = evaluate(second)
        calls.append([second, str(value)])
        messages += called("calculator", {"expression": second}, {"value": json_number(value)})
        text += " " + _sentence(says, numbers, value)
    ask = draw.phrase(SURE).format(question=question)
    ask = ask[0].upper() + ask[1:]
    tools = draw.choice(((CALCULATOR,), (CALCULATOR, EXECUTE_PYTHON)))
    system = {"role": "system", "content": system_message(tools, draw.choice)}
    check = {"calls": calls, "answer": str(value)}
    return conversation(
        "calculator", "general", difficulty, [system, user(ask), *messages, assistant(text)], check
    )  # fmt: skip


def _sentence(pattern: str, numbers: dict[str, str], value: Fraction) -> str:
    shown = _said(value)
    about = "" if Fraction(shown) == value else "about "
    money = pattern.replace("${}", f"{about}${shown}")
    return money.replace("{}", about + shown).replace("{q}", numbers["q"])


class Program(NamedTuple):
    """A question that a short program answers; ``$out`` in ``says`` is what it prints."""

    question: str
    code: str
    says: str
    level: int


PROGRAMS = (
    Program("How many weekdays lie between $first and $last, both included?",
            """\
from datetime import date, timedelta

day, last = date.fromisoformat('$first'), date.fromisoformat('$last')
count = 0
while day <= last:
    count += day.weekday() < 5
    day += timedelta(days=1)
print(count)
""", "There are $out weekdays.", 1),
    Program("I save $$$a each month at $k% a year, credited monthly at a twelfth. What is "
            "there after $y years?",
            """\
balance = 0.0
for month in range($y * 12):
    balance = (balance + $a) * (1 + $k / 100 / 12)
print(round(balance, 2))
""",
            "After $y years there are $$$out, each payment made at the start of its month.", 1),
    Program("What is the sum of the squares from 1 to $n?",
            """\
print(sum(i * i for i in range(1, $n + 1)))
""", "The sum is $out.", 0),
    Program("How many primes are there below $n?",
            """\
def is_prime(n):
    return n > 1 and all(n % i for i in range(2, int(n**0.5) + 1))


print(sum(is_prime(i) for i in range($n)))
""", "There are $out primes below $n.", 1),
    Program("What is the sample standard deviation of $list?",
            """\
import statistics

print(round(statistics.stdev([$list]), 4))
""",
            "It is $out (dividing by n − 1, rounded to four decimals).", 0),
    Program("A loan of $$$q at $k% a year is paid back monthly over $y years. What is the payment?",
            """\
rate, count = $k / 100 / 12, $y * 12
payment = $q * rate / (1 - (1 + rate) ** -count)
print(round(payment, 2))
""", "The payment is $$$out a month.", 1),
    Program("Sort $list and give the median.",
            """\
import statistics

values = sorted([$list])
print(values, statistics.median(values))
""",
            "Sorted list and median: $out.", 0),
    Program("In how many years does $$$a at $k% a year exceed $$$q?",
            """\
money, years = $a, 0
while money <= $q:
    money *= 1 + $k / 100
    years += 1
print(years)
""", "It takes $out full years.", 1),
    Program("What is the largest fall from a peak in the prices $list, in percent?",
            """\
peak, worst = 0, 0.0
for price in [$list]:
    peak = max(peak, price)
    worst = max(worst, 1 - price / peak)
print(round(worst * 100, 2))
""",
            "The largest fall is $out%.", 2),
    Program("In how many ways can $n dollars be paid with notes of 1, 5, 10 and 20?",
            """\
ways = [1] + [0] * $n
for note in (1, 5, 10, 20):
    for amount in range(note, $n + 1):
        ways[amount] += ways[amount - note]
print(ways[$n])
""",
            "There are $out ways.", 2),
    Program("What internal rate of return does paying $$$q and getting $$$back a year for "
            "$y years have?",
            """\
low, high = -0.9, 1.0
for _ in range(100):
    rate = (low + high) / 2
    value = sum($back / (1 + rate) ** year for year in range(1, $y + 1)) - $q
    low, high = (rate, high) if value > 0 else (low, rate)
print(round(rate * 100, 2))
""",
            "The internal rate of return is $out%.", 2),
    Program("Which date is $n days after $first, and which weekday?",
            """\
from datetime import date, timedelta

day = date.fromisoformat('$first') + timedelta(days=$n)
print(day.isoformat(), day.strftime('%A'))
""", "It is $out.", 0),
)  # fmt: skip
RUN = (
    "{question}",
    "Please run Python for this. {question}",
    "{question} Use code.",
    "Compute it with a program: {question}",
    "{question} I want it computed, not estimated.",
    "Could you check with Python? {question}",
    "A question for the sandbox: {question}",
    "{question} Run it, please.",
    "Do not do this in your head. {question}",
    "Let the computer do it: {question}",
    "{question} Just the result.",
)


def _details(draw: Draw) -> dict[str, str]:
    month = f"{draw.count(1, 12):02d}"
    first = f"20{int(draw.number('20', '39'))}-{month}-{draw.count(1, 28):02d}"
    last = f"{int(first[:4]) + draw.count(0, 1)}-12-{draw.count(1, 31):02d}"
    price = int(draw.number("2000", "9990", "10"))
    years = draw.count(3, 9)
    return {
        "first": first, "last": last, "n": str(int(draw.number("20", "619"))),
        "a": str(int(draw.number("50", "995", "5"))), "k": plain(Fraction(draw.count(4, 30), 4)),
        "y": str(years), "q": str(price), "back": str(price // years + draw.count(20, 400)),
        "list": ", ".join(str(int(draw.number("10", "209"))) for _ in range(draw.count(6, 9))),
    }  # fmt: skip


def python_tool(draw: Draw) -> Conversation:
    """A question answered by a program whose output comes from running it."""
    details = _details(draw)
    program = draw.choice(PROGRAMS)
    code = Template(program.code).substitute(details)
    stdout, _ = printed(code)
    question = Template(program.question).substitute(details)
    text = Template(program.says).substitute(details | {"out": stdout.strip()})
    ask = draw.phrase(RUN).format(question=question)
    tools: Sequence[Any] = draw.choice(((EXECUTE_PYTHON,), (CALCULATOR, EXECUTE_PYTHON)))
    messages = [
        {"role": "system", "content": system_message(tools, draw.choice)},
        user(ask),
        *called("execute_python", {"code": code}, {"status": "ok", "stdout": stdout}),
        assistant(text),
    ]
    check = {"code": {"by": "tool"}, "stdout": stdout}
    return conversation(
        "python_tool", "general", ("easy", "medium", "hard")[program.level], messages, check
    )  # fmt: skip


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "calculator": calculator,
    "python_tool": python_tool,
}
