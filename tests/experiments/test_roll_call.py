"""Processes that find each other, or say who is missing and what differs."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from machine_parts import free_port
from tiny_run import assert_one_sentence

from experiments import host_facts
from experiments.host_facts import difference, facts_of, some_of
from experiments.roll_call import RestartError, gather, report_to
from lilith.config import DataConfig, ExperimentConfig, SourceConfig, UserError

FACTS = {
    "host": "a",
    "code": {"lilith/config.py": "1234"},
    "packages": {"jax": "0.10.2"},
    "config": {"train.batch": 8},
    "seen": {"data.sources.0.path (/data)": "a folder"},
}


def together(*parts: Callable[[], Any]) -> list[Any]:
    """What each part returns or raises, run at the same time."""
    results: list[Any] = [None] * len(parts)

    def run(place: int, part: Callable[[], Any]) -> None:
        try:
            results[place] = part()
        except UserError as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def roll_call(
    *others: tuple[int, dict[str, Any]], processes: int = 2, seconds: float = 20.0
) -> list[Any]:
    """Process 0 with FACTS and ``others``: what each of them gets."""
    port = free_port()
    return together(
        lambda: gather(port, processes, FACTS, seconds),
        *(
            lambda number=number, facts=facts: report_to(
                "localhost", port, number, processes, facts, seconds
            )
            for number, facts in others
        ),
    )


def test_all_get_the_names_of_all() -> None:
    (wires, names), (wire, same), _ = roll_call(
        (2, FACTS | {"host": "c"}), (1, FACTS | {"host": "b"}), processes=3
    )
    assert names == same == ["process 0 (a)", "process 1 (b)", "process 2 (c)"]
    wires[2].send({"hello": 2})
    assert wire.first(20) == {"hello": 2}


def test_the_missing_are_named_to_all_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4")
    results = roll_call((2, FACTS | {"host": "c"}), processes=4, seconds=3.0)
    assert str(results[0]) == str(results[1])
    assert all(isinstance(result, RestartError) for result in results)
    assert str(results[0]).startswith(
        "process 1 (10.0.0.2) and process 3 (10.0.0.4) did not come within 3 s; there are "
        "process 0 (a) and process 2 (c);"
    )


def test_a_first_process_that_does_not_answer_is_named() -> None:
    with pytest.raises(RestartError, match=r"process 0 did not answer at localhost:\d+ within 1 s"):
        report_to("localhost", free_port(), 1, 2, FACTS, 1.0)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([(1, FACTS), (1, FACTS | {"host": "b"})], "two processes say that they are number 1"),
        ([(0, FACTS | {"host": "b"}), (1, FACTS)], "number 0 (on a and b)"),
    ],
)
def test_a_number_twice_is_refused(others: list[Any], words: str) -> None:
    for result in roll_call(*others, processes=3):
        assert isinstance(result, UserError)
        assert words in str(result)
        assert not isinstance(result, RestartError)


def test_another_number_of_processes_is_refused() -> None:
    port = free_port()
    for result in together(
        lambda: gather(port, 2, FACTS, 20),
        lambda: report_to("localhost", port, 1, 4, FACTS | {"host": "b"}, 20),
    ):
        assert "process 1 (b) was started as one of 4 processes and process 0 (a)" in str(result)


def test_a_stranger_is_no_process() -> None:
    port = free_port()

    def stranger() -> None:
        while True:
            try:
                with socket.create_connection(("localhost", port), timeout=20) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    connection.recv(100)
                return
            except ConnectionRefusedError:
                continue

    result, _ = together(lambda: gather(port, 2, FACTS, 3.0), stranger)
    assert "process 1 did not come within 3 s" in str(result)


@pytest.mark.parametrize(
    ("part", "changed", "words"),
    [
        ("code", {"lilith/config.py": "5678"}, "same code: lilith/config.py is '1234' on "),
        ("code", {}, "lilith/config.py is '1234' on process 0 (a) but absent on process 1 (b);"),
        ("packages", {"jax": "0.11.0"}, "same packages: jax is '0.10.2' on process 0 (a) but "),
        ("config", {"train.batch": 16}, "train.batch is 8 on process 0 (a) but 16 on process 1"),
        ("seen", {"data.sources.0.path (/data)": "absent"}, "data.sources.0.path (/data) is "),
    ],
)
def test_what_differs_is_named_with_the_hosts(
    part: str, changed: dict[str, Any], words: str
) -> None:
    for result in roll_call((1, FACTS | {"host": "b", part: changed})):
        assert words in str(result)
        assert "process 1 (b)" in str(result)
        assert isinstance(result, UserError)
        assert not isinstance(result, RestartError)


def test_many_hosts_make_one_sentence() -> None:
    names = [f"process {number}" for number in range(100)]
    facts = [FACTS | {"config": {"seed": int(number > 50)}} for number in range(100)]
    words = difference(facts, names)
    assert words is not None
    assert "and 43 more but 1 on process 51" in words
    assert some_of(["a"]) == "a"


def test_the_facts_are_those_of_the_config_and_the_machine(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("corpus", "not_mounted"):
        (tmp_path / folder).mkdir()
    (tmp_path / "corpus" / "a.txt").touch()
    (tmp_path / "chats.txt").write_text("12345")
    monkeypatch.setenv("CHATS", str(tmp_path / "chats.txt"))
    paths = [tmp_path / name for name in ("corpus", "chats.txt", "*.txt", "no", "not_mounted")]
    sources = [
        SourceConfig(name=name, kind="text", path=str(path))
        for name, path in zip("abcdef", [*paths, "$CHATS"])
    ]
    config = ExperimentConfig(data=DataConfig(sources=tuple(sources)))
    facts = facts_of(config, {"--workdir": "runs/x"}, {"jax": "1"})
    assert list(facts["seen"].values()) == [
        "a folder", "a file of 5 bytes", "1 files", "absent", "an empty folder",
        "a file of 5 bytes",
    ]  # fmt: skip
    assert "data.sources.5.path ($CHATS)" in facts["seen"]
    assert facts["config"]["--workdir"] == "runs/x"
    assert facts["config"]["data.sources.1.name"] == "b"
    assert {"experiments/host_facts.py", "lilith/reasoning/constitution.toml"} <= set(facts["code"])
    assert difference([facts, facts], ["a", "b"]) is None


def test_what_may_not_be_read_differs_from_what_may(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, who runs some tests, everything may be read: the question is answered here."""
    (tmp_path / "a.txt").touch()
    assert host_facts._seen(str(tmp_path / "a.txt")) == "a file of 0 bytes"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert host_facts._seen(str(tmp_path / "a.txt")) == "something that this account may not read"
    assert host_facts._seen(str(tmp_path / "b.txt")) == "absent"


def test_a_changed_file_changes_the_code(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lilith" / "train").mkdir(parents=True)
    (tmp_path / "lilith" / "train" / "x.py").write_text("a = 1\n")
    before = host_facts.code_hashes(tmp_path)
    (tmp_path / "lilith" / "train" / "x.py").write_text("a = 2\n")
    after = host_facts.code_hashes(tmp_path)
    assert before.keys() == after.keys() == {"lilith/train/x.py"}
    assert before != after


def test_a_port_in_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.roll_call.BIND_SECONDS", 0.1)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"process 0 can not listen on port {port}"):
            gather(port, 2, FACTS, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes", 2], "--coordinator is None, --process None of 2"),
        (["--processes", 2, "--process", 2, "--coordinator", "a:1"], "--process 2 of 2"),
        (["--processes", 2, "--process", 0, "--coordinator", "a"], "--coordinator is a,"),
    ],
)
def test_processes_that_can_not_know_each_other_are_refused(
    run_here: Callable[..., Any], arguments: list[object], words: str
) -> None:
    code, output = run_here(*arguments)
    assert code == 2
    assert_one_sentence(output, words, "give each --coordinator HOST:PORT")
