"""Personal data and secrets in a text, found by rules that need no model, and their removal.

What speaks for itself (a card number that passes its check, a key with its maker's prefix) counts
anywhere; what looks like an ordinary number counts only after a word that says what it is, since
texts on finance are full of numbers. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lilith.reasoning import personal_numbers
from lilith.reasoning.personal_numbers import Span


@dataclass(frozen=True)
class Finding:
    """One piece of personal data or one secret.

    ``text[start:end]`` is the data itself; ``evidence`` shows its kind of form only, most of it
    masked. ``severity`` is medium or high; ``rule`` says in words how it was found.
    """

    kind: str
    span: tuple[int, int]
    evidence: str
    severity: str
    rule: str


@dataclass(frozen=True)
class _Rule:
    """``find`` yields spans; ``shown`` last characters stay readable in the evidence."""

    kind: str
    severity: str
    rule: str
    find: Callable[[str], Iterator[Span]]
    shown: int = 0


# A private key in PEM form, whole, or cut off after its header and some of its body.
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----)){1,20000}+-----END [A-Z0-9 ]{0,50}-----"
    r"|(?:\s|\\n){0,8}[A-Za-z0-9+/=]{20,}+"
    r"(?:(?:\s|\\n){1,4}[A-Za-z0-9+/=]{20,}+)*+(?:\s{1,4}[A-Za-z0-9+/=]{1,19}\s{0,4}\Z)?)"
)
_TOKENS = re.compile(
    r"(?<![\w-])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?!\w)"  # AWS access key id
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}|glpat-[\w-]{20,64}"  # GitHub, GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}|xapp-[A-Za-z0-9-]{20,255}"  # Slack
    r"|AIza[\w-]{35}(?![\w-])|ya29\.[\w-]{20,512}|GOCSPX-[\w-]{20,64}"  # Google
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,255}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}"
    r")"
)
_SK = re.compile(r"(?<![\w-])sk-(?:[a-z]{2,12}[0-9]{0,2}-)?([\w-]{20,255})")
_LONG_PIECE = re.compile(
    r"(?=[A-Za-z]{0,40}[0-9])(?=[a-z0-9]{0,40}[A-Z]|[A-Z0-9]{0,40}[a-z])[A-Za-z0-9]{16}"
)
_SLACK_HOOK = re.compile(r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{20,120}")
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,8192}+\.eyJ[\w-]{8,8192}+\.[\w-]{0,8192}+")
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/:@\[\]]{1,64}:([^\s/@\[\]<{$*]{3,128})(?=@)")

_SECRET_NAME = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?access)?(?:[_-]?key)?|api[_ -]?key|"
    r"(?:access|auth|bearer|refresh|api)[_ -]?token|client[_-]?secret|private[_-]?key|"
    r"account[_-]?key|encryption[_-]?key)"
)
_ASSIGNMENT = re.compile(
    rf"{_SECRET_NAME}(?![A-Za-z])[\"'`]?(\s{{0,4}})(:=|=>|=|:|\bis\b)(\s{{0,4}})"
    r"(?:([\"'`])([^\"'`\n]{4,256})\4|([^\s\"'`,;(){}<\[$*#]{4,256}))",
    re.IGNORECASE,
)
# Values that stand for a secret and are none.
_PLACEHOLDER = re.compile(
    r"[<\[{$*%]|x{3,}|\.{3}|(?:os|self|args|config|settings|env|environ|process|options|request|"
    r"params|cfg|kwargs)[.\[]|(?:your|my|the|new|some|change|example|dummy|test)[-_ ]?(?:password|"
    r"secret|key|token|me|api)|(?:password|passwd|secret|token|key|none|null|true|false|string|"
    r"[a-z_]{1,60}_(?:key|token|password|secret)|str|bytes|optional|required|undefined|redacted|"
    r"removed|hidden|missing|wrong|invalid)\W*$",
    re.IGNORECASE,
)

_EMAIL = re.compile(
    r"(?<![\w.%+'-])([\w.%+'-]{1,64}+)@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}([^\W\d_]{2,24}))(?![\w-])"
)
# Attributes of arrays: "x@w.sum" is a matrix product, not an address.
_ARRAY_WORDS = re.compile(
    "sum|mean|transpose|values|shape|astype|dot|reshape|numpy|inv|max|min|copy|flatten|ravel|real|"
    "imag|conj|size|ndim|diag|diagonal|std|var|item|tolist|cumsum|prod|trace|round|clip"
)


def find_personal_data(text: str) -> list[Finding]:
    """All personal data and secrets in ``text``, in the order of the text, without overlaps.

    Kinds: private key, token, API key, password, IBAN, card number, social security number,
    national insurance number, identity number, e-mail address, phone number. Where two rules meet,
    the one named first here wins.
    """
    found = [
        (start, end, rank) for rank, rule in enumerate(_RULES) for start, end in rule.find(text)
    ]
    kept: list[tuple[int, int, int]] = []
    for start, end, rank in sorted(found):
        if kept and start < kept[-1][1]:  # they overlap: the stronger rule takes it
            if rank < kept[-1][2]:
                kept[-1] = (start, end, rank)
            continue
        kept.append((start, end, rank))
    return [_finding(text, start, end, _RULES[rank]) for start, end, rank in kept]


def redact(text: str, keep: Callable[[Finding, str], bool] | None = None) -> str:
    """``text`` with each finding replaced by its kind, such as "[card number removed]".

    Applying it to its own result changes nothing.

    Args:
      keep: says of a finding and its data whether it stays; None removes all.
    """
    while found := [
        one
        for one in find_personal_data(text)
        if keep is None or not keep(one, text[slice(*one.span)])
    ]:
        pieces, last = [], 0
        for finding in found:
            start, end = finding.span
            pieces += [text[last:start], f"[{finding.kind} removed]"]
            last = end
        text = "".join([*pieces, text[last:]])
    return text


def _finding(text: str, start: int, end: int, rule: _Rule) -> Finding:
    data = text[start:end]
    evidence = f"*** ({end - start} characters)"
    if rule.kind == "e-mail address":
        name, _, domain = data.partition("@")
        evidence = f"{name[0]}***@{domain}"
    elif rule.shown:
        evidence = f"***{data[-rule.shown :]}"
    return Finding(rule.kind, (start, end), evidence, rule.severity, rule.rule)


def _spans(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Span]]:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _sk_keys(text: str) -> Iterator[Span]:
    """Keys that begin with sk-; words joined by dashes (sk-learn-style-names) are none."""
    for match in _SK.finditer(text):
        if any(_LONG_PIECE.match(piece) for piece in re.split("[_-]", match.group(1))):
            yield match.span()


def _assigned_secrets(text: str) -> Iterator[Span]:
    """The values of password = ..., api_key: ... and the like; code and prose are left alone."""
    for match in _ASSIGNMENT.finditer(text):
        before, sign, after, quote, quoted, bare = match.groups()
        value = quoted if quote else bare
        group = 5 if quote else 6
        if _PLACEHOLDER.match(value) or _is_shown_code(text, match.end(), bool(quote)):
            continue
        stripped = value.rstrip(".!?:")
        plain_word = stripped.replace("_", "").replace(".", "").replace("-", "").isalpha()
        prose = sign in (":", "is") or before or after
        if len(stripped) < 4 or (not quote and plain_word and prose):
            continue
        if quote and sign == "is" and " " in value:
            continue
        yield match.start(group), match.start(group) + (len(value) if quote else len(stripped))


def _is_shown_code(text: str, end: int, quoted: bool) -> bool:
    """Whether a bare value goes on as a call or an index: password=read_password(...)."""
    return not quoted and text[end : end + 1] in ("(", "[", "{")


def _url_passwords(text: str) -> Iterator[Span]:
    for match in _URL_PASSWORD.finditer(text):
        yield match.span(1)


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        local, domain, top = match.groups()
        array_code = domain.count(".") == 1 and _ARRAY_WORDS.fullmatch(top) is not None
        if local != "git" and not array_code and text[match.end() : match.end() + 1] != "(":
            yield match.span()


_RULES = (
    _Rule("private key", "high", "a private key block in PEM form", _spans(_PEM)),
    _Rule("token", "high", "a JSON web token: three parts, the first two JSON", _spans(_JWT)),
    _Rule("API key", "high", "the prefix and form of a known maker's key", _spans(_TOKENS)),
    _Rule("API key", "high", "a Slack webhook address", _spans(_SLACK_HOOK)),
    _Rule("API key", "high", "a key that begins with sk-", _sk_keys),
    _Rule("password", "high", "a value assigned to a password, secret or key", _assigned_secrets),
    _Rule("password", "high", "a password inside a web address", _url_passwords),
    _Rule("IBAN", "high", "the length of its country and a remainder of 1 modulo 97",
          personal_numbers.ibans, 4),
    _Rule("card number", "high", "13 to 19 digits of a known issuer that pass the Luhn check",
          personal_numbers.card_numbers, 4),
    _Rule("social security number", "high", "the form and the issued ranges of the United States",
          personal_numbers.us_social_security, 4),
    _Rule("national insurance number", "high", "the form and the issued prefixes of the United "
          "Kingdom", personal_numbers.uk_national_insurance, 1),
    _Rule("identity number", "high", "the form and the check digits of its country",
          personal_numbers.other_identity_numbers, 2),
    _Rule("e-mail address", "medium", "a name, an @ and a domain", _emails),
    _Rule("phone number", "medium", "the form of an international or national phone number",
          personal_numbers.phone_numbers, 2),
)  # fmt: skip
