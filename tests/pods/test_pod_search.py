"""The search tries what may fit, keeps what it has tried, and names the fastest."""

import dataclasses
import json
import re
import types

import pytest

from experiments import compile_pod, pod_search
from experiments.compile_pod import DoesNotFit
from experiments.compile_pod_config import CompilePodConfig
from experiments.pod_search import Search, blocks, meshes, more_rows, recomputations, words_of
from experiments.run import main
from lilith.config import ConfigError, ModelConfig, UserError
from lilith.model.presets import get_model_config

GIB = 2**30
CONFIG = CompilePodConfig(
    model=ModelConfig(
        layers=2, d_model=512, heads=4, kv_heads=4, d_ff=1024, vocab=2048, context=4096,
        remat="full",
    ),
    topology="v5e:4x4", search=True,
)  # fmt: skip
MEMORY = {"full": 1.0, "offload": 0.9, "attention": 1.5, "dots": 3.0, "none": 4.0}


def fake(config):
    """Faster with less recomputation, tensor 2, two rows, blocks of 1024; 10 GiB there are."""
    used = MEMORY[config.model.remat] * config.batch * GIB
    if used > 10 * GIB:
        raise DoesNotFit(used, 10 * GIB)
    again = {"none": 1.0, "dots": 1.1, "attention": 1.2, "full": 1.3, "offload": 1.5}
    seconds = again[config.model.remat] * (1.0 if config.mesh.tensor == 2 else 1.4)
    seconds *= 0.9 if config.model.attention_block == 1024 else 1.0
    seconds *= config.batch * (1.0 if config.batch >= 2 else 1.2)
    return types.SimpleNamespace(
        rows=config.batch * 16, length=4096, mesh={"fsdp": 8, "tensor": config.mesh.tensor},
        memory=types.SimpleNamespace(used=used), topology=types.SimpleNamespace(devices=16),
        roofline=types.SimpleNamespace(scheduled_bound=seconds, scheduled_mfu_bound=0.5 / seconds),
    )  # fmt: skip


def search(path, config=CONFIG, compile=fake):
    return Search(config, compile, (DoesNotFit,), path, lambda line: None)


def test_the_fastest_that_fits_is_found(tmp_path):
    own = search(tmp_path / "search.jsonl")
    best = own.run()
    # Less recomputation goes first: with it two rows fit, with "dots" three would.
    assert best.words == ("mesh.tensor=2 model.remat=none batch=2 model.attention_block=1024")
    assert (own.best_config.mesh.tensor, own.best_config.batch) == (2, 2.0)
    assert own.report is not None
    assert pod_search.summary(own, own.report)["tried"][0]["words"] == best.words


def test_what_is_known_is_not_compiled_again(tmp_path):
    path = tmp_path / "search.jsonl"
    first = search(path)
    first.run()
    lines = path.read_text().splitlines()
    assert len(lines) == len(first.known)
    path.write_text("\n".join(lines[:5]) + '\n{"config": "cut o')
    compiled = []

    def counted(config):
        compiled.append(config)
        return fake(config)

    second = search(path, compile=counted)
    assert second.run() == first.best
    assert len(compiled) == len(lines) - 5


def test_a_config_that_does_not_fit_is_made_leaner_first(tmp_path):
    none = dataclasses.replace(CONFIG.model, remat="none")
    own = search(tmp_path / "search.jsonl", dataclasses.replace(CONFIG, model=none, batch=16.0))
    assert own.run().speed > 0
    words = [tried.words for tried in own.known.values()]
    assert words[:3] == [
        "model.remat=none batch=16", "model.remat=full batch=16", "model.remat=full batch=8",
    ]  # fmt: skip


def test_the_limit_ends_it(tmp_path):
    config = dataclasses.replace(CONFIG, search_limit=3)
    own = search(tmp_path / "search.jsonl", config)
    assert own.run().speed > 0
    assert len(own.known) == 3


def test_a_higher_limit_goes_on(tmp_path):
    path = tmp_path / "search.jsonl"
    search(path, dataclasses.replace(CONFIG, search_limit=3)).run()
    more = search(path)
    more.run()
    words = [tried.words for tried in more.known.values()]
    assert len(words) == len(set(words)) > 3  # none is compiled twice


def test_what_is_varied():
    found = [words_of(own) for own in meshes(CONFIG)]
    assert "mesh.data=2 model.remat=full batch=1" in found
    assert "mesh.tensor=4 model.remat=full batch=1" in found
    assert not any("tensor=8" in words for words in found)  # four heads
    assert not any("context" in words for words in found)
    long = dataclasses.replace(get_model_config("7b"), context=65_536)
    config = dataclasses.replace(CONFIG, model=long, topology="v5p:4x4x4", slices=2)
    meshes_found = [own.mesh for own in meshes(config)]
    assert {mesh.context for mesh in meshes_found} == {1, 2, 4, 8}
    assert {mesh.data for mesh in meshes_found} == {2, 4, 8}  # slices times copies
    assert next(own.model.remat for own in recomputations(CONFIG)) == "offload"
    assert [own.batch for own in more_rows(CONFIG)][:3] == [2, 4, 8]
    assert [own.model.attention_block for own in blocks(CONFIG)] == [256, 1024, 2048]
    short = dataclasses.replace(CONFIG, length=768)
    assert [own.model.attention_block for own in blocks(short)] == [256]


def test_the_command_prints_what_it_tries_and_the_best(tmp_path, capsys, monkeypatch):
    def report(config):
        made = fake(config)
        made.lines = lambda: ["the report"]
        made.to_dict = lambda: {"step": "train"}
        return made

    monkeypatch.setattr(compile_pod, "compile_step", report)
    assert compile_pod.run(CONFIG, tmp_path) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  1  model.remat=full batch=1 +1.00 GiB .* tokens/s  MFU 0", out)
    assert "best of " in out
    assert "--set mesh.tensor=2 model.remat=none batch=2 model.attention_block=1024\n" in out
    assert json.loads((tmp_path / "search.json").read_text())["mesh"] == "fsdp 8 x tensor 2"
    assert json.loads((tmp_path / "report.json").read_text())["model"]["remat"] == "none"


def test_nothing_fits_is_one_sentence(tmp_path, monkeypatch):
    def never(config):
        raise DoesNotFit(20 * GIB, 10 * GIB)

    monkeypatch.setattr(compile_pod, "compile_step", never)
    with pytest.raises(
        UserError, match=r"none of 15 settings fits on v5e:4x4; the first: 20.00 GiB"
    ):
        compile_pod._searched(CONFIG, tmp_path)


def test_only_training_is_searched(capsys):
    with pytest.raises(ConfigError, match="search=true looks for the fastest training step"):
        dataclasses.replace(CONFIG, step="decode")
    assert main(["--config", "compile_pod", "--dry-run", "--set", "search_limit=0"]) == 2
    assert "search_limit is 0; it must be at least 1" in capsys.readouterr().err
