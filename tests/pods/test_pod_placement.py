"""What is whole on every device is found; slices and heads that do not divide are sentences."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lilith.config import MeshConfig, OptimizerConfig
from lilith.model.params import abstract_params
from lilith.model.presets import get_model_config
from lilith.pods.placement import REPLICATED_LIMIT, require_heads, require_split, whole_tensors
from lilith.sharding import ShardingError, ShardingRules, make_mesh, target_platform
from lilith.train.optimizer import make_optimizer
from lilith.train.state import abstract_state


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(fsdp=4, tensor=2))


CONFIG = dataclasses.replace(get_model_config("7b"), layers=2)


def test_7b_is_split_and_only_norms_are_whole(mesh):
    params = abstract_params(CONFIG, mesh)
    require_split(params, "weights")
    assert {path.rsplit("/", 1)[-1] for path, _ in whole_tensors(params)} == {
        "attention_norm", "final_norm", "mlp_norm",
    }  # fmt: skip


def test_a_replicated_weight_is_named_with_its_size(mesh):
    rules = ShardingRules(embed=(), heads=(), kv_heads=())
    params = abstract_params(CONFIG, mesh, rules)
    with pytest.raises(
        ShardingError,
        # 2 layers of 4,096 x 4,096 in float32; q, k, v and o are whole.
        match=r"the weights layers/attention/\w \(134 MB\) and 3 more is whole on every device",
    ):
        require_split(params, "weights")


def test_a_replicated_moment_fails_too(mesh):
    optimizer = make_optimizer(OptimizerConfig(), 10)
    rules = ShardingRules(embed=(), ff=())
    state = abstract_state(CONFIG, optimizer, mesh, rules)
    with pytest.raises(ShardingError, match=r"the optimizer .*mlp/.* is whole on every device"):
        require_split(state.opt_state, "optimizer")


def test_what_the_compiler_chose_counts_where_it_is_given(mesh):
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    whole = NamedSharding(mesh, PartitionSpec())
    tree = {"w": jax.ShapeDtypeStruct((8192, 8192), jnp.float32, sharding=split)}
    require_split(tree, "weights")
    with pytest.raises(ShardingError, match="the weights w "):
        require_split(tree, "weights", {"w": whole})
    small = {"w": jax.ShapeDtypeStruct((int(REPLICATED_LIMIT) // 4,), jnp.float32, sharding=whole)}
    require_split(small, "weights")


def test_heads_that_the_tensor_axis_cuts_are_a_sentence():
    require_heads(CONFIG, 32)
    with pytest.raises(ShardingError, match=r"heads is 32, which mesh.tensor=3 does not divide"):
        require_heads(CONFIG, 3)
    with pytest.raises(ShardingError, match=r"model.kv_heads is 8, .*this model: 1, 2, 4, 8$"):
        require_heads(get_model_config("70b"), 16)


def test_a_wrong_rule_is_refused_before_anything_is_compiled(mesh):
    with pytest.raises(ShardingError, match="'fsdp' would split two dimensions"):
        abstract_params(CONFIG, mesh, ShardingRules(heads=("fsdp",)))
    with pytest.raises(ShardingError, match="did you mean 'fsdp'"):
        ShardingRules(embed=("fdsp",))


def _in_slices(count):
    """This machine's devices as if they were TPUs in slices."""
    own = jax.devices()
    each = len(own) // count
    return [
        SimpleNamespace(platform="tpu", slice_index=i // each, device=device)
        for i, device in enumerate(own)
    ]


def test_only_the_data_axis_crosses_slices(monkeypatch):
    def make(shape, names, *, axis_types, devices):
        return jax.sharding.Mesh(
            np.array([own.device for own in devices]).reshape(shape),
            names,
            axis_types=axis_types,
        )

    monkeypatch.setattr(jax, "make_mesh", make)
    whole = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2), _in_slices(2))
    assert dict(whole.shape) == {"data": 2, "fsdp": 2, "context": 1, "tensor": 2, "expert": 1}
    first = {device.id for device in whole.devices[0].flat}
    assert first == {device.id for device in jax.devices()[:4]}
    with pytest.raises(ShardingError, match=r"in 2 slices and mesh.data is 1; only the data axis"):
        make_mesh(MeshConfig(fsdp=8), _in_slices(2))


def test_programs_are_for_the_platform_of_the_mesh(mesh):
    assert target_platform() == jax.default_backend()
    with jax.set_mesh(mesh):
        assert target_platform() == "cpu"
    device = jax.sharding.AbstractDevice("TPU v5", 2, "tpu")
    pod = jax.sharding.AbstractMesh((4,), ("fsdp",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(pod):
        assert target_platform() == "tpu"
