"""Personal data is found by its form and check digits, and numbers of finance are left alone."""

from __future__ import annotations

import random

import pytest

from lilith.reasoning.personal_numbers import luhn
from lilith.reasoning.privacy import find_personal_data, redact

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1\n"
    "Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQw==\n-----END RSA PRIVATE KEY-----"
)
# Digits and letters of keys are put together here, so that no scanner takes this file for a leak.
TAIL = "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb3d"
FOUND = [  # (text, kind, the data itself)
    ("my card is 4111 1111 1111 1111 ok", "card number", "4111 1111 1111 1111"),
    ("pay with 4111111111111111.", "card number", "4111111111111111"),
    ("4111-1111-1111-1111", "card number", "4111-1111-1111-1111"),
    ("Visa of 13 digits: 4222222222222", "card number", "4222222222222"),
    ("master 5500 0000 0000 0004, exp 11/27", "card number", "5500 0000 0000 0004"),
    ("2223003122003222", "card number", "2223003122003222"),
    ("amex 3782 822463 10005", "card number", "3782 822463 10005"),
    ("371449635398431", "card number", "371449635398431"),
    ("diners 3056 930902 5904", "card number", "3056 930902 5904"),
    ("discover 6011 1111 1111 1117", "card number", "6011 1111 1111 1117"),
    ("jcb 3530111333300000", "card number", "3530111333300000"),
    ("UnionPay 6200 0000 0000 0005", "card number", "6200 0000 0000 0005"),
    ("item2 4111 1111 1111 1111 cvc 123", "card number", "4111 1111 1111 1111"),
    ("Price 5.25 4111 1111 1111 1111", "card number", "4111 1111 1111 1111"),
    ("2024 was good; card: 4012 8888 8888 1881 123", "card number", "4012 8888 8888 1881"),
    ("IBAN DE89 3704 0044 0532 0130 00 is mine", "IBAN", "DE89 3704 0044 0532 0130 00"),
    ("GB29NWBK60161331926819", "IBAN", "GB29NWBK60161331926819"),
    ("to FR14 2004 1010 0505 0001 3M02 606.", "IBAN", "FR14 2004 1010 0505 0001 3M02 606"),
    ("NL91ABNA0417164300", "IBAN", "NL91ABNA0417164300"),
    ("NO93 8601 1117 947", "IBAN", "NO93 8601 1117 947"),
    ("ch9300762011623852957", "IBAN", "ch9300762011623852957"),
    ("MT84MALT011000012345MTLCAST001S", "IBAN", "MT84MALT011000012345MTLCAST001S"),
    ("SSN 123-45-6789", "social security number", "123-45-6789"),
    ("my ssn: 536 22 1234", "social security number", "536 22 1234"),
    ("social security number is 536221234", "social security number", "536221234"),
    ("ITIN 912-75-1234", "social security number", "912-75-1234"),
    ("NI number AB 12 34 56 C", "national insurance number", "AB 12 34 56 C"),
    ("JG103759A", "national insurance number", "JG103759A"),
    ("DNI 12345678Z", "identity number", "12345678Z"),
    ("NIE X1234567L", "identity number", "X1234567L"),
    ("CPF 111.444.777-35", "identity number", "111.444.777-35"),
    ("codice fiscale RSSMRA85T10A562S", "identity number", "RSSMRA85T10A562S"),
    ("my SIN is 046 454 286", "identity number", "046 454 286"),
    ("NIR 2 55 08 14 168 025 38", "identity number", "2 55 08 14 168 025 38"),
    ("Steuer-ID 86 095 742 719", "identity number", "86 095 742 719"),
    ("id AKIA" + "IOSFODNN7EXAMPLE", "API key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("ghp_" + TAIL, "API key", "ghp_" + TAIL),
    ("github_pat_" + TAIL, "API key", "github_pat_" + TAIL),
    ("xoxb-" + "123456789012-abcdefABCDEF", "API key", "xoxb-" + "123456789012-abcdefABCDEF"),
    ("AIza" + TAIL[:35], "API key", "AIza" + TAIL[:35]),
    ("sk-" + TAIL, "API key", "sk-" + TAIL),
    ("key sk-proj-" + TAIL, "API key", "sk-proj-" + TAIL),
    ("sk_live_" + TAIL[:24], "API key", "sk_live_" + TAIL[:24]),
    ("hf_" + TAIL, "API key", "hf_" + TAIL),
    (
        "https://hooks.slack.com/services/" + "T00000000/B00000000/XXXXXXXXXXXX",
        "API key",
        "https://hooks.slack.com/services/" + "T00000000/B00000000/XXXXXXXXXXXX",
    ),
    (
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "token",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    ),
    (f"key:\n{PEM}\nend", "private key", PEM),
    ("password=hunter2", "password", "hunter2"),
    ("DB_PASSWORD='correct horse'", "password", "correct horse"),
    ('{"api_key": "zQ81mmPq77"}', "password", "zQ81mmPq77"),
    ("my password is Tr0ub4dor&3.", "password", "Tr0ub4dor&3"),
    ("client_secret: 8f14e45fceea167a", "password", "8f14e45fceea167a"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "password", "wJalrXUtnFEMI/K7MDENG"),
    ("postgres://bob:s3cretpw@db.host/x", "password", "s3cretpw"),
    ("write to jane.doe@example.com today", "e-mail address", "jane.doe@example.com"),
    ("<bob+lists@mail.example.co.uk>", "e-mail address", "bob+lists@mail.example.co.uk"),
    ("o'neil@münchen.de", "e-mail address", "o'neil@münchen.de"),
    ("call +1 212 555 0123 now", "phone number", "+1 212 555 0123"),
    ("(212) 555-0123", "phone number", "(212) 555-0123"),
    ("212-555-0123", "phone number", "212-555-0123"),
    ("212.555.0123", "phone number", "212.555.0123"),
    ("tel 2125550123", "phone number", "2125550123"),
    ("1-800-555-0199", "phone number", "1-800-555-0199"),
    ("+442079460958", "phone number", "+442079460958"),
    ("+44 (0)20 7946 0958", "phone number", "+44 (0)20 7946 0958"),
    ("+44 20 7946 0958 2024-05-01", "phone number", "+44 20 7946 0958"),
    ("+49 30 901820 is the desk", "phone number", "+49 30 901820"),
    ("+33 6 12 34 56 78", "phone number", "+33 6 12 34 56 78"),
    ("+49.30.1234567", "phone number", "+49.30.1234567"),
    ("ring me on 07700 900123", "phone number", "07700 900123"),
    ("my phone: 030/1234567", "phone number", "030/1234567"),
]
FINANCE = [
    "Strikes 105.25 107.5 110 112.5 115 117.5 120",
    "Option chain: 4000 4100 4200 4300",  # passes no check even so; see the next, which does
    "strikes 5100 5150 5200 5258",
    "4100 4150 4200 4250 4300 4350 4400 4450 4500 4550",
    "4111 1111 1111 1111 5555",  # a row of five numbers and no word on cards
    "S=100, K=105, T=0.5, r=0.05, vol=0.2",
    "P&L: +12500000, -3400000, +250000000",
    "+12 500 000 USD on the day",
    "the index rose +105.25 107.5 110 points",
    "+1,250,000 and -750,000.50",
    "we bought +250 125 300 shares",
    "2024-01-31 2024-02-29 2024-03-31",
    "31.12.2023 30.06.2024 and 01/02/2024 10:30:00",
    "timestamp 1700000000000000000 ns, 1700000000000 ms",
    "volume 1234567890, open interest 987654321",
    "close 212.55, 215.01, 230.12",
    "212 215 2200 were the levels",
    "210 555 4100 are three strikes",
    "weights 0.25 0.25 0.25 0.25 sum to 1.00",
    "returns 0.0123 -0.0045 0.0310 -0.0212",
    "ISIN US0378331005, CUSIP 037833100, SEDOL B0YBKJ7",
    "AAPL240119C00150000 and SPX 5000C 5100P",
    "10.0.0.12, 192.168.100.200 and 255.255.255.255 are hosts",
    "the notional is $4111111111111111",
    "EUR 1.0854 USD 0.9213 JPY 151.42 GBP 0.8567",
    "bond 912828YK0 yields 4.125% until 2031-05-15",
    "10-year at 4.25, 2-year at 4.75, 2s10s -50bp",
    "VaR 99% 1-day: 1 250 000 EUR",
    "order 20240131-000123 filled 300@105.25",
    "buy 500@98.75, sell 200@101.50",
    "portfolio 60/40, Sharpe 1.2, drawdown -12.5%",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "2016 2017 2018 2019 2020 2021 2022 2023",
    "pi is 3.14159265358979323846",
    "1234567890123456789 is only a number",
    "seed 123456789, steps 100000000",
    "FY2023 revenue 383,285 FY2022 394,328",
    "matrix product x@w.sum and a @ b.T",
    "@dataclass class Trade: price: float = 105.25",
    "basis points: 25 50 75 100 125 150 175 200",
    "LEI 5493001KJTIIGC8Y1R12, MIC XNAS",
    "FRED series DGS10 and T10Y2Y from 1990-01-02",
    "call 105 110 115 and put 95 90 85",
    "call strikes 0.05 0.10 0.15 deltas",
    "long 2 calls 4100 4200 4300 4400 June",
    "market cap 2,890,000,000,000 and 15,552,752,000 shares",
]
NEAR_MISSES = [
    "4111 1111 1111 1112",  # Luhn fails
    "1111 1111 1111 1117",  # no issuer
    "9999999999999995",  # passes Luhn, no issuer
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",  # modulo 97 fails
    "GB29NWBK6016133192681",  # one short
    "XX89370400440532013000",  # no such country
    "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000",
    "536 22 1234 without a word",
    "BG123456A", "AB123456E", "DA123456A", "AO123456A",
    "12345678A",  # the letter of a DNI that does not fit
    "111.444.777-36", "111.111.111-11",
    "046 454 286",  # a number of three groups and no word
    "AKIA1234", "ghp_short", "sk-learn-is-a-kebab-name-of-some-length",
    "task-management-and-risk-reporting-tool",
    "eyJhbGciOi.not-a-token",
    "-----BEGIN PRIVATE KEY----- is how such a file starts.",
    PEM.replace("RSA PRIVATE KEY", "CERTIFICATE"),
    "password: must have twelve characters",
    "password = getpass.getpass()", 'api_key = os.environ["KEY"]', "login(password=password)",
    "password=<your password>", 'password: "********"', "token = tokens[0]",
    "the password is wrong", "secret: none", "password: str", "PASSWORD=${DB_PASSWORD}",
    "the secret is patience", "key = price", "monkey=banana12",
    "git@github.com:someone/repo.git", "a@b", "user@localhost", "price @ 105.25",
    "011-555-0123", "212-155-0123", "911-212-5550", "555-0123", "+1 112 555 0123", "+12 34",
    "version 1.2.3 build 20240131", "0800 is the time",
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "data"), FOUND, ids=range(len(FOUND)))
def test_personal_data_is_found_and_removed(text: str, kind: str, data: str) -> None:
    found = find_personal_data(text)
    assert [(f.kind, text[slice(*f.span)]) for f in found] == [(kind, data)]
    assert data not in found[0].evidence
    assert redact(text) == text.replace(data, f"[{kind} removed]")
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("text", FINANCE + NEAR_MISSES)
def test_harmless_numbers_are_left_alone(text: str) -> None:
    assert find_personal_data(text) == []
    assert redact(text) is text


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(FINANCE) >= 40
    assert len(FOUND) + len(NEAR_MISSES) >= 60


def test_finance_texts_together_stay_clean() -> None:
    assert find_personal_data("\n".join(FINANCE)) == []


def test_findings_say_what_they_are_without_showing_it() -> None:
    card, mail = find_personal_data("4111 1111 1111 1111 of jane@example.com")
    assert (card.evidence, card.severity, card.span) == ("***1111", "high", (0, 19))
    assert "Luhn" in card.rule
    assert (mail.evidence, mail.severity) == ("j***@example.com", "medium")
    (key,) = find_personal_data("ghp_" + TAIL)
    assert key.evidence == "*** (40 characters)"


def test_several_in_one_text() -> None:
    text = "Jane, jane@example.com, (212) 555-0123, SSN 123-45-6789, pays GB29NWBK60161331926819."
    assert redact(text) == (
        "Jane, [e-mail address removed], [phone number removed], SSN [social security number "
        "removed], pays [IBAN removed]."
    )


def test_two_cards_in_a_row_are_two() -> None:
    text = "4111 1111 1111 1111 5500 0000 0000 0004"
    assert redact(text) == "[card number removed] [card number removed]"


def test_a_private_key_that_is_cut_off_is_removed() -> None:
    cut = PEM[:-60]
    assert redact(f"key {cut}") == "key [private key removed]"


def test_luhn_by_hand() -> None:
    # From the right 3, 7·2 = 14 -> 5, 2, 9·2 = 18 -> 9, 9, 7·2 -> 5, 2, 9·2 -> 9, 9, 7·2 -> 5, 3...
    assert luhn("79927398713")
    assert not any(luhn(f"7992739871{digit}") for digit in "012456789")


def test_one_wrong_digit_is_always_noticed() -> None:
    right = "4012888888881881"
    for place in range(1, 16):
        for digit in set("0123456789") - {right[place]}:
            assert not find_personal_data(right[:place] + digit + right[place + 1 :])


def test_redaction_settles_on_random_mixtures() -> None:
    rng = random.Random(7)
    pieces = [text for text, _, _ in FOUND] + FINANCE + NEAR_MISSES + ["phone ", "card ", "[", "]"]
    for _ in range(150):
        text = rng.choice(["", " ", "\n"]).join(rng.choices(pieces, k=6))
        once = redact(text)
        assert find_personal_data(once) == []
        assert redact(once) == once


HOSTILE = {
    "digits": "4" * 1_000_000,
    "groups": "4111 " * 200_000,
    "single digits": "1 " * 500_000,
    "plus signs": "+1 2" * 250_000,
    "letters": "a" * 1_000_000,
    "at signs": "a@" * 500_000,
    "dots and at signs": "a@b." * 250_000,
    "keys": "eyJ" * 333_333,
    "dashes": "-----BEGIN PRIVATE KEY-----" * 37_000,
    "assignments": "password is " * 83_000,
    "links": "://a:" * 200_000,
    "sk": "sk-" * 333_333,
    "IBAN starts": "DE89 " * 200_000,
    "brackets": "(0" * 500_000,
}


@pytest.mark.timeout(300)  # a quadratic rule takes hours for a megabyte
@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_hostile_text_is_read_in_linear_time(name: str) -> None:
    redact(HOSTILE[name])
