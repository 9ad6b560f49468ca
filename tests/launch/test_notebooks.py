"""The Colab notebooks run from top to bottom, and their text says what they print."""

from __future__ import annotations

import pathlib
import re

import jax
import nbformat
import pytest
from nbclient import NotebookClient

from lilith.config import ModelConfig
from lilith.interop.gguf import write_gguf
from lilith.model.params import init_params
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch" / "colab"
NAMES = ("quickstart_tpu", "finetune_and_agent", "scale_up")
SECONDS = 600  # a cell
# "It prints `loss`, and at the end `bits per byte`." up to the end of the sentence.
PROMISE = re.compile(r"\bprints\b(.*?[.;])(?:\s|$)", re.DOTALL)


def notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(
    name: str, parameters: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> nbformat.NotebookNode:
    """Run a notebook in ``folder`` with other parameters; each promise of its text is checked."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = notebook(name)
    own = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(own) == 1
    own[0].source += f"\n{parameters}"
    NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    promised = 0
    for text, code in zip(book.cells, book.cells[1:], strict=False):
        if (text.cell_type, code.cell_type) != ("markdown", "code"):
            continue
        shown = printed(code)
        for sentence in PROMISE.findall(text.source):
            for words in re.findall(r"`([^`]+)`", sentence):
                promised += 1
                assert words in shown, f"{name} says that it prints {words!r}:\n{shown[-3000:]}"
    assert promised >= 3
    return book


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_clean(name: str) -> None:
    book = notebook(name)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    badge = (
        f"https://colab.research.google.com/github/OWNER/lilith/blob/main/launch/colab/{name}.ipynb"
    )
    assert f"({badge})" in book.cells[0].source
    assert {f"{known}.ipynb" for known in NAMES} == {path.name for path in FOLDER.glob("*.ipynb")}


@pytest.mark.slow
def test_the_quickstart_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = run(
        "quickstart_tpu",
        "STEPS = 4\nMORE = ['model=tiny', 'model.vocab=512', 'tokenizer.vocab=512', "
        "'data.length=64', 'tokenizer.train_megabytes=0.2', 'data.sources.0.max_megabytes=0.5', "
        "'data.sources.1.max_megabytes=0.1', 'data.validation_fraction=0.3', "
        "'data.validation_kilobytes=64', 'train.eval_rows=4', 'train.sample_every=0', "
        "'train.log_every=1']",
        tmp_path,
        monkeypatch,
    )
    assert any("image/png" in output.get("data", {}) for cell in book.cells if "outputs" in cell
               for output in cell.outputs)  # fmt: skip
    assert (tmp_path / "runs" / "first" / "report.html").exists()


@pytest.mark.slow
def test_tuning_and_the_agent_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(
        layers=1, d_model=16, heads=2, kv_heads=1, d_ff=32, vocab=ByteTokenizer().vocab_size,
        context=32_768, compute_dtype="float32",
    )  # fmt: skip
    base = tmp_path / "base.gguf"
    params = jax.device_get(init_params(0, model))
    write_gguf(base, params, model, ByteTokenizer(), chat_template=CHATML)
    run(
        "finetune_and_agent",
        f"MODEL = {str(base)!r}\nCONVERSATIONS = 12\nLENGTH = 8192\nQUESTIONS = 2\nTOKENS = 16\n"
        "MORE = ['train.batch=1', 'train.steps=2', 'data.epochs=0', 'train.eval_rows=2']",
        tmp_path,
        monkeypatch,
    )
    assert (tmp_path / "adapter.zip").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
def test_the_pod_table_is_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = "'model=nano', 'topology=v5e:2x2', 'length=256'"
    run(
        "scale_up",
        f"SETTINGS = [{small}, 'batch=1']\nLARGER = [{small}, 'batch=1000000']",
        tmp_path,
        monkeypatch,
    )
    assert (tmp_path / "runs" / "pod" / "report.json").exists()
