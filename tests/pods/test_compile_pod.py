"""The stage compiles the true step for TPUs, and what is wrong is one sentence."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import pytest

from experiments import compile_pod, pod_steps
from experiments.compile_pod import DoesNotFit, compile_step, nearer_settings
from experiments.compile_pod_config import CompilePodConfig
from experiments.run import load_config, main
from lilith.config import MeshConfig, ModelConfig
from lilith.model.presets import get_model_config
from lilith.pods.topologies import compile_only_devices, get_topology
from lilith.sharding import ShardingError, ShardingRules, make_mesh

needs_libtpu = pytest.mark.usefixtures("libtpu")
ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 2**30
WIDE = dataclasses.replace(get_model_config("7b"), layers=2)
SMALL = CompilePodConfig(
    model=ModelConfig(layers=2, d_model=512, heads=4, kv_heads=4, d_ff=1024, vocab=2048,
                      context=4096, remat="none"),
    topology="v5e:2x2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _jax_as_it_was():
    """The stage turns the compilation cache off for its process; other tests want it."""
    names = ("jax_enable_compilation_cache", "jax_platforms")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def refused(capsys, *overrides):
    """What the command line says, in one line, to a config it refuses."""
    assert main(["--config", "compile_pod", "--dry-run", "--set", *overrides]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_overrides_name_a_model_and_a_topology():
    config = load_config("compile_pod", ["model=7b", "topology=v5p:4x4x4", "slices=2", "batch=4"])
    assert isinstance(config, CompilePodConfig)
    assert (config.model, config.topology, config.slices) == (
        get_model_config("7b"), "v5p:4x4x4", 2,
    )  # fmt: skip
    assert config.row_length == 4096


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("topology=v5p:3x3x3", "unknown topology 'v5p:3x3x3'; the shapes of v5p are 1x1x1, 2x2x1"),
        ("topology=v5z:4x4", "those that exist: v4: 1x1x1, 2x2x1"),
        ("mesh.tensor=3", "model.heads is 16, which mesh.tensor=3 does not divide"),
        ("step=trane", "step is 'trane' (did you mean 'train'?)"),
        ("batch=0", "batch is 0.0; it must be a positive number"),
        ("length=9999", "length is 9999; it must be at most model.context"),
        ("xla=xla_option", "is not of the form name=value"),
    ],
)
def test_bad_input_is_one_sentence(capsys, override, sentence):
    assert sentence in refused(capsys, override)


@needs_libtpu
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["mesh.fsdp=8"], "needs 8 devices and there are 16"),
        (["batch=0.3"], "batch=0.3 on 16 devices is 4.8 rows, which do not divide over"),
        (["mesh.tensor=2", "batch=0.25"], "make batch a multiple of 0.5"),
        (["slices=2", "mesh.data=3"], "does not divide the 32 devices"),
    ],
)
def test_a_mesh_or_batch_that_does_not_fit_the_devices(capsys, overrides, sentence):
    assert sentence in refused(capsys, *overrides)


@needs_libtpu
def test_two_slices_split_the_data_axis(capsys):
    assert main(["--config", "compile_pod", "--dry-run", "--set", "slices=2"]) == 0
    assert "data 2 x fsdp 16" in capsys.readouterr().out
    mesh = make_mesh(MeshConfig(data=2), compile_only_devices(get_topology("v5e:4x4", 2)))
    assert {device.slice_index for device in mesh.devices[0].flat} == {0}


@needs_libtpu
def test_dry_run_counts_what_a_device_holds(capsys):
    overrides = ["model=7b", "topology=v5p:4x4x4", "batch=4"]
    assert main(["--config", "compile_pod", "--dry-run", "--set", *overrides]) == 0
    out = capsys.readouterr().out
    assert "6,738,415,616 parameters" in out
    # Four bytes and eight a weight over 64 devices, and the norms on each of them.
    assert "weights             0.39 GiB" in out
    assert "optimizer           0.79 GiB" in out


@needs_libtpu
def test_a_replicated_weight_fails_the_check_before_compiling():
    config = CompilePodConfig(model=WIDE, topology="v5e:2x4", length=2048)
    with pytest.raises(ShardingError, match=r"the weights layers/mlp/.* is whole on every device"):
        compile_step(config, ShardingRules(embed=(), vocab=("fsdp",)))


@needs_libtpu
def test_a_wrong_rule_fails():
    with pytest.raises(ShardingError, match="would split two dimensions"):
        compile_step(SMALL, ShardingRules(ff=("fsdp",)))


@needs_libtpu
def test_a_batch_that_does_not_fit_says_by_how_much():
    config = dataclasses.replace(SMALL, batch=1024.0)
    with pytest.raises(DoesNotFit) as found:
        compile_step(config)
    assert found.value.available < 16 * GIB < found.value.needed


def test_the_nearest_setting_that_fits_is_named(monkeypatch, capsys, tmp_path):
    tried = []

    def compiled(config):
        tried.append(config)
        if config.model.remat != "full" or config.batch > 2:
            raise DoesNotFit(20 * GIB, 15.5 * GIB)
        return dataclasses.replace(config)  # stands for a report

    monkeypatch.setattr(compile_pod, "compile_step", compiled)
    monkeypatch.setattr(
        CompilePodConfig, "memory", dataclasses.make_dataclass("M", ["used"])(8.5 * GIB),
        raising=False,
    )  # fmt: skip
    config = dataclasses.replace(SMALL, batch=4.0)
    with pytest.raises(compile_pod.UserError) as found:
        compile_pod.run(config, tmp_path)
    assert str(found.value) == (
        "the train step does not fit on v5e:2x2: a device needs 20.00 GiB at least and has 15.50, "
        "4.50 GiB too little; it fits with model.remat=full batch=2 (8.50 GiB)"
    )
    assert "trying batch=2" in capsys.readouterr().out
    assert [(own.model.remat, own.batch) for own in tried] == [
        ("none", 4), ("full", 4), ("none", 2), ("none", 1), ("full", 2),
    ]  # fmt: skip


def test_after_smaller_settings_come_larger_slices():
    words = [words for words, _ in nearer_settings(dataclasses.replace(SMALL, step="decode"))]
    assert words[:3] == ["batch=0.5", "batch=0.25", "topology=v5e:2x4"]
    assert words[-1] == "topology=v5e:16x16"


def test_the_compilers_messages_about_memory_are_read():
    texts = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (213.54G) exceeds available HBM (15.75G).",
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.10G of 15.75G hbm. "
        "Exceeded hbm capacity by 4.35G.",
    )
    for text, needed in zip(texts, (213.54, 20.10)):

        class Lowered:
            def compile(self, compiler_options, text=text):
                raise jax.errors.JaxRuntimeError(text)

        with pytest.raises(DoesNotFit) as found:
            compile_pod._compiled(Lowered(), SMALL)
        assert found.value.needed == needed * GIB
        assert found.value.available == 15.75 * GIB


@pytest.mark.parametrize("step", ["train", "prefill", "decode"])
def test_every_step_is_traced_with_abstract_arrays_on_any_mesh(step):
    """The same programs, laid out on this machine's devices instead of a pod's."""
    config = dataclasses.replace(SMALL, step=step, length=1024)
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    program = pod_steps.program_of(config, mesh, ShardingRules())
    sizes = program.argument_bytes()
    assert sizes["weights"] > 0
    assert sizes.keys() == ({"weights", "optimizer"} if step == "train" else {"weights", "cache"})
    with jax.set_mesh(mesh):
        text = program.lower().as_text()
    assert "sdy.sharding" in text or "mhlo.sharding" in text
    assert program.flops.model > 0


def compiled_report(tmp_path, *overrides):
    """The report of a run of the command line in a process of its own."""
    command = [sys.executable, "-m", "experiments.run", "--config", "compile_pod"]
    ended = subprocess.run(
        [*command, "--workdir", str(tmp_path), "--set", *overrides],
        cwd=ROOT, capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return json.loads((tmp_path / "report.json").read_text()), ended.stdout


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x4", "v5p:2x2x1"])
def test_two_layers_of_7b_compile_fit_and_are_split(tmp_path, topology):
    """About a minute of one core each; most of it is the attention kernels."""
    report, out = compiled_report(
        tmp_path, "model=7b", "model.layers=2", f"topology={topology}", "length=2048"
    )
    assert report["parameters"] == 666_914_816
    assert "666,914,816" in out
    memory, devices = report["memory"], report["devices"]
    assert memory["weights"] == pytest.approx(4 * 666_914_816 / devices, rel=1e-3)
    assert memory["optimizer"] == pytest.approx(8 * 666_914_816 / devices, rel=1e-3)
    assert memory["used"] < memory["capacity"]
    gathers = [own for own in report["collectives"] if own["kind"] == "all-gather"]
    assert {own["axes"] for own in gathers} == {"fsdp"}
    # In bfloat16 every layer's weights are gathered forward and backward, the two tables once.
    layer, tables = 202_375_168, 2 * 32_000 * 4096
    moved = sum(own["array_bytes"] * own["times"] for own in gathers)
    assert moved == pytest.approx(2 * (2 * 2 * layer + tables), rel=1e-3)
    assert {own["times"] for own in gathers} == {1, 2}
    # 6 FLOPs a weight and token, and causal attention, of our own count.
    tokens = devices * 2048
    assert report["flops"]["model"] > 6 * tokens * (666_914_816 - 32_000 * 4096)
    roofline = report["roofline"]
    assert 0 < roofline["scheduled_mfu_bound"] <= roofline["mfu_bound"] <= 1
