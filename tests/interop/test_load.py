"""One function loads runs, GGUF files, folders and names, and says in words what it can not."""

import dataclasses
import hashlib
import os
import shutil

import jax
import numpy as np
import pytest
from golden_cases import lilith_logits, random_params, random_tokens
from interop_models import LLAMA, edit_json, same, write_folder

from lilith.config import ExperimentConfig, MeshConfig, TokenizerConfig, UserError
from lilith.config_parsing import to_json
from lilith.interop import export_gguf, export_huggingface, load_checkpoint
from lilith.interop.gguf import write_gguf
from lilith.interop.hub import SOURCES, WheelSource
from lilith.interop.load import load_model
from lilith.interop.weights import ImportFailed
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML
from lilith.train.checkpoint import Checkpointer
from lilith.train.checkpoint_files import CheckpointError

CONFIG = dataclasses.replace(LLAMA, compute_dtype="bfloat16")
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run with two checkpoints, a folder and a GGUF file, all of models of one config."""
    home = tmp_path_factory.mktemp("home")
    experiment = ExperimentConfig(
        name="nano", model=CONFIG, tokenizer=TokenizerConfig(kind="bytes")
    )
    ByteTokenizer().save(home / "run" / "tokenizer")
    (home / "run" / "config.json").write_text(to_json(experiment))
    with Checkpointer(home / "run" / "checkpoints") as checkpointer:
        for step in (10, 20):
            params = jax.tree.map(jax.numpy.asarray, random_params(CONFIG, seed=step))
            checkpointer.save(
                step,
                {"params": params, "step": jax.numpy.int32(step)},
                data_state={},
                config_json=to_json(experiment),
                tokenizer_directory=home / "run" / "tokenizer",
            )
    write_folder(home / "folder", LLAMA, chat_template=TEMPLATE)
    write_gguf(
        home / "model.gguf", random_params(LLAMA), LLAMA, ByteTokenizer(),
        chat_template=TEMPLATE, name="Tiny",
    )  # fmt: skip
    return home


@pytest.mark.parametrize(
    ("where", "step", "found"),
    [
        ("run", None, 20), ("run/checkpoints", None, 20), ("run/checkpoints/10", None, 10),
        ("run", 10, 10), ("run/checkpoints/20", 20, 20),
    ],
)  # fmt: skip
def test_a_run_of_lilith(home, where, step, found):
    params, config, tokenizer, info = load_model(home / where, step=step)
    want = random_params(CONFIG, seed=found)
    for i, layer in enumerate(params["layers"]):
        assert same(layer, jax.tree.map(lambda leaf, i=i: leaf[i], want["layers"]))
    assert same(params["embedding"], want["embedding"])
    assert config == CONFIG
    assert (info.kind, info.name, info.step, info.architecture) == (
        "lilith",
        "nano",
        found,
        "lilith",
    )
    assert info.parameters == sum(leaf.size for leaf in jax.tree.leaves(want))
    assert info.add_bos
    assert set(info.stop_ids) == {tokenizer.eos_id, tokenizer.special_tokens["<|im_end|>"]}
    assert str(info) == (
        f"nano: lilith, {info.parameters:,} parameters, in float32, step {found}, licence not "
        f"stated, no chat template ({home}/run/checkpoints/{found})"
    )


@pytest.mark.parametrize(
    ("stage", "written", "found"),
    [("pretrain", None, None), ("sft", None, CHATML), ("pretrain", TEMPLATE, TEMPLATE),
     ("sft", TEMPLATE, TEMPLATE)],
)  # fmt: skip
def test_the_template_of_a_run(stage, written, found, tmp_path):
    """The house's own if it has seen conversations, unless one lies beside its tokenizer."""
    experiment = ExperimentConfig(name="nano", stage=stage, model=CONFIG)
    ByteTokenizer().save(tmp_path / "tokenizer")
    if written is not None:
        (tmp_path / "tokenizer" / "chat_template.jinja").write_text(written)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save(
            30,
            {"params": jax.tree.map(jax.numpy.asarray, random_params(CONFIG))},
            data_state={},
            config_json=to_json(experiment),
            tokenizer_directory=tmp_path / "tokenizer",
        )
    assert load_model(tmp_path)[3].chat_template == found


def test_stacked_arrays_are_freed_as_they_are_cut_up(home, monkeypatch):
    from lilith.interop import load

    alive = []
    read = load.load_params

    def watched(*arguments, **options):
        params = read(*arguments, **options)
        alive.extend(jax.tree.leaves(params["layers"]))
        return params

    monkeypatch.setattr(load, "load_params", watched)
    load_model(home / "run")
    assert alive
    assert all(leaf.is_deleted() for leaf in alive)


@pytest.mark.parametrize("where", ["run", "folder", "model.gguf"])
def test_weights_on_a_mesh_and_in_another_type(home, where):
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    params, config, _, info = load_model(home / where, mesh=mesh, dtype="bfloat16")
    gate = params["layers"][1]["mlp"]["gate"]
    assert gate.sharding.shard_shape(gate.shape) == (8, 24)
    want = random_params(CONFIG, seed=20 if where == "run" else 0)["layers"]["mlp"]["gate"][1]
    assert same(gate, want.astype(jax.numpy.bfloat16))
    assert config.param_dtype == config.compute_dtype == info.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("where", "kind", "name"), [("folder", "huggingface", "folder"), ("model.gguf", "gguf", "Tiny")]
)
def test_files_of_others(home, where, kind, name):
    params, config, tokenizer, info = load_model(home / where)
    want = random_params(LLAMA)
    for i, layer in enumerate(params["layers"]):
        assert same(layer, jax.tree.map(lambda leaf, i=i: leaf[i], want["layers"]))
    assert (info.kind, info.name, info.architecture) == (kind, name, "llama")
    assert (info.step, info.quantisation, info.dtype) == (None, "F32", "float32")
    assert info.chat_template == TEMPLATE
    assert info.files
    assert all(path.is_file() for path in info.files)
    assert config.compute_dtype == "float32"
    assert tokenizer.decode(tokenizer.encode("caf\u00e9")) == "caf\u00e9"
    with pytest.raises(ImportFailed, match=r"step is 3, but .* is no run of LILITH"):
        load_model(home / where, step=3)


@pytest.mark.parametrize("where", ["run", "folder", "model.gguf"])
def test_the_loaded_model_computes_what_its_weights_do(home, where):
    model, tokenizer, _ = load_checkpoint(str(home / where))
    assert model.config.compute_dtype == "float32"  # on a CPU
    assert model.tokenizer is tokenizer
    tokens = random_tokens(LLAMA, 1, 9)[0] % 256
    expected = lilith_logits(random_params(LLAMA, 20 if where == "run" else 0), tokens[None], LLAMA)
    (answer,) = model.generate_batch([tokens.tolist()], max_tokens=1)
    log_probs = expected[0, -1] - np.logaddexp.reduce(expected[0, -1])
    assert answer.tokens[0] == log_probs[: tokenizer.vocab_size].argmax()
    assert answer.log_probs[0] == pytest.approx(log_probs[answer.tokens[0]], abs=1e-4)


def test_a_name_in_the_cache(home, monkeypatch, tmp_path):
    monkeypatch.setenv("LILITH_CACHE", str(tmp_path))
    data = (home / "model.gguf").read_bytes()
    source = WheelSource(
        "tiny==1", "tiny/tiny.gguf", len(data), hashlib.sha256(data).hexdigest(), 1, "Apache-2.0"
    )
    monkeypatch.setitem(SOURCES, "tiny", source)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    shutil.copy(home / "model.gguf", tmp_path / "models" / "tiny" / "tiny.gguf")
    info = load_model("tiny")[3]
    assert (info.name, info.licence) == ("tiny", "Apache-2.0")
    assert "licence Apache-2.0" in str(info)
    shutil.copytree(home / "folder", tmp_path / "models" / "org" / "name")
    assert load_model("org/name")[3].name == "org/name"


def test_a_folder_with_one_gguf_is_that_file(home, tmp_path):
    shutil.copy(home / "model.gguf", tmp_path / "a.gguf")
    assert load_model(tmp_path)[3].where == str(tmp_path / "a.gguf")
    shutil.copy(home / "model.gguf", tmp_path / "b.gguf")
    with pytest.raises(ImportFailed, match=r"holds 2 GGUF files; name one: a.gguf, b.gguf"):
        load_model(tmp_path)


def test_paths_that_are_no_model(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    accepted = "LILITH loads a run's folder or its checkpoints, a .gguf file"
    (tmp_path / "runs").mkdir()
    for where in ("runs/nano", "./nano", "/no/such/path", "nano.gguf", "", tmp_path / "nano"):
        with pytest.raises(ImportFailed, match=f"there is nothing at .*{accepted}"):
            load_model(where)
    with pytest.raises(ImportFailed, match=f"holds no model; {accepted}"):
        load_model("runs")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ImportFailed, match=r"model.bin is a pickle.*safetensors"):
        load_model("model.bin")
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(ImportFailed, match=f"is one file of a model; name its folder, {home}"):
            load_model(home / "folder" / name)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UserError, match=r"text.txt"):
        load_model("text.txt")
    with pytest.raises(ImportFailed, match=r"did you mean 'smollm2-135m-instruct'"):
        load_model("smollm2-135m")


def test_folders_that_are_half_a_model(home, tmp_path):
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "pytorch_model.bin").touch()
    with pytest.raises(ImportFailed, match=r"has no config.json"):
        load_model(tmp_path / "pickle")
    shutil.copytree(home / "folder", tmp_path / "folder")
    edit_json(tmp_path / "folder" / "config.json", model_type=...)
    with pytest.raises(ImportFailed, match="'model_type' is None"):
        load_model(tmp_path / "folder")


def test_runs_that_can_not_be_loaded(home, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint of step 11"):
        load_model(home / "run", step=11)
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="there is no whole checkpoint"):
        load_model(tmp_path / "empty")
    experiment = ExperimentConfig(name="bare", model=CONFIG)
    with Checkpointer(tmp_path / "bare") as checkpointer:
        params = jax.tree.map(jax.numpy.asarray, random_params(CONFIG))
        checkpointer.save(
            1, {"params": params}, data_state={}, config_json=to_json(experiment),
            tokenizer_directory=None,
        )  # fmt: skip
    with pytest.raises(ImportFailed, match="holds no tokenizer"):
        load_model(tmp_path / "bare")
    kept = next((home / "run" / "checkpoints" / "20").rglob("manifest.json"))
    shutil.copytree(home / "run", tmp_path / "damaged")
    os.truncate(tmp_path / "damaged" / "checkpoints" / "20" / kept.name, 10)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "damaged" / "checkpoints" / "20")


def test_a_home_folder_and_a_path_object(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    assert same(load_model("~/folder")[0], load_model(home / "folder")[0])


def test_prompts_begin_as_the_model_was_trained(home):
    model, tokenizer, info = load_checkpoint(home / "folder")
    assert info.add_bos
    assert model.encode("ab") == [tokenizer.bos_id, *tokenizer.encode("ab")]
    rendered = model.encode([{"role": "user", "content": "ab"}])
    assert np.array_equal(rendered[-2:], tokenizer.encode("ab"))


@pytest.mark.parametrize("mesh", [None, MeshConfig(fsdp=4, tensor=2)])
@pytest.mark.parametrize("where", ["run", "folder"])
def test_a_loaded_model_is_exported_with_all_it_has(home, where, mesh, tmp_path):
    model, tokenizer, info = load_checkpoint(
        home / where, mesh=None if mesh is None else make_mesh(mesh)
    )
    export_huggingface(model, tmp_path / "folder")
    export_gguf(model, tmp_path / "model.gguf")
    for path in (tmp_path / "folder", tmp_path / "model.gguf"):
        params, config, again, found = load_model(path)
        assert same(params, load_model(home / where)[0])
        assert config == model.config
        assert again.fingerprint == tokenizer.fingerprint
        assert found.chat_template == info.chat_template
        assert set(found.stop_ids) >= set(info.stop_ids)
