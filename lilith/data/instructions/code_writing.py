"""Requests for a Python function and their answers, from parametrised templates.

A :class:`Task` holds a function's text with ``$words``; a conversation picks names, a style (type
hints, docstring, error handling, a dataclass for the arguments, one of several bodies) and asks for
it. The request names what the answer does, and the cases of the check say whether it is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from lilith.data.instructions.conversations import assistant, conversation, joined, user
from lilith.data.instructions.drawing import Conversation, Draw

Case = list[Any]  # arguments, expected value or {"raises": name}, tolerance or None
WIDTH = 92
ROUGH = 1e-3


@dataclass(frozen=True)
class Task:
    """A function to write.

    ``names``: of the function. ``words``: what stands for ``$word``. ``parameters``: (word, type
    hint, default or ""). ``does``: after "returns". ``bodies``: by style, (imports, code); what
    the code calls stands before it, ended by a line ``---``. ``guards``: (condition of a
    mistake, message, arguments that make it). ``cases``: from a draw and the words to cases whose
    expected values were computed another way. ``record``: the name of a dataclass that may hold
    the arguments. ``note``: a sentence about the method.
    """

    names: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    parameters: tuple[tuple[str, str, str], ...]
    returns: str
    does: tuple[str, ...]
    bodies: Mapping[str, tuple[str, str]]
    cases: Callable[[Draw, Mapping[str, str]], list[Case]]
    guards: tuple[tuple[str, str, list[Any]], ...] = ()
    record: str = ""
    note: str = ""
    level: int = 1  # 0 easy, 1 medium, 2 hard: what the plain function is


@dataclass(frozen=True)
class Style:
    """How one answer is written."""

    body: str
    hints: bool
    docstring: int  # 0 none, 1 a line, 2 with arguments
    guarded: bool
    record: bool


ASKS = (
    "Write a Python function `{call}` that returns {does}.{extras}",
    "I need `{call}` in Python. It should return {does}.{extras}",
    "Implement `{call}`: {does}.{extras}",
    "Can you code `{call}`? It returns {does}.{extras}",
    "Please give me Python for {does}, as `{call}`.{extras}",
    "Code only, short comment: {does}. Signature `{call}`.{extras}",
    "For our research library, write `{call}` returning {does}.{extras}",
    "How would you write {does} in Python? Call it `{call}`.{extras}",
    "Add a function `{call}` to my module. What it does: {does}.{extras}",
    "Show me an implementation of {does}. Name: `{call}`.{extras}",
    "Complete this: `def {call}: ...`, which must return {does}.{extras}",
    "My colleague asks for a utility that returns {does}. Make it `{call}`.{extras}",
    "Task: {does}. Interface: `{call}`.{extras}",
    "I want to compute {does}. Python, `{call}`, please.{extras}",
    "Draft a function that returns {does}, named `{call}`.{extras}",
)
LEADS = ("", "", "Here it is:\n\n", "Here is `{name}`:\n\n", "This does it:\n\n", "Sure.\n\n")


def _filled(text: str, words: Mapping[str, str], record: str, task: Task) -> str:
    """The words put in; with ``record`` the parameters are fields of it."""
    chosen = dict(words)
    if record:
        for word, _, _ in task.parameters:
            chosen[word] = f"{record}.{words[word]}"
    return Template(text).substitute(chosen)


def _signature(name: str, parameters: Sequence[str], returns: str) -> str:
    line = f"def {name}({', '.join(parameters)}){returns}:"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {name}(\n{inner}){returns}:"


def source_of(task: Task, words: Mapping[str, str], style: Style) -> str:
    """The code of one answer."""
    imports, code = task.bodies[style.body]
    head = sorted(set(imports.split("\n"))) if imports else []
    declared = [
        words[word]
        + (f": {hint}" if style.hints or style.record else "")
        + (f" = {words.get(default[1:], default)}" if default else "")
        for word, hint, default in task.parameters
    ]
    above, _, body = code.lstrip("\n").rpartition("---\n")
    parts = []
    holder = task.record.lower() if style.record else ""
    if style.record:
        head.append("from dataclasses import dataclass")
        fields = "\n".join(f"    {line}" for line in declared)
        parts.append(f"@dataclass(frozen=True)\nclass {task.record}:\n{fields}")
        declared = [f"{holder}: {task.record}" if style.hints else holder]
    if above:
        parts.append(Template(above).substitute(words).rstrip("\n"))
    lines = [_signature(words["name"], declared, f" -> {task.returns}" if style.hints else "")]
    plain_does = Template(task.does[0]).substitute(words).replace("`", "")
    sentence = f"Return {plain_does}."
    if style.docstring == 2 or (style.docstring and len(sentence) > WIDTH - 10):
        rows = [f"    {line}" for line in _wrapped(sentence)]
        if style.docstring == 2 and style.guarded and task.guards:
            rows += ["", "    Raises ValueError for arguments that make no sense."]
        lines.append("\n".join(['    """' + rows[0].strip(), *rows[1:], '    """']))
    elif style.docstring:
        lines.append(f'    """{sentence}"""')
    if style.guarded:
        for condition, message, _ in task.guards:
            lines.append(f"    if {_filled(condition, words, holder, task)}:")
            lines.append(f'        raise ValueError("{_filled(message, words, "", task)}")')
    lines.append(_filled(body, words, holder, task).rstrip("\n"))
    parts.append("\n".join(lines))
    plain_imports = [line for line in head if line.startswith("import")]
    others = [line for line in head if not line.startswith("import")]
    top = "\n".join([*plain_imports, *others])
    return (f"{top}\n\n\n" if top else "") + "\n\n\n".join(parts) + "\n"


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) > WIDTH - 10:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


def written_value(value: Any) -> str:
    """A value as an answer quotes it: floats to six digits."""
    if isinstance(value, float):
        return repr(float(f"{value:.6g}"))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(written_value(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {written_value(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _record_tests(task: Task, words: Mapping[str, str], cases: Sequence[Case]) -> str:
    lines = []
    for args, want, tolerance in cases:
        made = f"{words['name']}({task.record}({', '.join(map(repr, args))}))"
        if isinstance(want, dict) and "raises" in want:
            lines.append(
                f"try:\n    {made}\nexcept {want['raises']}:\n    pass\nelse:\n    assert 0"
            )
        elif tolerance is None:
            lines.append(f"assert {made} == {want!r}")
        else:
            lines.append(f"assert abs({made} - {want!r}) <= {tolerance!r} * max(1, abs({want!r}))")
    return "\n".join(lines) + "\n"


def _extras(draw: Draw, task: Task, words: Mapping[str, str], style: Style) -> str:
    """What the request says about the style, so that the answer follows from it."""
    wishes = []
    if len(task.bodies) > 1:
        wishes.append(draw.choice((f"Use {style.body}.", f"Do it with {style.body}.")))
    if style.record:
        wishes.append(f"Put the inputs into a frozen dataclass `{task.record}`.")
    if style.hints:
        wishes.append(draw.choice(("With type hints.", "Type hints, please.", "Annotate types.")))
    if style.docstring:
        wishes.append(draw.choice(("Add a docstring.", "Include a docstring.")))
    if style.guarded and task.guards:
        said = joined([Template(message).substitute(words) for _, message, _ in task.guards])
        wishes.append(f"Raise ValueError when a check fails ({said}).")
    draw.random.shuffle(wishes)
    return "".join(f" {wish}" for wish in wishes)


def code_answer(kind: str, draw: Draw, tasks: Sequence[Task]) -> Conversation:
    """A request for one of ``tasks`` in a drawn style, with its answer and cases."""
    task = draw.choice(tasks)
    words = {word: draw.choice(ways) for word, ways in task.words.items()}
    words["name"] = draw.choice(task.names)
    style = Style(
        body=draw.choice(list(task.bodies)),
        hints=draw.count(0, 1) == 1,
        docstring=draw.choice((0, 1, 1, 2)),
        guarded=bool(task.guards) and draw.count(0, 1) == 1,
        record=bool(task.record) and draw.count(0, 3) == 0,
    )
    source = source_of(task, words, style)
    cases = task.cases(draw, words)
    args, want, tolerance = cases[0]
    if style.guarded:
        cases = cases + [[bad, {"raises": "ValueError"}, None] for _, _, bad in task.guards]
    shown = ", ".join(words[w] + (f"={words.get(d[1:], d)}" if d else "")
                      for w, _, d in task.parameters)  # fmt: skip
    call = f"{words['name']}({task.record.lower() if style.record else shown})"
    does = Template(draw.choice(task.does)).substitute(words)
    if style.record:
        does += f" (inputs {', '.join(words[word] for word, _, _ in task.parameters)})"
    ask = draw.phrase(ASKS).format(call=call, does=does, extras=_extras(draw, task, words, style))
    answer = draw.choice(LEADS).format(name=words["name"]) + f"```python\n{source}```"
    if task.note:
        answer += f"\n\n{Template(task.note).substitute(words)}"
    given = ", ".join(map(repr, args))
    given = f"{task.record}({given})" if style.record else given
    if len(given) < 140 and len(written_value(want)) < 140:
        about = "about " if tolerance is not None and isinstance(want, float) else ""
        if about and tolerance > ROUGH:  # a simulation: the figure is what it estimates
            about, want = "a value near ", float(f"{want:.3g}")
        answer += f"\n\nExample: `{words['name']}({given})` gives {about}`{written_value(want)}`."
    code: dict[str, Any] = {"by": "cases", "entry_point": words["name"]}
    code |= {"tests": _record_tests(task, words, cases)} if style.record else {"cases": cases}
    if "numpy" in task.bodies[style.body][0]:
        code["packages"] = ["numpy"]
    rank = min(2, task.level + (style.guarded + style.record + (style.docstring == 2)) // 2)
    ask = re.sub(r"  +", " ", ask)
    return conversation(
        kind, "code", ("easy", "medium", "hard")[rank], [user(ask), assistant(answer)],
        {"code": code},
    )  # fmt: skip
