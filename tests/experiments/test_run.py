"""The command line: what it prints, what a run leaves, and how it starts again from that."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from tiny_run import ROOT, SECONDS, STEPS, Output, Tiny, assert_one_sentence, assert_same_run

from lilith.train.metrics import read_metrics

RunHere = Callable[..., tuple[int, Output]]
HELP_WITHOUT_JAX = """
import sys
sys.argv = ["run", "--help"]
import experiments.run
try:
    experiments.run.main()
finally:
    print("jax" in sys.modules, file=sys.stderr)
"""


def test_help_lists_the_configs_with_their_first_line_and_imports_no_jax() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_JAX],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0
    assert ended.stderr.strip() == "False"
    for path in (ROOT / "configs").glob("[!_]*.py"):
        first = path.read_text().partition('"""')[2].partition("\n")[0].removesuffix('"""')
        assert re.search(rf"^  {path.stem} +{re.escape(first)}$", ended.stdout, re.MULTILINE)


def test_no_config_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    import experiments.run

    assert experiments.run.main([]) == 2
    assert "pretrain_nano" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.layer=4", ("'model.layer'", "did you mean 'layers'?")),
        ("optimiser.learning_rate=1", ("did you mean 'optimizer'?",)),
        ("train.steps=many", ("train.steps is 'many'", "expected a whole number")),
        ("optimizer.learning_rate=fast", ("expected a number",)),
        ("model.tied_embeddings=maybe", ("expected true or false",)),
        ("model=7c", ("model is '7c'", "known: tiny, nano")),
        ("model.layers", ("is not of the form key=value",)),
        ("model.heads=5", ("model.heads is 5",)),
        ("data.length=129", ("data.length is 129, longer than model.context (128)",)),
        ("stage=pretrian", ("did you mean 'pretrain'?",)),
        ("train.batch=0", ("train.batch is 0; it must be positive",)),
    ],
)
def test_a_wrong_override_is_one_sentence(
    run_here: RunHere, tmp_path: pathlib.Path, assignment: str, words: tuple[str, ...]
) -> None:
    code, output = run_here("--workdir", tmp_path / "run", "--set", assignment)
    assert code == 2
    assert_one_sentence(output, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("pretrain_nanno", None, ("no config 'pretrain_nanno'", "did you mean 'pretrain_nano'?")),
        ("fails.py", "def config():\n    return 1 / 0\n", ("fails.py", "ZeroDivisionError")),
        ("typo.py", "def config(:\n", ("typo.py", "SyntaxError")),
        ("bare.py", "x = 1\n", ("bare.py has no function config()",)),
        ("other.py", "def config():\n    return 3\n", ("has no function config() that returns",)),
        ("cut.json", '{"name": "tiny", "mod', ("cut.json", "not valid JSON")),
        ("latin.json", '{"name": "\xe9"}', ("latin.json",)),
        ("newer.json", '{"nome": "x"}', ("newer.json", "did you mean 'name'?")),
        (
            "refused.py",
            "from lilith.config import *\ndef config():\n    return ModelConfig(heads=3)\n",
            ("refused.py", "model.heads is 3"),
        ),
    ],
)
def test_a_config_that_can_not_be_read_is_one_sentence(
    run_here: RunHere, tmp_path: pathlib.Path, name: str, text: str | None, words: tuple[str, ...]
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="latin-1")
    code, output = run_here(config=name if text is None else path)
    assert code == 2
    assert_one_sentence(output, *words)


def test_a_run_leaves_its_files(tiny: Tiny, reference: pathlib.Path) -> None:
    assert {path.name for path in reference.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoints", "tokenizer", "samples.md", "samples.json",
        "summary.json", "report.html",
    }  # fmt: skip
    records = read_metrics(reference / "metrics.jsonl")
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    for name in ("learning_rate", "gradient_norm", "tokens_per_second", "mfu", "tokens"):
        assert all(record[name] > 0 for record in steps[1:])
    assert steps[-1]["loss"] < 0.75 * steps[0]["loss"]
    last = records[-1]
    assert last["step"] == STEPS
    assert last["whole_validation"] is True

    baselines = json.loads((reference / "summary.json").read_text())["baselines"]
    assert baselines["model"] == last["validation_bits_per_byte"]
    printed = (tiny.folder / "reference.out").read_text()
    report = (reference / "report.html").read_text()
    assert len(baselines) == 3
    for name, bits in baselines.items():
        assert f"{bits:.3f}" in report
        assert f"{bits:6.3f}  {'LILITH' if name == 'model' else name}" in printed
    samples = (reference / "samples.md").read_text()
    assert "## Step 20\n" in samples
    assert "## Step 40\n" in samples
    assert "def " in samples


def test_a_finished_run_says_so_and_changes_nothing(
    run_here: RunHere, reference: pathlib.Path
) -> None:
    def everything() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in reference.rglob("*")
            if path.is_file() and path != reference / "config.json"
        }

    config, before = (reference / "config.json").read_bytes(), everything()
    code, output = run_here("--workdir", reference)
    assert code == 0
    assert f"{reference} is finished: {STEPS} of {STEPS} steps" in output.out
    assert "report.html" in output.out
    assert everything() == before
    assert (reference / "config.json").read_bytes() == config


def test_the_config_a_run_wrote_starts_the_same_run(
    tiny: Tiny, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    tiny.run("--workdir", tmp_path / "run", config=reference / "config.json")
    assert_same_run(tmp_path / "run", reference)


def test_a_lost_report_is_made_again(
    run_here: RunHere, reference: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """As after a kill between the last step and the report."""
    shutil.copytree(reference, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    (tmp_path / "run" / "summary.json").unlink()
    code, output = run_here("--workdir", tmp_path / "run")
    assert code == 0
    assert f"resumed from the checkpoint of step {STEPS}" in output.out
    assert "Kneser-Ney" in (tmp_path / "run" / "report.html").read_text()
    assert_same_run(tmp_path / "run", reference)


def test_a_dry_run_shows_costs_and_the_first_batch_and_writes_no_run(
    run_here: RunHere, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run_here("--dry-run", "--set", "model=7b", "mesh.fsdp=8")
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    text = output.out
    assert re.search(r"^parameters +6,738,415,616$", text, re.MULTILINE)
    assert re.search(r"^tokens a step +512 ", text, re.MULTILINE)
    assert re.search(r"^memory a device +\d+\.\d+ GB", text, re.MULTILINE)
    weights = re.search(r"^  weights +(\d+\.\d+) GB", text, re.MULTILINE)
    assert weights is not None
    assert float(weights[1]) == pytest.approx(6_738_415_616 * 4 / 8 / 1e9, rel=0.01)
    flops = re.search(
        r"^FLOPs a token +(\S+) with causal attention, (\S+) with full", text, re.MULTILINE
    )
    assert flops is not None
    # 6 FLOPs for each weight of a product (all but the embedding and the norms).
    products = 6 * (6_738_415_616 - 32_000 * 4096 - 65 * 4096)
    assert float(flops[1]) == pytest.approx(products + 6 * 32 * 64 * 4096, rel=0.001)
    assert float(flops[2]) == pytest.approx(products + 12 * 32 * 64 * 4096, rel=0.001)
    batch = text.partition("first batch")[2]
    assert "[document 1]" in batch
    assert "of 64 tokens trained" in batch
    assert len(batch) > 64
