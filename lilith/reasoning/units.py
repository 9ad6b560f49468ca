"""Units of measure and the words of numbers, as answers and steps write them."""

from __future__ import annotations

from fractions import Fraction

# Unit: (dimension, how many of the dimension's base unit). Dimensions without a base in SI count
# in the unit that is named first. Feet, pounds and gallons are the international and US ones.
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "m metre meter": "1", "km kilometre kilometer": "1000", "cm centimetre centimeter": "0.01",
        "mm millimetre millimeter": "0.001", "mi mile": "1609.344", "yd yard": "0.9144",
        "ft foot feet": "0.3048", "inch inches": "0.0254",
    },
    "mass": {
        "g gram": "1", "kg kilogram kilo": "1000", "mg milligram": "0.001", "tonne": "1000000",
        "lb lbs pound": "453.59237", "oz ounce": "28.349523125",
    },
    "time": {
        "s sec second": "1", "ms millisecond": "0.001", "min minute": "60", "h hr hour": "3600",
        "day": "86400", "week": "604800",
    },
    "months": {"month": "1", "yr year": "12"},
    "volume": {
        "l litre liter": "1", "ml millilitre milliliter": "0.001", "gallon": "3.785411784",
        "quart": "0.946352946", "pint": "0.473176473",
    },
    "dollars": {"$ usd dollar buck": "1", "¢ cent": "0.01"},
    "euros": {"€ eur euro": "1"},
    "sterling": {"£ gbp": "1", "penny pence": "0.01"},
    "yen": {"¥ jpy yen": "1"},
    "rupees": {"₹ inr rupee": "1"},
    "angle": {"° degree": "1"},
    "speed": {"km/h kph kmh": "1", "mph": "1.609344"},
}  # fmt: skip
UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(factor))
    for dimension, units in _TABLE.items()
    for names, factor in units.items()
    for name in names.split()
}
CURRENCIES = "$€£¥₹"
MAGNITUDES: dict[str, Fraction] = {
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(1000),
    "k": Fraction(1000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
PARTS: dict[str, Fraction] = {
    "half": Fraction(1, 2),
    "halves": Fraction(1, 2),
    "third": Fraction(1, 3),
    "quarter": Fraction(1, 4),
    "fourth": Fraction(1, 4),
    "fifth": Fraction(1, 5),
    "sixth": Fraction(1, 6),
    "seventh": Fraction(1, 7),
    "eighth": Fraction(1, 8),
    "ninth": Fraction(1, 9),
    "tenth": Fraction(1, 10),
}
_COUNT_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
twenty thirty forty fifty sixty seventy eighty ninety
"""
_WORDS = _COUNT_WORDS.split()
_COUNTS = {word: number if number < 20 else 10 * (number - 18)
           for number, word in enumerate(_WORDS)}  # fmt: skip


def singular(word: str) -> str:
    """An English noun without the ending of its plural, by rule: boxes, cities, apples."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith("s") and word[-2] not in "su" else word


def unit_of(word: str) -> tuple[str, Fraction] | None:
    """The dimension of a unit and its size in the dimension's base; None where it is not known."""
    word = word.lower().rstrip(".")
    return UNITS.get(word) or UNITS.get(singular(word))


def number_in_words(text: str) -> Fraction | None:
    """What "twenty-five", "one half", "two and a half" or "minus three" say; None for others."""
    words = text.lower().replace("-", " ").replace(",", " ").split()
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    words = words[1:] if sign < 0 else words
    if not words or len(words) > 20:
        return None
    part = PARTS.get(words[-1]) or PARTS.get(singular(words[-1]))
    if part is None:
        whole = _whole(words)
        return None if whole is None else sign * whole
    rest = words[:-1]
    if "and" in rest:  # two and a half, three and two thirds
        cut = len(rest) - 1 - rest[::-1].index("and")
        whole, count = _whole(rest[:cut]), _count_of_parts(rest[cut + 1 :])
    else:
        whole, count = Fraction(0), _count_of_parts(rest)
    return None if whole is None or count is None else sign * (whole + count * part)


def _count_of_parts(words: list[str]) -> Fraction | None:
    return Fraction(1) if words in ([], ["a"], ["an"]) else _whole(words)


def _whole(words: list[str]) -> Fraction | None:
    """The value of the words of a count; None where one of them is something else."""
    total, group, seen = Fraction(0), Fraction(0), False
    words = words[1:] if words[:1] == ["a"] and words[1:2] and words[1] in MAGNITUDES else words
    for word in words:
        if word in _COUNTS:
            small = _COUNTS[word]
            if seen and group % 100 and (group % 10 or small >= 10 or group % 100 < 20):
                return None  # "two three", "ten five"
            group += small
        elif word in ("hundred", "dozen"):
            group = (group if seen else Fraction(1)) * MAGNITUDES[word]
        elif word in MAGNITUDES and len(word) > 1:
            total, group = total + (group if seen else Fraction(1)) * MAGNITUDES[word], Fraction(0)
        elif word == "and" and seen:
            continue
        else:
            return None
        seen = True
    return total + group if seen else None
