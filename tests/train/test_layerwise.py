"""Updates that take one layer after another give the bits of an update of all at once."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from lean_cases import MESH, assert_same_bits, make, mesh_of

from lilith.train import optimizer as optimizers
from lilith.train.layerwise import Layerwise, apply_gradients
from lilith.train.state import place_state

LEAN = {"state_dtype": "int8", "rounding": "stochastic"}


def all_at_once(optimizer):
    """The same optimizer, that is not known to be one of single weights."""
    return optax.GradientTransformationExtraArgs(*optimizer)


def weights(mesh):
    """Stacked weights of three layers and a table, split over fsdp and tensor."""
    shapes = {
        "layers": {
            "o": ((3, 2, 32, 256), (None, "tensor", None, "fsdp")),
            "up": ((3, 256, 192), (None, "fsdp", "tensor")),
            "norm": ((3, 1500), ()),  # in blocks as a whole, and too small for them by itself
        },
        "embedding": ((128, 256), ("tensor", "fsdp")),
    }

    def make(path, own):
        key = jax.random.key(len(jax.tree_util.keystr(path)))
        values = jax.random.normal(key, own[0], jnp.bfloat16)
        return jax.device_put(values, NamedSharding(mesh, PartitionSpec(*own[1])))

    return jax.tree_util.tree_map_with_path(
        make, shapes, is_leaf=lambda own: isinstance(own, tuple)
    )


def updated(optimizer, shape, steps=2):
    """Weights and state after some updates of gradients that are the weights themselves."""
    mesh = mesh_of(shape)
    state = place_state(weights(mesh), optimizer, mesh)

    @jax.jit
    def update(params, state):
        return apply_gradients(optimizer, params, 0.5, state, params)

    params, own = state.params, state.opt_state
    with jax.set_mesh(mesh):
        for _ in range(steps):
            params, own = update(params, own)
    return params, own


@pytest.mark.parametrize(
    ("fields", "shape"),
    [({**LEAN}, None), ({**LEAN, "offload": True}, MESH), ({**LEAN, "name": "lion"}, MESH)],
    ids=["one device", "eight devices and the host", "lion"],
)
def test_layer_after_layer_gives_the_same_bits(fields, shape):
    optimizer = make(**fields)
    assert isinstance(optimizer, Layerwise)
    turns, whole = updated(optimizer, shape), updated(all_at_once(optimizer), shape)
    assert_same_bits(turns, whole)
    kinds = [[leaf.sharding for leaf in jax.tree.leaves(own)] for own in (turns, whole)]
    assert kinds[0] == kinds[1]


def test_layers_are_rounded_by_numbers_of_their_own():
    """Two layers of equal weights and gradients part ways."""
    optimizer = make(**LEAN, no_decay=())
    params = {
        "layers": {"w": jnp.ones((2, 64, 128), jnp.bfloat16)},
        "head": jnp.ones((4, 4), jnp.bfloat16),
    }
    gradients = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    state = optimizer.init(params)
    for _ in range(3):  # the warm-up begins with small updates
        params, state = apply_gradients(optimizer, gradients, 1.0, state, params)
    one, two = params["layers"]["w"]
    assert 0.05 < (one != two).mean() < 0.95
    assert jnp.abs(one.astype(jnp.float32) - 1).max() > 0


def test_only_what_needs_it_and_can_do_it_goes_layer_by_layer():
    assert not isinstance(make(), Layerwise)
    assert not isinstance(make(state_dtype="bfloat16"), Layerwise)
    # Its clipping is by the size of the update of all layers.
    assert not isinstance(make(name="adafactor", offload=True), Layerwise)
    assert isinstance(make(offload=True), Layerwise)
    assert optimizers.ELEMENTWISE == ("adamw", "lion")


def test_what_is_made_on_the_way_is_of_one_layer():
    """The program of the update holds no float32 array of all layers' shape."""
    optimizer = make(**LEAN)
    shape = (6, 64, 128)
    params = {
        "layers": {"w": jnp.ones(shape, jnp.bfloat16)},
        "head": jnp.ones((8, 8), jnp.bfloat16),
    }
    state = optimizer.init(params)

    def text(optimizer):
        lowered = jax.jit(apply_gradients, static_argnums=0).lower(
            optimizer, params, 1.0, state, params
        )
        return lowered.as_text()

    whole = "tensor<6x64x128xf32>"
    assert whole in text(all_at_once(optimizer))
    assert whole not in text(optimizer)
