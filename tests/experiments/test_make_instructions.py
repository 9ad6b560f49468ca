"""The stage make_instructions: files of generated conversations, written once and whole."""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import experiments.make_instructions as stage
from experiments.instructions_config import DomainWeights, InstructionsConfig
from experiments.run import load_config, main
from lilith.config import ConfigError, UserError
from lilith.data.instructions.registry import kinds

CHEAP = ("quant_price_european", "quant_greeks", "quant_parity", "quant_greek_meaning")
ONLY_CHEAP = ",".join(
    f"{name}=0" for name, kind in kinds().items() if kind.domain == "quant" and name not in CHEAP
)
QUANT = ["domains.code=0", "domains.planning=0", "domains.general=0", f"kinds={ONLY_CHEAP}"]


def make(folder: pathlib.Path, *settings: str, dry: bool = False) -> int:
    """The command on a small mixture of quick kinds."""
    asked = ["--config", "make_instructions", "--workdir", str(folder), "--set", *QUANT]
    return main(
        [*asked, "count=24", "held_out_count=8", *settings, *(["--dry-run"] if dry else [])]
    )


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_hold_the_mixture_and_a_summary(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path) == 0
    said = capsys.readouterr().out
    training, held_out = (
        read(tmp_path / "conversations.jsonl"),
        read(tmp_path / "conversations.held_out.jsonl"),
    )
    assert (len(training), len(held_out)) == (24, 8)
    for records, split in ((training, "train"), (held_out, "held_out")):
        for record in records:
            assert list(record) == ["messages", "metadata"]
            assert record["metadata"]["split"] == split
            assert {"domain", "difficulty", "requires_tools", "kind", "seed", "index", "check"} <= (
                set(record["metadata"])
            )
    summary = json.loads((tmp_path / "conversations.summary.json").read_text())
    found = Counter(record["metadata"]["kind"] for record in training)
    assert summary["kind"] == found == dict.fromkeys(CHEAP, 6)
    assert summary["domain"] == {"quant": 24}
    assert sum(summary["difficulty"].values()) == summary["records"] == 24
    assert "conversations.jsonl: 24 conversations (train)" in said
    assert "quant_parity 6" in said
    assert "an hour" in said
    assert "drawing conversations  32/32" in said
    prompts = [next(m["content"] for m in r["messages"] if m["role"] == "user")
               for r in training + held_out]  # fmt: skip
    assert len(set(prompts)) == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "conversations.held_out.jsonl", "conversations.held_out.summary.json",
        "conversations.jsonl", "conversations.summary.json",
    ]  # fmt: skip


def test_the_same_config_writes_the_same_bytes(tmp_path: pathlib.Path) -> None:
    for folder in ("a", "b"):
        assert make(tmp_path / folder) == 0
        assert make(tmp_path / f"other_{folder}", "seed=1") == 0
    for name in ("conversations.jsonl", "conversations.held_out.jsonl",
                 "conversations.summary.json"):  # fmt: skip
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert first != (tmp_path / "other_a" / name).read_bytes()
    assert make(tmp_path / "a") == 0  # again over itself


def test_held_out_only_writes_the_same_held_out_file(tmp_path: pathlib.Path) -> None:
    assert make(tmp_path / "both") == 0
    assert make(tmp_path / "one", "held_out=true") == 0
    name = "conversations.held_out.jsonl"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "both" / name).read_bytes()
    assert not (tmp_path / "one" / "conversations.jsonl").exists()


def test_output_names_the_files(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "deep" / "quant.jsonl"
    assert make(tmp_path / "run", f"output={output}", "held_out_count=0") == 0
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "quant.jsonl", "quant.summary.json",
    ]  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_another_configs_file_is_not_overwritten(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path) == 0
    before = (tmp_path / "conversations.jsonl").read_bytes()
    capsys.readouterr()
    assert make(tmp_path, "seed=3") == 2
    said = capsys.readouterr()
    assert "was made with seed = 0, and this config has 3" in said.err
    assert "overwrite=true" in said.err
    assert "drawing" not in said.out  # refused before the work
    assert (tmp_path / "conversations.jsonl").read_bytes() == before
    assert make(tmp_path, "seed=3", "overwrite=true") == 0
    assert (tmp_path / "conversations.jsonl").read_bytes() != before


@pytest.mark.parametrize("summary", ["", "[]", '{"config": null}', None])
def test_a_foreign_file_is_not_overwritten(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], summary: str | None
) -> None:
    mine = tmp_path / "conversations.jsonl"
    mine.write_text("my own notes\n")
    if summary is not None:
        (tmp_path / "conversations.summary.json").write_text(summary)
    assert make(tmp_path) == 2
    assert "holds something else than this config draws" in capsys.readouterr().err
    assert mine.read_text() == "my own notes\n"
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_cut_off_leaves_the_old_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(tmp_path) == 0
    before = (tmp_path / "conversations.jsonl").read_bytes()
    drawn = stage.generate

    def cut_off(*arguments: Any, **settings: Any) -> Iterator[Any]:
        yield next(iter(drawn(*arguments, **settings)))
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "generate", cut_off)
    assert make(tmp_path, "seed=9", "overwrite=true") == 130
    assert (tmp_path / "conversations.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_dry_run_prints_conversations_and_writes_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path, dry=True) == 0
    said = capsys.readouterr().out
    assert "24 conversations: 100% quant" in said
    assert said.count("\n--- quant_") == stage.SHOWN
    assert "[user] " in said
    assert "[assistant] " in said
    assert '{"name": "black_scholes", "arguments": {"spot"' in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("count=-1", "count is -1; it must be 0 or more"),
        ("held_out_count=-5", "held_out_count is -5"),
        ("domains.qant=1", "did you mean 'quant'"),
        ("domains.quant=-1", "domains.quant is -1; it must be 0 or more"),
        ("domains.quant=nan", "domains.quant is nan"),
        ("domains.quant=0", "domains.general add to 0"),
        ("kinds=quant_greek=1", "did you mean 'quant_greeks'"),
        ("kinds=quant_greeks", "write KIND=WEIGHT"),
        ("kinds=quant_greeks=much", "kinds has 'quant_greeks=much'"),
        ("kinds=quant_greeks=-1", "kinds has 'quant_greeks=-1'"),
        ("output=here.txt", "output is 'here.txt'; name a file that ends in .jsonl"),
        ("seed=-1", "seed is -1"),
        ("stage=sft", "stage is 'sft'; an InstructionsConfig has stage 'make_instructions'"),
    ],
)
def test_mistakes_are_said_in_words(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    assert make(tmp_path, setting) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_or_a_file_in_the_way_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "conversations.jsonl").mkdir()
    (tmp_path / "file").write_text("")
    config = InstructionsConfig(count=1, domains=DomainWeights(0, 1, 0, 0))
    with pytest.raises(UserError, match=r"conversations\.jsonl is a folder"):
        stage.run(config, tmp_path)
    with pytest.raises(UserError, match="is not a folder; name another output"):
        stage.run(config, tmp_path / "file")
    with pytest.raises(UserError, match="is not a folder; name another output"):
        stage.run(config, tmp_path / "file" / "below")


def test_the_config_is_the_default_mix() -> None:
    config = load_config("make_instructions")
    assert isinstance(config, InstructionsConfig)
    assert vars(config.domains) == {"code": 60, "quant": 20, "planning": 10, "general": 10}
    with pytest.raises(ConfigError, match=r"needs one like configs/make_instructions\.py"):
        stage.run(load_config("pretrain_nano", ["stage=make_instructions"]), pathlib.Path("."))


def test_code_that_fails_its_checks_is_dropped_and_counted(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_verified(records):
        return [record["metadata"]["index"] != 2 for record in records]

    monkeypatch.setattr(stage, "all_verified", all_verified)
    assert make(tmp_path) == 0
    summary = json.loads((tmp_path / "conversations.summary.json").read_text())
    assert summary["dropped_because_their_code_fails"] == dict.fromkeys(sorted(CHEAP), 1)
    records = read(tmp_path / "conversations.jsonl")
    assert len(records) == summary["records"] == 20
    assert 2 not in {record["metadata"]["index"] for record in records}
    assert "their code does not pass its checks: 4" in capsys.readouterr().out
    assert make(tmp_path, "verify=false", "overwrite=true") == 0
    assert len(read(tmp_path / "conversations.jsonl")) == 24
