"""The command that writes a model for others."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "model"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))

from interop_models import LLAMA, same, write_folder

from experiments.export import main
from lilith.interop.load import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    write_folder(folder, LLAMA, chat_template="{{ messages }}", stop_ids=(9,))
    return folder


def weights(path):
    return load_model(path)[0]


def test_a_model_goes_from_format_to_format_unchanged(folder, tmp_path, capsys):
    assert main(["--from", str(folder), "--to", str(tmp_path / "a.gguf")]) == 0
    assert main(["--from", str(tmp_path / "a.gguf"), "--to", str(tmp_path / "b")]) == 0
    assert same(weights(tmp_path / "a.gguf"), weights(folder))
    assert same(weights(tmp_path / "b"), weights(folder))
    info, first = load_model(tmp_path / "b")[3], load_model(folder)[3]
    assert set(info.stop_ids) >= set(first.stop_ids)
    assert info.chat_template == first.chat_template == "{{ messages }}"
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("model: llama, ")
    assert lines[1].startswith(f"{tmp_path}/a.gguf is written; llama.cpp runs it:")
    assert lines[3] == (
        f"{tmp_path}/b is written; transformers opens it: "
        f"AutoModelForCausalLM.from_pretrained('{tmp_path}/b')"
    )
    assert f"writing {tmp_path}/b in float32: done" in err


@pytest.mark.parametrize(("asked", "stored"), [("bf16", "BF16"), ("float16", "F16")])
@pytest.mark.parametrize("to", ["out", "out.gguf"])
def test_types_may_be_chosen(folder, tmp_path, asked, stored, to):
    assert main(["--from", str(folder), "--to", str(tmp_path / to), "--dtype", asked]) == 0
    assert load_model(tmp_path / to)[3].quantisation == stored


def test_q8_0_is_for_gguf(folder, tmp_path, capsys):
    assert main(["--from", str(folder), "--to", str(tmp_path / "q.gguf"), "--dtype", "q8_0"]) == 0
    assert load_model(tmp_path / "q.gguf")[3].quantisation == "Q8_0"
    assert main(["--from", str(folder), "--to", str(tmp_path / "q"), "--dtype", "q8_0"]) == 2
    assert "error: --dtype is 'q8_0'; a Hugging Face folder (no .gguf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--from": "/no/such"}, "there is nothing at '/no/such'; LILITH loads a run's folder"),
        ({"--dtype": "bfloat"}, "--dtype is 'bfloat' (did you mean 'bfloat16'?)"),
        ({"--to": "exists"}, "exists already; name another, or remove it"),
        ({"--to": "file.gguf"}, "exists already; name another, or remove it"),
        ({"--to": "file.gguf/below"}, "can not be written"),
        ({"--step": "3"}, "step is 3, but"),
    ],
)
def test_mistakes_end_with_one_sentence(folder, tmp_path, changes, words, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists").mkdir()
    (tmp_path / "exists" / "x").touch()
    (tmp_path / "file.gguf").touch()
    options = {"--from": str(folder), "--to": "out"} | changes
    assert main([word for pair in options.items() for word in pair]) == 2
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exists", "file.gguf"]
