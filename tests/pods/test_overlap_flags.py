"""The compilers know every option for overlap, and training steps are compiled with them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import pod_steps
from experiments.compile_pod_config import CompilePodConfig
from lilith.config import MeshConfig, ModelConfig
from lilith.pods.overlap_flags import GPU, TPU, overlap_options
from lilith.pods.topologies import compile_only_devices, get_topology
from lilith.sharding import ShardingRules, make_mesh


def mesh_of(platform, count=4):
    """What of a mesh says which devices it has."""
    return SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)] * count))


def test_options_are_those_of_the_platform():
    assert overlap_options(mesh_of("tpu")).keys() == {flag.name for flag in TPU}
    assert overlap_options(mesh_of("gpu")).keys() == {flag.name for flag in GPU}
    assert overlap_options(mesh_of("tpu", count=1)) == {}
    assert overlap_options(make_mesh(MeshConfig())) == {}


@pytest.mark.parametrize("flag", [*TPU, *GPU], ids=lambda flag: flag.name)
def test_each_says_what_it_does(flag):
    assert flag.does.endswith(".")
    assert len(flag.does) > 30


def compiled(mesh, options):
    """Compile something small for the devices of a mesh."""
    with jax.set_mesh(mesh):
        array = jax.ShapeDtypeStruct(
            (8, 128), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P("fsdp"))
        )
        jax.jit(lambda x: x * 2, compiler_options=options).lower(array).compile()


def test_the_compiler_knows_every_option_for_gpus():
    """Options are read before the program is looked at, so that a CPU's compiler knows them too."""
    mesh = make_mesh(MeshConfig())
    compiled(mesh, {flag.name: flag.value for flag in GPU})
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        compiled(mesh, {"xla_gpu_enable_pipelined_everything": True})


@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize("name", ["v5e:2x2", "v6e:2x2", "v5p:2x2x1"])
def test_the_compiler_knows_every_option_for_tpus(name):
    mesh = make_mesh(MeshConfig(), compile_only_devices(get_topology(name)))
    options = overlap_options(mesh)
    assert "xla_enable_async_reduce_scatter_fusion" in options
    compiled(mesh, options)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_enable_everything"):
        compiled(mesh, {"xla_tpu_enable_everything": True})


@pytest.mark.parametrize("overlap", [True, False])
def test_the_training_step_is_compiled_with_them(monkeypatch, overlap):
    """What the stage of a pod compiles has the options where they are asked for."""
    seen = []
    monkeypatch.setattr(pod_steps, "jitted_step", lambda *_, options, **__: seen.append(options))
    monkeypatch.setattr(pod_steps, "overlap_options", lambda mesh: {"xla_some": True})
    config = CompilePodConfig(model=ModelConfig(), overlap=overlap)
    pod_steps.program_of(config, make_mesh(MeshConfig()), ShardingRules())
    assert seen == [{"xla_some": True} if overlap else {}]
