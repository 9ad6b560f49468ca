"""What a stranger's chat template can not do, and the process in which it is rendered."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lilith.tokenizer import template_process
from lilith.tokenizer.chat_template import CHATML, ChatTemplate, ChatTemplateError
from lilith.tokenizer.template_process import RENDERER

USER = [{"role": "user", "content": "hi"}]
QUICK_SECONDS = 20  # by far more than any template may take, on a busy machine too


@pytest.fixture(autouse=True, scope="module")
def _little_time() -> Iterator[None]:
    """A quarter of the usual processor time, so that hostile templates end sooner."""
    RENDERER.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_process, "PROCESSOR_SECONDS", 0.5)
        yield
    RENDERER.close()


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


HOSTILE = {
    "empty loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "endless output": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "xxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "long range": "{% for i in range(10**9) %}x{% endfor %}",
    "long text": "{{ 'a' * 10**10 }}",
    "long list": "{{ ([0] * 10**10) | length }}",
    "power": "{{ (9 ** (9 ** 9)) % 7 }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling in a block": "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "laughs": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}"
    "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "laughs unseen": "{% set n = namespace(x=(1,)) %}{% for i in range(99) %}"
    "{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
    "wide": "{{ 'a' | center(10**10) }}",
    "wide number": "{{ '%10000000000d' | format(1) }}",
    "wide format": "{{ '{:10000000000}'.format(1) }}",
    "bytes": "{{ (10).to_bytes(10**10, 'big') }}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "branching": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
    "{{ f(200) }}",
    "nesting": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "nested blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "words": "{{ lipsum(n=10**8) }}",
    "more than 32,000,000 characters": "{% set x = 'a' * 1000000 %}"
    "{% for i in range(99) %}{{ x }}{% endfor %}",
}
ESCAPES = {
    "class": "{{ ''.__class__ }}x{{ ''.__class__.__mro__ }}",
    "attr": "{{ ''|attr('__class__')|attr('__mro__') }}x{{ (''|attr('__class__'))() }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "raise_exception": "{{ raise_exception.__globals__.os }}",
    "strftime_now": "{{ strftime_now.__globals__.os }}",
    "generator": "{{ (messages|map('upper')).gi_frame.f_globals }}",
    "append": "{{ messages.append(1) }}",
    "dictionary": "{{ messages[0].update({'role': 'system'}) }}",
    "namespace": "{% set n = namespace() %}{% set n.__html__ = 1 %}",
    "namespace made": "{% set n = namespace(__html__=1) %}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_and_memory_are_bounded(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(ChatTemplateError, match="the chat template") as caught:
        ChatTemplate(HOSTILE[kind]).render(USER)
    assert time.monotonic() - began < QUICK_SECONDS
    assert len(str(caught.value)) < 300
    if " characters" in kind:
        assert kind in str(caught.value)
    assert ChatTemplate(CHATML).render(USER).startswith("<|im_start|>user\nhi")


def _ignored() -> None:
    signal.signal(signal.SIGPROF, signal.SIG_IGN)


def _blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})


@pytest.mark.parametrize("refuse", [_ignored, _blocked])
def test_time_is_bounded_whatever_the_program_does_with_the_alarm(
    refuse: Callable[[], None],
) -> None:
    RENDERER.close()
    before = signal.getsignal(signal.SIGPROF)
    refuse()
    try:
        with pytest.raises(ChatTemplateError, match=r"took more than 0\.5 s"):
            ChatTemplate(HOSTILE["empty loops"]).render(USER)
    finally:
        signal.signal(signal.SIGPROF, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        RENDERER.close()


@pytest.mark.parametrize("kind", ESCAPES)
def test_the_sandbox_holds(kind: str) -> None:
    with pytest.raises(ChatTemplateError, match="tries to leave its sandbox"):
        ChatTemplate(ESCAPES[kind]).render(USER)


@pytest.mark.parametrize(
    "source", ["{{ ''['__class__'] }}", "{{ '{0.__class__}'.format(1) }}", "{{ ''._mask }}"]
)
def test_what_the_sandbox_hides_is_empty(source: str) -> None:
    try:
        assert ChatTemplate(source).render(USER) == ""
    except ChatTemplateError as error:
        assert "sandbox" in str(error)  # noqa: PT017 (both outcomes are right)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_knows_no_secret_and_can_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "hush")
    RENDERER.close()
    ChatTemplate("x").render(USER)
    process = RENDERER._process
    assert process is not None
    assert b"hush" not in pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
    limits = pathlib.Path(f"/proc/{process.pid}/limits").read_text()
    for name, limit in {
        "Max file size": "0", "Max processes": "0", "Max core file size": "0",
        "Max address space": str(1 << 30),
    }.items():  # fmt: skip
        (line,) = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[:2] == [limit, limit]
    assert os.getpgid(process.pid) != os.getpgid(0)  # the terminal's Ctrl-C does not reach it


def test_threads_share_one_process() -> None:
    texts: dict[int, list[str]] = {}

    def render(i: int) -> None:
        template = ChatTemplate("{{ messages[0].content }}")
        texts[i] = [template.render(user(f"text {i}" * 5000)) for _ in range(20)]

    threads = [threading.Thread(target=render, args=(i,)) for i in range(8)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert texts == {i: [f"text {i}" * 5000] * 20 for i in range(8)}


def test_a_forked_child_renders_on_its_own() -> None:
    code = """
import os, sys
from lilith.tokenizer.chat_template import CHATML, ChatTemplate
def render(word): return ChatTemplate(CHATML).render([{"role": "user", "content": word}])
assert "parent" in render("parent")
child = os.fork()
if child == 0:
    ok = all(f"child {i}" in render(f"child {i}") for i in range(20))
    sys.exit(not ok)
assert all(f"parent {i}" in render(f"parent {i}") for i in range(20))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert "again" in render("again")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_killed_process_is_replaced() -> None:
    ChatTemplate("x").render(USER)
    assert RENDERER._process is not None
    killed = RENDERER._process
    killed.kill()
    killed.wait()
    assert ChatTemplate("x").render(USER) == "x"
    killer = threading.Timer(0.2, lambda: RENDERER._process and RENDERER._process.kill())
    killer.start()
    with pytest.raises(ChatTemplateError, match="was killed"):
        ChatTemplate(HOSTILE["empty loops"]).render(USER)
    killer.join()
    assert ChatTemplate("x").render(USER) == "x"
