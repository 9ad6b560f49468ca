"""What a model wrote, taken apart: its steps, the answer it states, and whether it is in a loop."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from lilith.reasoning.answers import plain_latex
from lilith.reasoning.units import CURRENCIES

MOST_TEXT = 400_000  # characters of a text that are looked at: its end for an answer
MOST_STATEMENTS = 50  # of an answer, from the last
MOST_STATED = 1000  # characters of one
KINDS = ("auto", "number", "choice", "text", "code")
_THINK = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
# Blocks that are never split: fenced code, display mathematics. An open one reaches to the end.
_BLOCK = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+)(?P<info>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*$|\Z)"
    r"|\\\[.*?(?:\\\]|\Z)|\\begin\{(?P<name>[a-z*]+)\}.*?(?:\\end\{(?P=name)\}|\Z)"
    r"|^[ \t]*\$\$.*?(?:\$\$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_LEAD = r"[ \t>]*(?:\#{1,6}[ \t]*)?(?:[-*•][ \t]+)?(?:\*\*|__)?[ \t]*"
_TAIL = r"[ \t]*(?:\*\*|__)?[ \t]*[:.)\-–—]?[ \t]*(?:\*\*|__)?[ \t]*"
# Marks of a step from the strongest to the weakest; the first kind that a text has is its own.
_MARKS = (
    re.compile(rf"^{_LEAD}(?:step|étape|schritt|paso)[ \t]*\#?\d{{1,4}}\b{_TAIL}", re.I | re.M),
    re.compile(r"^[ \t>]*(?:\#{1,6}[ \t]*)?(?:\*\*)?\(?\d{1,3}[.):](?:\*\*)?(?:[ \t]+|$)", re.M),
    re.compile(r"^[ \t]*(?!\#{4}[ \t]*[-−$\d])\#{1,6}[ \t]+(?!\#)", re.M),
    re.compile(
        rf"^{_LEAD}(?:first(?:ly)?|second(?:ly)?|third(?:ly)?|fourth(?:ly)?|fifth(?:ly)?|next|then"
        r"|after that|finally|last(?:ly)?)\b(?:\*\*|__)?(?:,|:)[ \t]*(?:\*\*|__)?",
        re.I | re.M,
    ),
    re.compile(r"^[ \t]{0,3}[-*+•–][ \t]+(?!\*\*\s*$)", re.M),
)
_INLINE_STEP = re.compile(
    r"(?<=[.;:!?)*\]])[ \t]+(?=(?:\*\*)?step[ \t]*\d{1,4}(?:\*\*)?[:.)])", re.I
)
_INLINE_NUMBER = re.compile(r"(?:(?<=\s)|^)\(?(\d{1,2})[.)][ \t]+(?=[^\W\d]|\d)", re.M)
_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)(?<!\be\.g\.)"
    r"(?<!\bi\.e\.)(?<!\bNo\.)(?<!\bapprox\.)(?<!\b[A-Z]\.)[ \t]+(?=[\"'(*]?[A-Z$\d\\])"
)
_FILLER = re.compile(
    r"[*_#> \t]*(?:(?:sure|okay|ok|certainly|alright|well)\b[!,. ]*)?"
    r"(?:(?:let'?s|let us|i will|i'll|we (?:can|will|need to)|to solve|here(?:'s| is| are)|"
    r"solution|reasoning|explanation|steps?|think(?:ing)?)\b[^\n=\d]{0,120})?[:.!*_ \t]*",
    re.IGNORECASE,
)
_OUTRO = re.compile(
    r"[*_#> \t]*(?:(?:so|thus|therefore|hence|finally)[, ]+)?(?:(?:the |my )?(?:final |correct )?"
    r"answer\b(?:\s*(?:is|[:=])).{0,80}|\#{4}.{0,80}|\\boxed\{[^\n]{0,80}|\$?\\boxed\{[^\n]{0,80})",
    re.IGNORECASE,
)
_HEADED = re.compile(
    r"(?:\n|\A)[*_# \t]*(?:the )?(?:final |correct )?answer[*_ \t]*:?[*_ \t]*\n\s*[^\n]{1,80}\s*\Z",
    re.I,
)
_SUM = re.compile(r"\d\s*[-+*/×÷]\s*\d")
_ANOTHER = re.compile(
    r"\n[ \t*#]*(?:question|q|problem|user|human|input|instruction|exercise)\s*\d*\s*[:.]", re.I
)
_STATED = re.compile(
    r"\\(?:boxed|fbox)\s*\{"
    r"|(?:^|\n)[ \t]*\#{4}[ \t]*(?=\S)"
    r"|\b(?:answer|answers|result|solution)\b(?:\s+(?:to\s+[^\n.:=]{1,80}?|choice|option|here))?"
    r"(?:\*\*|__)?\s*(?:\bis\b|\bare\b|\bwould\s+be\b|\bshould\s+be\b|[:=])"
    r"(?:\s*(?:\*\*|__))?\s*(?:therefore|thus|then)?\s*:?"
    r"|\b(?:correct|right|best)\s+(?:choice|option|one)\s+(?:is|:)\s*:?"
    r"|\bI\s+(?:choose|pick|select)\b\s*:?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-−–+]?)\s?(?:\\?[{CURRENCIES}]\s?)?(?P<inner>[-−]?)"
    r"(?P<value>\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}|\d{1,3}(?:(?:,|\{,\})\d{3})+(?!\d)(?:\.\d+)?"
    r"|\d+\s+\d+\s*/\s*\d+|\d+\s*/\s*\d+(?!\s*/)"
    r"|\d+\.\d+(?:[eE][-+]?\d+)?|\d+(?:[eE][-+]?\d+\b)?|\.\d+)"
    r"(?P<percent>\s*\\?%|\s+percent\b)?"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_EQUALS = re.compile(r"(?:=|≈|\\approx)")
_END_OF_SAID = re.compile(
    r"\n|(?<=[^\s.])[.!?](?=\s|[\"'*)$]|\Z)|[,;]?\s+(?:because|since)\b", re.I
)
_LETTER = re.compile(
    r"\s*(?:(?:option|choice|letter)\s+)?(?:[(\[{]\s*([A-Ja-j])\s*[)\]}]|([A-J])(?![\w'’])"
    r"|([a-j])(?=[).:]|\s*(?:$|\n)))",
)
_LOOSE_LETTER = re.compile(r"(?:\b(?:option|choice)\s+\(?([A-Ja-j])\b|\(([A-Ja-j])\))")
_LINE_LETTER = re.compile(r"^[ \t]*([A-J])(?:[).:](?=\s|$)|[ \t]*$)", re.M)
_CODE = re.compile(r"^(?:def |class |import |from \w+ import |print\(|for \w+ in |@\w)", re.M)
_CONCLUDES = re.compile(r"(?:^|[\n.!?]\s*)(?:so|thus|therefore|hence|in total|altogether)\b", re.I)


def split_steps(text: str) -> list[str]:
    """The steps of a text, without their marks ("Step 1:", "2)", "First,", "- ").

    The strongest mark that a text has divides it, and weaker ones stay within a step; without any,
    paragraphs, then lines, then sentences are steps. Code, display mathematics are never split.
    ``<think>`` tags, phrases such as "Let's think step by step." and lines that only state the
    answer are no steps, unless there is nothing else.
    """
    text = _before_another(_THINK.sub("\n\n", _tidy(text[:MOST_TEXT])))
    hidden, blocks = _hide_blocks(text)
    hidden = _INLINE_STEP.sub("\n", hidden)
    pieces, marked = _divided(hidden)
    kept = _without_outro(pieces, marked)
    full = [
        piece.strip() for piece in kept if piece.strip() and not _FILLER.fullmatch(piece.strip())
    ]
    if not full:
        full = [piece.strip() for piece in pieces if piece.strip()]
    return [shown for step in full if (shown := _shown(step, blocks))]


def extract_answer(text: str, kind: str = "auto") -> str | None:
    """The answer a text states; of several the last.

    Answers are found behind "the answer is", "Answer:", "####", in ``\\boxed{}``; then, by kind, in
    weaker places. What a model goes on to write about another question is left out.

    Args:
      kind: "number" gives digits without currency, separators and units (``-1234.5``, ``1/2``,
        ``50%``) and settles for a last number anywhere; "choice" a capital letter; "code" the last
        fenced block; "text" the words; "auto" what is stated, with its unit, or the value behind
        the last "=" or in a concluding sentence.

    Returns:
      The answer, or None where there is none.

    Raises:
      ValueError: ``kind`` is none of those.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; known: {', '.join(KINDS)}")
    text = _said_aloud(_tidy(text[-MOST_TEXT:]))
    if kind == "code":
        return _code(text)
    for stated in _statements(text):
        answer = _answer_in(stated, kind)
        if answer is not None:
            return answer
    return _fallback(text, kind)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks that hold something: what language each names ("" for none), its code."""
    found = [block for block in _BLOCK.finditer(text) if (block["code"] or "").strip()]
    return [(block["info"].strip().lower(), block["code"].strip("\n")) for block in found]


def is_loop(text: str) -> bool:
    """Whether a text says the same line or phrase again and again.

    True where a line of at least three letters or digits comes four times in a row (marks of steps
    aside), or where a text ends in four or more of the same phrase, over forty characters in all.
    """
    run, last = 0, ""
    text = _tidy(text[-MOST_TEXT:])
    for line in text.split("\n"):
        plain = _MARKS[1].sub("", _MARKS[0].sub("", line)).strip()
        if plain:
            run = run + 1 if plain == last else 1
            last = plain
            if run >= 4 and sum(map(str.isalnum, plain)) >= 3:
                return True
    tail = text.rstrip()[-4000:]
    for period in range(1, len(tail) // 4 + 1):
        size = max(4 * period, 40)
        repeats = size <= len(tail) and tail[-1 - period] == tail[-1]
        if repeats and tail[-size:-period] == tail[-size + period :]:
            return any(map(str.isalnum, tail[-period:]))
    return False


def _hide_blocks(text: str) -> tuple[str, list[str]]:
    """The text with each block as one character that no text has, and the blocks."""
    blocks: list[str] = []

    def hide(found: re.Match[str]) -> str:
        blocks.append(found.group())
        return f"\ue000{len(blocks) - 1}\ue001"

    return _BLOCK.sub(hide, text.replace("\ue000", "").replace("\ue001", "")), blocks


def _shown(step: str, blocks: list[str]) -> str:
    """A step with its blocks again, and without emphasis that only its mark had closed."""
    step = re.sub(r"\n{3,}", "\n\n", step)
    shown = re.sub("\ue000(\\d+)\ue001", lambda found: blocks[int(found[1])], step).strip()
    if shown.count("**") % 2 and not blocks:
        shown = shown.removeprefix("**") if shown.startswith("**") else shown.removesuffix("**")
    return shown.strip()


def _divided(text: str) -> tuple[list[str], int]:
    """The pieces of a text, and from which of them on they had marks of their own."""
    for number, mark in enumerate(_MARKS):
        found = list(mark.finditer(text))
        if number == 1 and len(found) < 2 and (inline := _inline_numbers(text)):
            found = inline
        if len(found) >= (1 if number == 0 else 2):
            keeps = number == 3  # "First," is a mark, "Then, ..." reads better with its word
            return _cut(text, found, keeps), 1
    paragraphs = re.split(r"\n[ \t]*\n", text)
    for parts in (paragraphs, text.split("\n"), _SENTENCE.split(text)):
        if sum(bool(part.strip()) for part in parts) >= 2:
            return parts, len(parts)
    text = text.lstrip("\n")
    found_one = next(filter(None, (mark.match(text) for mark in _MARKS)), None)
    return [text[found_one.end() :] if found_one else text], 1


def _cut(text: str, marks: list[re.Match[str]], keeps_mark: bool) -> list[str]:
    """What stands before the first mark, and behind each."""
    ends = [*(found.start() for found in marks[1:]), len(text)]
    begins = [found.start() if keeps_mark else found.end() for found in marks]
    return [text[: marks[0].start()], *(text[a:b] for a, b in zip(begins, ends))]


def _inline_numbers(text: str) -> list[re.Match[str]]:
    """Marks 1., 2., 3. within a line, if they count up from one; else none."""
    found: list[re.Match[str]] = []
    for mark in _INLINE_NUMBER.finditer(text):
        if int(mark[1]) == len(found) + 1:
            found.append(mark)
    return found if len(found) >= 2 else []


def _without_outro(pieces: list[str], marked: int) -> list[str]:
    """The pieces without the lines at the end that only state the answer, sums among them kept.

    A piece with a mark of its own stays a step, whatever it says.
    """
    kept = list(pieces)
    while kept:
        lines = _HEADED.sub("", kept[-1]).rstrip().split("\n")
        while lines:
            line = lines[-1].strip()
            if line and (not _OUTRO.fullmatch(line) or _SUM.search(line)):
                break
            lines.pop()
        if lines:
            return [*kept[:-1], "\n".join(lines)]
        if len(kept) > marked and kept[-1].strip():
            return kept
        kept.pop()
    return kept


def _said_aloud(text: str) -> str:
    """The text behind the thinking, and before another question that a model goes on with."""
    behind = _THINK.split(text)[-1]
    text = behind if behind.strip() and "</think" in text.lower() else _THINK.sub("\n", text)
    return _before_another(text)


def _before_another(text: str) -> str:
    """The text before another question that a model goes on with."""
    for found in _ANOTHER.finditer(text):
        if text[: found.start()].strip():
            return text[: found.start()]
    return text


def _tidy(text: str) -> str:
    """The text with Unix newlines and no giant runs of space, on which patterns would take long."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\s{200,}", lambda run: run.group()[:100], text)


def _statements(text: str) -> Iterator[str]:
    """What follows where a text states an answer, to the end of its sentence, the last first."""
    for found in reversed(deque(_STATED.finditer(text), maxlen=MOST_STATEMENTS)):
        rest = text[found.end() : found.end() + MOST_STATED]
        if found.group().endswith("{"):
            yield _braced(rest)
            continue
        rest = rest.lstrip(" \t\n:")
        end = _END_OF_SAID.search(rest, 1) if rest else None
        said = (rest[: end.start()] if end else rest).strip()
        if said and not re.match(r"(?:not|unknown|unclear|wrong|incorrect)\b", said, re.I):
            yield said


def _braced(rest: str) -> str:
    """What stands before the brace that closes; all of it where none does."""
    depth = 1
    for at, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:at]
    return rest.split("\n")[0]


def _answer_in(said: str, kind: str) -> str | None:
    """The answer in a statement, by kind; None where it has none of that kind."""
    plain = _unwrapped(said)
    if kind == "choice":
        letter = _LETTER.match(plain) or _LOOSE_LETTER.search(plain)
        return _first_group(letter.groups()).upper() if letter else None
    if kind == "number":
        return _number_in(plain)
    if kind == "text":
        return plain or None
    letter = _LETTER.match(plain)
    if letter and (letter[2] is None or re.match(r"\s*(?:$|[).:])", plain[letter.end() :])):
        return _first_group(letter.groups()).upper()
    number = _EQUALS.split(plain)[-1].strip() if _NUMBER.search(plain) else plain
    return number if re.search(r"\w", number) else None


def _unwrapped(said: str) -> str:
    """A statement without emphasis, dollars of mathematics, LaTeX's marks and full stops."""
    text = re.sub(r"\*\*|__|`", "", said).strip()
    boxed = re.search(r"\\(?:boxed|fbox)\s*\{", text)
    text = _braced(text[boxed.end() :]) if boxed else text
    text = re.sub(r"\\[()\[\]]", " ", text)
    pairs = re.fullmatch(r"\$+(.*?)\$+\.?", text, re.DOTALL)
    text = pairs[1] if pairs else text
    text = _FRACTION.sub(r"\1/\2", plain_latex(text))
    return re.sub(r"(?<=\S)[.,;:!?]+$", "", " ".join(text.split()).strip('*_"“” ')).strip()


def _number_in(plain: str) -> str | None:
    """The number of a statement: behind its last "=", else its first."""
    for part in reversed(_EQUALS.split(plain)):
        found = _NUMBER.search(part)
        if found:
            return _digits(found)
    return None


def _digits(found: re.Match[str]) -> str:
    negative = found["inner"] or (found["sign"] if found["sign"] not in ("+", "") else "")
    value = _FRACTION.sub(r"\1/\2", found["value"]).replace("{,}", "").replace(",", "")
    value = re.sub(r"\s*/\s*", "/", value)
    return ("-" if negative else "") + value + ("%" if found["percent"] else "")


def _fallback(text: str, kind: str) -> str | None:
    """The answer where no words announce one."""
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    if not lines:
        return None
    if kind == "choice":
        letters = [*_LOOSE_LETTER.finditer(text), *_LINE_LETTER.finditer(text)]
        last = max(letters, key=lambda letter: letter.start(), default=None)
        return _first_group(last.groups()).upper() if last else _answer_in(lines[-1], kind)
    if kind == "number":
        return _last_number(text)
    short = len(lines) == 1 and len(lines[0]) <= 60 and not lines[0].endswith(":")
    short = short and not _STATED.search(lines[0])
    if kind == "text":
        return _unwrapped(lines[0]) or None if short else None
    if short and not _EQUALS.search(lines[0]) and len(lines[0].split()) <= 4:
        return _answer_in(lines[0], "auto")
    equals = list(_EQUALS.finditer(text))
    if equals and (found := _NUMBER.match(text, _skip(text, equals[-1].end()))):
        return _digits(found)
    concluding = _last(_CONCLUDES.finditer(text))
    return _last_number(text[concluding.start() :]) if concluding else None


def _skip(text: str, at: int) -> int:
    """The place behind spaces, emphasis and currency of mathematics."""
    found = re.compile(r"[\s*_]*(?:\$(?=\s*-?\d))?").match(text, at)
    return found.end() if found else at


def _last_number(text: str) -> str | None:
    plain = _MARKS[1].sub("", _MARKS[0].sub("", re.sub(r"\*\*|__", "", text)))
    found = _last(_NUMBER.finditer(plain))
    return _digits(found) if found else None


def _last(found: Iterable[re.Match[str]]) -> re.Match[str] | None:
    last = None
    for match in found:
        last = match
    return last


def _first_group(groups: Iterable[str | None]) -> str:
    return next(group for group in groups if group)


def _code(text: str) -> str | None:
    """The last fenced block's content, or all of a text that begins as code does."""
    if full := code_blocks(text):
        return full[-1][1]
    bare = text.strip("\n")
    return bare if _CODE.match(bare.lstrip()) else None
