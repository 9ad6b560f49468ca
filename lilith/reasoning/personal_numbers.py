"""Numbers that belong to a person, found by their form and their check digits.

Each function yields (start, end) spans of a text. A number that is easily an ordinary one (nine
digits in a row) counts only after a word that says what it is. All patterns are bounded or
possessive, so that the time is linear in the length of the text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

Span = tuple[int, int]

_SEPARATORS = " \u00a0-\u2010\u2011\u2013"  # a single one may stand between groups of digits
_LOOK_BACK = 48  # characters before a number in which a word may say what it is

# Issuer: first digits as (low, high) of equal length, and how many digits the number has.
_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)), (2221, 2720, (16,)),  # Mastercard
    (34, 34, (15,)), (37, 37, (15,)),  # American Express
    (300, 305, (14, 16)), (3095, 3095, (14, 16)), (36, 36, (14, 16)), (38, 39, (14, 16)),  # Diners
    (6011, 6011, (16, 19)), (644, 649, (16, 19)), (65, 65, (16, 19)),  # Discover
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (62, 62, (16, 17, 18, 19)), (81, 82, (16,)),  # UnionPay, RuPay
    (2200, 2204, (16, 17, 18, 19)),  # Mir
    (50, 50, (13, 14, 15, 16, 17, 18, 19)), (56, 58, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (6304, 6304, (16, 17, 18, 19)), (6759, 6763, (16, 17, 18, 19)),  # Maestro
)  # fmt: skip
_CARD_GROUPS = {
    (4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (4, 6, 5), (4, 6, 4), (6, 13),
    (6, 10), (4, 3, 3, 3), (4, 4, 4, 3), (4, 4, 4, 2), (4, 4, 5), (4, 5, 6),
}  # fmt: skip
_MOST_IN_A_ROW = 12  # four-digit groups: three cards; more are a table
_FIRST_GROUPS = {4, 6, *range(13, 20)}  # digits of the first group, or of all in one
_CARD_WORDS = re.compile(
    r"\b(?:cards?|visa|mastercard|amex|american express|discover|maestro|diners|jcb|unionpay|"
    r"credit|debit|pan|cc)\b",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"(?<![\w$€£¥+])(?<![0-9][.,])[0-9]++(?![\w])(?![.,][0-9])")

# Letters and digits of an IBAN by country (the registry of SWIFT).
_IBAN_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FI FO FK GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
    31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {
    country: length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split()
}
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[A-Za-z0-9 \u00a0-])")


def said_before(text: str, start: int, words: re.Pattern[str]) -> bool:
    """Whether one of ``words`` stands shortly before ``start``, behind the last bracket.

    A bracket ends the search, so that "[phone number removed]" says nothing of what follows it.
    """
    before = text[max(0, start - _LOOK_BACK) : start]
    return words.search(before[before.rfind("]") + 1 :]) is not None


def luhn(digits: str) -> bool:
    """The check of payment cards: double every second digit from the right (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card_numbers(text: str) -> Iterator[Span]:
    """Payment cards: 13 to 19 digits of a known issuer that pass Luhn, in a card's groups.

    Numbers side by side that rise or fall slowly, as strikes do, are no card unless a word before
    them says so, and neither are four out of a longer row of four-digit numbers.
    """
    for groups in _digit_runs(text):
        if sum(len(digits) for _, digits in groups) < 13:
            continue
        said = said_before(text, groups[0][0], _CARD_WORDS)
        first = 0
        while first < len(groups):
            last = _card_end(groups, first, said)
            if last is None:
                first += 1
                continue
            end = groups[last - 1][0] + len(groups[last - 1][1])
            if said or not _MONEY_BEHIND.match(text, end):
                yield groups[first][0], end
            first = last


def _digit_runs(text: str) -> Iterator[list[tuple[int, str]]]:
    """Whole numbers as (start, digits), in runs that only single separators hold together."""
    run: list[tuple[int, str]] = []
    end = 0
    for match in _DIGITS.finditer(text):
        if run and not (match.start() == end + 1 and text[end] in _SEPARATORS):
            yield run
            run = []
        run.append((match.start(), match.group()))
        end = match.end()
    if run:
        yield run


def _card_end(groups: list[tuple[int, str]], first: int, said: bool) -> int | None:
    """The index after the last group of a card that starts at group ``first``, or None."""
    if len(groups[first][1]) not in _FIRST_GROUPS:
        return None
    for last in range(min(first + 5, len(groups)), first, -1):
        taken = [digits for _, digits in groups[first:last]]
        shape = tuple(map(len, taken))
        if (shape in _CARD_GROUPS or len(shape) == 1) and _is_card("".join(taken)):
            alone = said or len(shape) == 1 or not _is_table(groups, first, last)
            if alone and (said or not _is_ladder(taken)):
                return last
    return None


def _is_card(digits: str) -> bool:
    if not 13 <= len(digits) <= 19 or not luhn(digits):
        return False
    return any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths
        for low, high, lengths in _ISSUERS
    )


def _is_table(groups: list[tuple[int, str]], first: int, last: int) -> bool:
    """Whether four-digit groups go on beside the four taken, other than as whole further cards."""
    before, after = first, last
    while before > 0 and len(groups[before - 1][1]) == 4 and after - before <= _MOST_IN_A_ROW:
        before -= 1
    while after < len(groups) and len(groups[after][1]) == 4 and after - before <= _MOST_IN_A_ROW:
        after += 1
    if after - before > _MOST_IN_A_ROW:
        return True
    if (before, after) == (first, last):
        return False
    row = [digits for _, digits in groups[before:after]]
    cards = ("".join(row[place : place + 4]) for place in range(0, len(row), 4))
    return not all(_is_card(card) for card in cards)


def _is_ladder(taken: list[str]) -> bool:
    """Whether groups rise or fall strictly by less than half: strikes, levels, page numbers."""
    values = [int(digits) for digits in taken]
    if len(set(map(len, taken))) > 1 or len(values) < 3:
        return False
    rising = all(a < b for a, b in itertools.pairwise(values))
    falling = all(a > b for a, b in itertools.pairwise(values))
    return (rising or falling) and max(values) <= 1.5 * min(values)


def ibans(text: str) -> Iterator[Span]:
    """IBANs: the length of their country and a remainder of 1 modulo 97 (ISO 13616)."""
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is None:
            continue
        end, characters = match.start(), ""
        while len(characters) < length and end < len(text):
            character = text[end]
            if character.isascii() and character.isalnum():
                characters += character.upper()
            elif character not in " \u00a0-" or not text[end - 1].isalnum():
                break
            end += 1
        complete = len(characters) == length and not text[end : end + 1].isalnum()
        if (
            complete
            and int("".join(str(int(c, 36)) for c in characters[4:] + characters[:4])) % 97 == 1
        ):
            yield match.start(), end


_SSN = re.compile(r"(?<![\w.$-])([0-9]{3})([- ]?)([0-9]{2})\2([0-9]{4})(?![\w-])(?!\.[0-9])")
_SSN_WORDS = re.compile(r"\b(?:ssns?|social security|itin|taxpayer)\b", re.IGNORECASE)


def us_social_security(text: str) -> Iterator[Span]:
    """US social security numbers (and ITINs, which begin with 9) in the ranges that are issued.

    With dashes they speak for themselves; with spaces or without, a word before must say so.
    """
    for match in _SSN.finditer(text):
        area, separator, group, serial = match.groups()
        itin = area[0] == "9" and (50 <= int(group) <= 65 or 70 <= int(group) <= 99)
        issued = area not in ("000", "666") and (area[0] != "9" or itin)
        said = separator == "-" or said_before(text, match.start(), _SSN_WORDS)
        if issued and group != "00" and serial != "0000" and said:
            yield match.span()


_NINO = re.compile(
    r"(?<![A-Za-z0-9])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
    r"( ?)[0-9]{2}( ?)[0-9]{2}\2[0-9]{2}( ?)[A-D](?![A-Za-z0-9])"
)


def uk_national_insurance(text: str) -> Iterator[Span]:
    """UK national insurance numbers: prefixes that are issued, six digits, suffix A to D."""
    for match in _NINO.finditer(text):
        yield match.span()


_DNI = re.compile(r"(?<![\w.-])([XYZ]?)-?([0-9]{7,8})[- ]?([A-Z])(?![\w])")
_NIR = re.compile(
    r"(?<![\w.-])[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3}"
    r" ?([0-9]{2})(?![\w])(?!\.[0-9])"
)
_CPF = re.compile(r"(?<![\w.-])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![\w-])")
_CODICE = re.compile(
    r"(?<![A-Z0-9])[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-7][0-9][A-Z][0-9]{3}([A-Z])(?![A-Z0-9])"
)
_SIN = re.compile(r"(?<![\w.-])[0-79][0-9]{2}([- ]?)[0-9]{3}\1[0-9]{3}(?![\w-])(?!\.[0-9])")
_SIN_WORDS = re.compile(r"\b(?:SIN|(?i:social insurance))\b")
_STEUER = re.compile(r"(?<![\w.-])[1-9][0-9]( ?)[0-9]{3}\1[0-9]{3}\1[0-9]{3}(?![\w-])(?!\.[0-9])")
_STEUER_WORDS = re.compile(
    r"\b(?:steuer-?id|idnr|steuerliche|steueridentifikationsnummer|german tax)", re.IGNORECASE
)
# Odd places of an Italian fiscal code count by this table, even ones by their value.
_CODICE_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
               25, 24, 23)  # fmt: skip


def other_identity_numbers(text: str) -> Iterator[Span]:
    """Spanish DNI and NIE, French NIR, Brazilian CPF, Italian fiscal codes, Canadian SIN and German
    tax numbers, each with its check digits; the last two only after a word that names them."""
    for match in _DNI.finditer(text):
        head, digits, letter = match.groups()
        number = str("XYZ".index(head)) if head else ""
        right_length = len(digits) == (7 if head else 8)
        if right_length and "TRWAGMYFPDXBNJZSQVHLCKE"[int(f"{number}{digits}") % 23] == letter:
            yield match.span()
    for match in _NIR.finditer(text):
        body = match.group()[:-2].replace(" ", "").replace("2A", "19").replace("2B", "18")
        if 97 - int(body) % 97 == int(match.group(1)):
            yield match.span()
    for match in _CPF.finditer(text):
        digits = [int(c) for c in match.group() if c.isdecimal()]
        checks = [sum(d * w for d, w in zip(digits, range(n + 1, 1, -1))) for n in (9, 10)]
        if len(set(digits)) > 1 and [c * 10 % 11 % 10 for c in checks] == digits[9:]:
            yield match.span()
    for match in _CODICE.finditer(text):
        values = [int(c) if c.isdecimal() else ord(c) - 65 for c in match.group()[:15]]
        total = sum(_CODICE_ODD[v] if place % 2 == 0 else v for place, v in enumerate(values))
        if chr(65 + total % 26) == match.group(1):
            yield match.span()
    for match in _SIN.finditer(text):
        if luhn(re.sub(r"\D", "", match.group())) and said_before(text, match.start(), _SIN_WORDS):
            yield match.span()
    for match in _STEUER.finditer(text):
        said = said_before(text, match.start(), _STEUER_WORDS)
        if said and _mod_11_10(match.group().replace(" ", "")):
            yield match.span()


def _mod_11_10(digits: str) -> bool:
    """ISO/IEC 7064 MOD 11,10, the check of German tax numbers."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


_PHONE_WORDS = re.compile(
    r"\b(?:phone|telephone|tel|call (?:me|us|him|her|"
    r"them|back)|mobile|cell|cellphone|whatsapp|fax|ring|"
    r"text me|sms|dial|reach (?:me|him|her|us)|contact)\b|\bcall(?: at| on)?:? \Z",
    re.IGNORECASE,
)
_MONEY_BEHIND = re.compile(
    r" ?(?:[€$£¥%]|(?:usd|eur|gbp|chf|jpy|bps?|basis|shares|contracts|lots|units|dollars|euros|"
    r"pounds|points|million|billion|k|m|bn)\b)",
    re.IGNORECASE,
)
_INTERNATIONAL = re.compile(
    r"(?<![\w+.)])\+[1-9][0-9]{0,14}+(?:(?:[ .\u00a0/-]|\u2011| ?\(| ?\)[ -]?)[0-9]{1,12}+){0,7}+"
    r"(?![\w])(?![.,][0-9])"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.$€£+-])(?:1[-. ])?(?:(\()[2-9][0-9]{2}\) ?|[2-9][0-9]{2}([-. ]?))"
    r"[2-9][0-9]{2}([-. ]?)[0-9]{4}(?![\w-])(?![.,][0-9])"
)
_NATIONAL = re.compile(
    r"(?<![\w.$€£+-])\(?0[0-9]{1,5}\)?(?:[ /-]?[0-9]{2,8}){1,4}+(?![\w-])(?![.,][0-9])"
)


def phone_numbers(text: str) -> Iterator[Span]:
    """International numbers after a plus, North American ones, and others after a word like "call".

    A signed amount (+12 500 000 USD), a price or a row of strikes is none.
    """
    for match in _INTERNATIONAL.finditer(text):
        said = said_before(text, match.start(), _PHONE_WORDS)
        ends = [group.end() for group in re.finditer("[0-9]+", match.group())]
        for end in reversed(ends):  # what follows a number may look like more of it
            if _is_international(match.group()[:end], said):
                if not _MONEY_BEHIND.match(text, match.start() + end):
                    yield match.start(), match.start() + end
                break
    for match in _NORTH_AMERICAN.finditer(text):
        digits = re.sub(r"[^0-9]", "", match.group())[-10:]
        bracket, first, second = match.groups()
        told = bracket or (first == second and first in ("-", "."))
        if digits[1:3] == "11" or digits[4:6] == "11":
            continue
        if told or said_before(text, match.start(), _PHONE_WORDS):
            yield match.span()
    for match in _NATIONAL.finditer(text):
        enough = 9 <= sum(c.isdecimal() for c in match.group()) <= 14
        if enough and said_before(text, match.start(), _PHONE_WORDS):
            yield match.span()


def _is_international(number: str, said: bool) -> bool:
    groups = re.findall("[0-9]+", number)
    digits = "".join(groups)
    if not 8 <= len(digits) <= 15:
        return False
    if digits[0] == "1" and (len(digits) != 11 or digits[1] in "01" or digits[4] in "01"):
        return False  # North America: an area and an exchange of three digits, from 2 on
    if "." in number and (len(groups) < 3 or set(re.findall("[^0-9+]", number)) != {"."}):
        return False
    if "." in number and min(map(len, groups[1:])) < 2:
        return False
    if said:
        return True
    thousands = len(groups) > 1 and all(len(group) == 3 for group in groups[1:])
    few = 10 if len(groups) == 1 else 9
    return (
        len(digits) >= few and not digits.endswith("0000") and not (thousands and len(digits) <= 10)
    )
