"""What a training step carries, and the batch it reads."""

from __future__ import annotations

from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lilith.config import ModelConfig
from lilith.model.params import abstract_params, init_params
from lilith.sharding import DEFAULT_RULES, HOST_MEMORY, ShardingRules, named_sharding

T = TypeVar("T")


@flax.struct.dataclass
class Batch:
    """Packed rows of tokens, each [rows, length].

    Attributes:
      tokens: int32 inputs.
      targets: int32, the token that follows each input.
      segment_ids: int32 document number within the row, 0 for padding.
      positions: int32 place within the document.
      loss_mask: float32 weight of each target, 0 on padding.
    """

    tokens: jax.Array
    targets: jax.Array
    segment_ids: jax.Array
    positions: jax.Array
    loss_mask: jax.Array


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
      step: int32 steps taken, skipped ones included.
      params: nested dict of weights in the master dtype.
      opt_state: the optimizer's own.
      bad_in_a_row: int32 non-finite steps since the last good one.
      bad_total: int32 non-finite steps skipped in all.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    bad_in_a_row: jax.Array
    bad_total: jax.Array


def new_state(
    seed: int, config: ModelConfig, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step; pure, so that jit can make it in place on a mesh."""
    params = init_params(seed, config)
    return state_from_params(params, optimizer)


def state_from_params(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """A fresh state around given weights."""
    # Distinct arrays: a donated buffer must not be passed twice.
    zeros = [jnp.zeros((), jnp.int32) for _ in range(3)]
    return TrainState(zeros[0], params, optimizer.init(params), zeros[1], zeros[2])


def abstract_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> TrainState:
    """Shapes, dtypes and shardings of the state of a whole model; the target of a restore."""
    return abstract_state_of(abstract_params(config, mesh, rules), optimizer, mesh)


def abstract_state_of(
    params: Any, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The abstract state around abstract ``params`` that have their shardings.

    Optimizer moments are laid out as the weights they belong to, and in the memory that the
    optimizer keeps them in.
    """
    with jax.set_mesh(mesh):
        # Unlike what eval_shape gives, these abstract arrays know which memory they are in.
        traced = jax.jit(lambda params: state_from_params(params, optimizer)).trace(params)
    state = jax.tree.unflatten(jax.tree.structure(traced.out_info), traced.jaxpr.out_avals)
    return on_mesh(state, mesh)


def on_mesh(tree: Any, mesh: Mesh) -> Any:
    """Abstract arrays that a traced function gave, with their shardings on the devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=_concrete_sharding(leaf, mesh)
        ),
        tree,
    )


def init_state(
    seed: int,
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> TrainState:
    """Make the first state with every array already in its place on ``mesh``."""
    target = abstract_state(config, optimizer, mesh, rules)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    with jax.set_mesh(mesh):
        return jax.jit(lambda: new_state(seed, config, optimizer), out_shardings=shardings)()


def abstract_of(params: Any) -> Any:
    """Shapes, dtypes and shardings of arrays that are in their places."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), params
    )


def place_state(params: Any, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The first state around weights that are in their places; they are taken over."""
    target = abstract_state_of(abstract_of(params), optimizer, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    start = jax.jit(
        lambda params: state_from_params(params, optimizer),
        out_shardings=shardings,
        donate_argnums=0,
    )
    with jax.set_mesh(mesh):
        return start(params)


def put_batch(rows: dict[str, Any], mesh: Mesh, rules: ShardingRules = DEFAULT_RULES) -> Batch:
    """This process's rows as one global batch on ``mesh``.

    Args:
      rows: numpy arrays [rows of this process, length], one for each field of :class:`Batch`.
    """
    return put_rows(Batch, rows, mesh, "batch", "length", rules=rules)


def put_rows(
    kind: type[T],
    rows: dict[str, Any],
    mesh: Mesh,
    *axes: str | None,
    rules: ShardingRules = DEFAULT_RULES,
) -> T:
    """This process's rows as one global batch of class ``kind`` on ``mesh``.

    Args:
      rows: numpy arrays, one for each field of ``kind``; the first axis of each is the rows of
        this process.
      axes: logical axes of every array's first dimensions; default: the rows are split.
    """
    sharding = named_sharding(mesh, rules.spec(*(axes or ("batch",))))
    return kind(
        **{
            name: jax.make_array_from_process_local_data(sharding, value)
            for name, value in rows.items()
        }
    )


def _concrete_sharding(leaf: Any, mesh: Mesh) -> NamedSharding:
    sharding = leaf.sharding
    spec = sharding.spec if isinstance(sharding, NamedSharding) else PartitionSpec()
    if getattr(leaf, "memory_space", None) == jax.memory.Space.Host:
        return NamedSharding(mesh, spec, memory_kind=HOST_MEMORY)
    return NamedSharding(mesh, spec)
