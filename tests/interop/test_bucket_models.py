"""Models in a bucket load as those of this machine do; what is not there is one sentence."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_bucket import URL, FakeBucket
from golden_cases import random_params
from interop_models import LLAMA, same, write_folder

import lilith.storage
from experiments.tuning_config import TuningConfig
from lilith.config import ExperimentConfig, MeshConfig, TokenizerConfig, UserError
from lilith.config_parsing import to_json
from lilith.interop import load_checkpoint
from lilith.interop.gguf import write_gguf
from lilith.interop.load import load_model
from lilith.interop.weights import ImportFailed
from lilith.model.params import Params
from lilith.sharding import make_mesh
from lilith.storage import StorageError
from lilith.tokenizer import ByteTokenizer
from lilith.train.checkpoint import Checkpointer
from lilith.train.checkpoint_files import CheckpointError
from lilith.train.lora import init_adapter, merge, save_adapter
from lilith.train.lora_config import LoraConfig

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
LORA = LoraConfig(rank=2)
RUN = ExperimentConfig(name="nano", model=LLAMA, tokenizer=TokenizerConfig(kind="bytes"))


@pytest.fixture
def scratch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where copies are made for a while."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def save(where: str, folder: pathlib.Path, config: object, trees: dict[int, Params]) -> None:
    """A run's checkpoints, by step, with a tokenizer and a template."""
    ByteTokenizer().save(folder / "tokenizer")
    (folder / "tokenizer" / "chat_template.jinja").write_text(TEMPLATE)
    with Checkpointer(f"{where}/checkpoints") as checkpointer:
        for step, params in trees.items():
            checkpointer.save(
                step, {"params": jax.tree.map(jnp.asarray, params)}, data_state={},
                config_json=to_json(config), tokenizer_directory=folder / "tokenizer",
            )  # fmt: skip


def put_folder(bucket: FakeBucket, name: str, folder: pathlib.Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def moved_adapter() -> Params:
    """An adapter that changes something."""
    fresh = init_adapter(1, jax.tree.map(jnp.asarray, random_params(LLAMA)), LLAMA, LORA)
    return jax.tree.map(lambda leaf: leaf + 0.25, fresh)


def with_adapter(params: Params) -> Params:
    return jax.device_get(merge(jax.tree.map(jnp.asarray, params), moved_adapter(), LORA))


def test_a_run_of_a_bucket(
    bucket: FakeBucket, tmp_path: pathlib.Path, scratch: pathlib.Path
) -> None:
    run = f"{URL}/run"
    weights = {step: random_params(LLAMA, seed=step) for step in (10, 20)}
    save(run, tmp_path, RUN, weights)
    bucket.put("run/config.json", to_json(RUN).encode())  # as a run's own files beside them are
    bucket.put("run/adapter/adapter.safetensors", b"")
    model, tokenizer, info = load_checkpoint(run)
    assert same(model.params["embedding"], weights[20]["embedding"])
    assert (model.config, model.tokenizer) == (LLAMA, tokenizer)
    assert tokenizer.fingerprint == ByteTokenizer().fingerprint
    assert (info.kind, info.name, info.step) == ("lilith", "nano", 20)
    assert (info.where, info.files) == (f"{run}/checkpoints/20", ())
    assert info.chat_template == TEMPLATE
    params, *_, info = load_model(f"{run}/checkpoints/10", layered=False)
    assert same(params, weights[10])
    assert info.where == f"{run}/checkpoints/10"
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    params = load_model(f"{run}/", step=10, mesh=mesh, dtype="bfloat16", layered=False)[0]
    gate = params["layers"]["mlp"]["gate"]
    assert gate.sharding.shard_shape(gate.shape) == (LLAMA.layers, 8, 24)
    assert same(gate, weights[10]["layers"]["mlp"]["gate"].astype(jnp.bfloat16))
    assert not list(scratch.iterdir())


def test_files_of_others_in_a_bucket(
    bucket: FakeBucket, tmp_path: pathlib.Path, scratch: pathlib.Path
) -> None:
    want = write_folder(tmp_path / "folder", chat_template=TEMPLATE)
    put_folder(bucket, "folder", tmp_path / "folder")
    bucket.put("folder/onnx/model.onnx", b"big")
    write_gguf(
        tmp_path / "m.gguf", want, LLAMA, ByteTokenizer(), chat_template=TEMPLATE, name="Tiny"
    )
    bucket.put("models/m.gguf", (tmp_path / "m.gguf").read_bytes())
    for where, kind, name in (
        ("folder", "huggingface", "folder"), ("models/m.gguf", "gguf", "Tiny"),
        ("models", "gguf", "Tiny"),
    ):  # fmt: skip
        params, config, tokenizer, info = load_model(f"{URL}/{where}", layered=False)
        assert same(params, want)
        assert config == LLAMA
        assert tokenizer.fingerprint == load_model(tmp_path / "folder")[2].fingerprint
        assert (info.kind, info.name, info.where) == (kind, name, f"{URL}/{where}")
        assert (info.files, info.chat_template) == ((), TEMPLATE)
        with pytest.raises(ImportFailed, match=f"step is 3, but {URL}/{where} is no run"):
            load_model(f"{URL}/{where}", step=3)
    assert "read folder/onnx/model.onnx" not in bucket.calls
    assert not list(scratch.iterdir())


def test_adapters_of_a_bucket(bucket: FakeBucket, tmp_path: pathlib.Path) -> None:
    """Over a base of the bucket: alone, merged by hand, and as the checkpoint of the run."""
    base = f"{URL}/base.gguf"
    write_gguf(tmp_path / "base.gguf", random_params(LLAMA), LLAMA, ByteTokenizer())
    bucket.put("base.gguf", (tmp_path / "base.gguf").read_bytes())
    save_adapter(tmp_path / "own", moved_adapter(), LORA, base=base, base_config=LLAMA)
    put_folder(bucket, "run/adapter", tmp_path / "own")
    tuned = TuningConfig(name="tuned", base=base, lora=LORA, model=LLAMA)
    save(f"{URL}/run", tmp_path, tuned, {5: moved_adapter()})
    want = with_adapter(random_params(LLAMA))
    for where in ("run/adapter", "run"):
        params, _, _, info = load_model(f"{URL}/{where}", layered=False)
        assert same(params, want), where
        assert (info.kind, info.step) == (("lilith", 5) if where == "run" else ("adapter", None))
        assert info.files == ()
    assert info.chat_template == TEMPLATE
    merged = load_checkpoint(base, adapters=[f"{URL}/run/adapter"])[0].params
    assert same(merged["embedding"], want["embedding"])
    down = merged["layers"][1]["mlp"]["down"]
    np.testing.assert_array_equal(down, want["layers"]["mlp"]["down"][1])


def one_sentence(where: str, kind: type[UserError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        load_model(where)
    said = str(caught.value)
    assert "\n" not in said
    assert where.rstrip("/") in said
    assert tempfile.gettempdir() not in said


def test_what_is_not_there_is_one_sentence(bucket: FakeBucket, scratch: pathlib.Path) -> None:
    missing = (
        "can not be read: there is no such bucket or object; check its name and this machine's"
    )
    one_sentence("gs://no-such-bucket/run", StorageError, missing)
    for name in ("none", "none.gguf", "none/checkpoints/5"):
        one_sentence(f"{URL}/{name}", ImportFailed, "there is nothing at .*LILITH loads a run's")
    one_sentence("s3://tests/run", StorageError, "is no path that can be used; give gs://BUCKET/")
    bucket.put("text/a.txt", b"hello")
    one_sentence(f"{URL}/text", CheckpointError, "there is no whole checkpoint in ")
    one_sentence(f"{URL}/text/a.txt", UserError, "a.txt")
    bucket.put("half/model.safetensors", b"no")
    one_sentence(f"{URL}/half", ImportFailed, "has no config.json")
    bucket.put("scores/reward.json", json.dumps({}).encode())
    bucket.put("scores/reward.safetensors", b"no")
    one_sentence(f"{URL}/scores", ImportFailed, "is a reward model")
    bucket.refused.add("read")
    one_sentence(f"{URL}/half", StorageError, "can not be read: Anonymous caller does not have")
    bucket.refused.add("list")
    one_sentence(f"{URL}/text", StorageError, "can not be read: Anonymous caller does not have")
    assert not list(scratch.iterdir())


def test_a_checkpoint_that_lost_an_object_is_passed_over_or_named(
    bucket: FakeBucket, tmp_path: pathlib.Path
) -> None:
    run = f"{URL}/run"
    save(run, tmp_path, RUN, {step: random_params(LLAMA, seed=step) for step in (1, 2)})
    del bucket.objects["run/checkpoints/2/tokenizer/chat_template.jinja"]
    assert load_model(run)[3].step == 1
    one_sentence(f"{run}/checkpoints/2", CheckpointError, "chat_template.jinja is missing")
    bare = dataclasses.replace(RUN, name="bare")
    with Checkpointer(f"{URL}/bare") as checkpointer:
        params = jax.tree.map(jnp.asarray, random_params(LLAMA))
        checkpointer.save(
            1, {"params": params}, data_state={}, config_json=to_json(bare),
            tokenizer_directory=None,
        )  # fmt: skip
    one_sentence(f"{URL}/bare", ImportFailed, "holds no tokenizer")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    lilith.storage._file_system.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    one_sentence(
        f"{URL}/run", StorageError, r"not installed \(gcsfs\): pip install 'lilith\[gcs\]'"
    )
