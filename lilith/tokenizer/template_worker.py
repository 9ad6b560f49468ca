"""Render chat templates in a process of its own; ``template_process`` runs this file as a script.

A template is a stranger's program. Jinja's sandbox keeps it from Python's objects but bounds
neither its time nor its memory (``x * 10**9`` in any of a hundred disguises), and nothing inside
one Python process can. Here the operating system does: this process has a limit of memory and of
processor time, writes no file and starts no process.

Each line of standard input is a JSON request and each line of standard output its JSON answer: for
each beginning of the conversation that was asked for, the text, and the spans of it whose every
character the template itself wrote. The template's literals are :class:`Written` strings, and
joining, cutting and trimming keep track. A string that passes through anything else counts as the
conversation's, never as the template's.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, SupportsIndex


class Written(str):
    """Text that knows which of its characters the template wrote: one byte each, 1 or 0."""

    _mask: bytes

    def __new__(cls, text: str, mask: bytes | None = None) -> Written:
        made = super().__new__(cls, text)
        made._mask = bytes(len(text)) if mask is None else mask
        return made

    def __str__(self) -> str:
        return self  # str(text), which Jinja calls on all it prints, must not forget

    def __getitem__(self, key: SupportsIndex | slice, /) -> Written:
        mask = self._mask[key]
        return Written(super().__getitem__(key), mask if isinstance(mask, bytes) else bytes([mask]))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def strip(self, chars: str | None = None, /) -> Written:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> Written:
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> Written:
        return self[: len(super().rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> Written:
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> Written:
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        parts: list[str] = []
        start = 0
        for part in super().split(sep, maxsplit):
            start = self.find(part, start)
            parts.append(self[start : start + len(part)])
            start += len(part) + len(sep or "")
        return parts

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return super().replace(old, new, count)
        return joined(self.split(old, count), new)

    def join(self, parts: Iterable[str], /) -> Written:
        return joined(parts, self)


def mask_of(text: str) -> bytes:
    """Which characters of ``text`` the template wrote."""
    return text._mask if isinstance(text, Written) else bytes(len(text))


def literal(text: str) -> Written:
    """``text`` as the template's own."""
    return Written(text, b"\1" * len(text))


def joined(parts: Iterable[str], separator: str = "") -> Written:
    """``separator.join(parts)``, which knows what its parts knew."""
    parts = list(parts)
    return Written(str.join(separator, parts), mask_of(separator).join(map(mask_of, parts)))


class RefusedError(Exception):
    """The template itself says that a conversation is not for it."""


def _code_generator() -> type:
    """Compiles every text that stands in a template to ``environment.literal(text)``."""
    from jinja2.compiler import CodeGenerator

    class Generator(CodeGenerator):
        def _output_const_repr(self, group: Iterable[Any]) -> str:
            return f"environment.literal({super()._output_const_repr(group)})"

        def visit_TemplateData(self, node: Any, frame: Any) -> None:
            self.write(f"environment.literal({node.data!r})")

        def visit_Const(self, node: Any, frame: Any) -> None:
            if isinstance(node.value, str):
                self.write(f"environment.literal({node.value!r})")
            else:
                super().visit_Const(node, frame)

        def visit_Concat(self, node: Any, frame: Any) -> None:
            self.write("environment.concat(map(str, (")
            for child in node.nodes:
                self.visit(child, frame)
                self.write(", ")
            self.write(")))")

    return Generator


def _generation_block() -> type:
    """``{% generation %}`` marks what an assistant writes, for training; it prints its body."""
    import jinja2.ext
    import jinja2.nodes

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    return Generation


def _namespace() -> type:
    """Jinja's namespace without fields that Python itself would call."""
    import jinja2.utils
    from jinja2.sandbox import SecurityError

    class Namespace(jinja2.utils.Namespace):
        def __init__(*arguments: Any, **fields: Any) -> None:
            self, *rest = arguments
            jinja2.utils.Namespace.__init__(self)
            for name, value in dict(*rest, **fields).items():
                self[name] = value

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a namespace may not have a field {name!r}")
            super().__setitem__(name, value)

    return Namespace


@functools.cache
def environment() -> Any:
    """The sandbox, with the names and tags that templates of Hugging Face count on."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        code_generator_class = _code_generator()
        intercepted_binops = frozenset("+")
        concat = staticmethod(joined)
        literal = staticmethod(literal)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if {type(left), type(right)} <= {str, Written}:  # and not Markup, which escapes
                return joined((left, right))
            return super().call_binop(context, operator, left, right)

    made = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_block(), loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": _namespace(),
    }
    return made


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's templates expect it: nothing escaped for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message: Any) -> None:
    """What a template calls to refuse a conversation."""
    raise RefusedError(str(message))


@functools.lru_cache(maxsize=8)
def compiled(source: str) -> Any:
    """The template as Jinja's object, kept for the next request."""
    return environment().from_string(source)


def render(source: str, variables: Mapping[str, Any], own: Iterable[str], most: int) -> Written:
    """The text of a template, at most ``most`` characters of it.

    Roles, which are checked words, and the variables named in ``own`` are the template's text.
    """
    values = dict(variables) | {name: literal(variables[name]) for name in own}
    values["messages"] = [
        message | {"role": literal(message["role"])} for message in variables["messages"]
    ]
    pieces, size = [], 0
    for piece in compiled(source).generate(values):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise OverflowError(f"it wrote more than {most:,} characters")
    return joined(pieces)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and the template's spans of them, or the kind, line and words of what went wrong.

    Each of ``request["prefixes"]`` is how many messages are rendered, and whether the beginning of
    an answer follows them.
    """
    variables, rendered = request["variables"], []
    try:
        for count, generation in request["prefixes"]:
            messages = variables["messages"][:count]
            values = variables | {"messages": messages, "add_generation_prompt": generation}
            text = render(request["source"], values, request["own"], request["most"])
            own = [match.span() for match in re.finditer(b"\1+", mask_of(text))]
            rendered.append({"text": text, "own": own})
    except Exception as error:
        words = getattr(error, "message", None) or str(error)
        return {"kind": type(error).__name__, "line": _line(error), "words": words[:500]}
    return {"rendered": rendered}


def _line(error: BaseException) -> int | None:
    """The line of the template that failed: Jinja names it in the error or in the traceback."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def confine(memory: int) -> None:
    """Give up what a template has no use for; Windows has no such limits."""
    with contextlib.suppress(ImportError):
        import resource

        limits = {"AS": memory, "FSIZE": 0, "NPROC": 0, "CORE": 0}
        for name, limit in limits.items():
            with contextlib.suppress(ValueError, OSError):  # macOS takes no limit of memory
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def main() -> None:
    """Answer requests until standard input ends."""
    settings = json.loads(sys.argv[1])
    sys.path[:] = settings["path"]
    compiled("{{ [1]|tojson }}").render()  # all imports are done before the limits hold
    confine(settings["memory"])
    alarm = getattr(signal, "setitimer", None)
    if alarm:  # whoever started this process may ignore or block the alarm (libtpu does)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    for line in sys.stdin:
        if alarm:  # at its end the default action ends the process, in C code too
            alarm(signal.ITIMER_PROF, settings["seconds"])
        reply = json.dumps(answer(json.loads(line)))
        if alarm:
            alarm(signal.ITIMER_PROF, 0)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
