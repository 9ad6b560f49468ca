"""The steps that are compiled for a pod: the trainer's own, and those of the inference engine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from experiments.compile_pod_config import CompilePodConfig
from experiments.loop import jitted_step
from experiments.pretrain import loss_of
from lilith.config import ConfigError, DataConfig, ExperimentConfig, ModelConfig, TrainConfig
from lilith.inference import cache_rows, sampler
from lilith.inference.engine import CALL_TOKENS, PIECE, round_capacity
from lilith.inference.sampling import make_controls
from lilith.model.cached_attention import BLOCK
from lilith.model.estimates import activation_bytes, tree_bytes
from lilith.model.layered import unstack_layers
from lilith.model.params import abstract_params
from lilith.pods.overlap_flags import overlap_options
from lilith.pods.roofline import StepFlops, decode_flops, prefill_flops, training_flops
from lilith.sharding import ShardingRules, named_sharding
from lilith.train.lora import abstract_adapter
from lilith.train.optimizer import make_optimizer
from lilith.train.sft import sft_loss
from lilith.train.state import Batch, TrainState, abstract_state, abstract_state_of, on_mesh
from lilith.train.step import LossFunction

STEPS = 40_000  # of the schedule; how many they are changes nothing that is compiled


@dataclass(frozen=True)
class Program:
    """A step ready to be compiled, and what is known of it before.

    Attributes:
      lower: traces it for the mesh in force.
      arguments: abstract trees that go in, by kind: weights, base (below an adapter), optimizer,
        cache.
      tokens: of each row that one step handles.
      activations: estimated bytes kept for a backward pass on each device.
      least_traffic: bytes of a device that any program for this step must read.
      turns: of loops of unknown length, see :meth:`lilith.pods.hlo.Module.scheduled`.
      outputs: picks from the step's result the trees that stay, by kind.
    """

    lower: Callable[[], Any]
    arguments: dict[str, Any]
    flops: StepFlops
    tokens: int
    activations: int = 0
    least_traffic: float | None = None
    turns: tuple[int, ...] = ()
    outputs: Callable[[Any], dict[str, Any]] = lambda result: {}

    def argument_bytes(self) -> dict[str, int]:
        """Bytes on each device, by kind."""
        return {kind: tree_bytes(tree) for kind, tree in self.arguments.items()}


def program_of(config: CompilePodConfig, mesh: Mesh, rules: ShardingRules) -> Program:
    """The step that ``config`` names, with abstract arrays; nothing is allocated.

    Raises:
      ConfigError, ShardingError: what can not be laid out on the mesh.
    """
    build = {"train": _training, "prefill": _prefill, "decode": _decoding}[config.step]
    with jax.set_mesh(mesh):
        return build(config, mesh, rules)


def rows_of(config: CompilePodConfig, mesh: Mesh) -> int:
    """Rows of the whole batch.

    Raises:
      ConfigError: they are no whole number, or do not divide over the mesh or the micro-batches.
    """
    devices = mesh.devices.size
    rows = config.batch * devices
    shards = mesh.shape["data"] * mesh.shape["fsdp"] * config.accumulation
    if rows != int(rows) or int(rows) % shards:
        multiple = shards / devices
        raise ConfigError(
            f"batch={config.batch:g} on {devices} devices is {rows:g} rows, which do not divide "
            f"over data x fsdp x accumulation = {shards}; make batch a multiple of {multiple:g}"
        )
    return int(rows)


def _training(config: CompilePodConfig, mesh: Mesh, rules: ShardingRules) -> Program:
    rows, length = rows_of(config, mesh), config.row_length
    experiment = ExperimentConfig(
        name=config.name,
        model=config.model,
        data=DataConfig(length=length),
        mesh=config.mesh,
        optimizer=config.optimizer,
        train=TrainConfig(
            steps=STEPS, batch=rows, accumulation=config.accumulation, z_loss=config.z_loss,
            loss_chunk=config.loss_chunk,
        ),
    )  # fmt: skip
    optimizer = make_optimizer(config.optimizer, STEPS)
    state, loss, frozen = _trained(config, experiment, optimizer, mesh, rules)
    sharding = named_sharding(mesh, rules.spec("batch", "length"))
    fields: dict[str, Any] = {
        field.name: jax.ShapeDtypeStruct(
            (rows, length),
            jnp.float32 if field.name == "loss_mask" else jnp.int32,
            sharding=sharding,
        )
        for field in dataclasses.fields(Batch)
    }
    batch = Batch(**fields)
    options = overlap_options(mesh) if config.overlap else {}
    step = jitted_step(
        experiment, loss, optimizer, draws=bool(config.lora.dropout), options=options
    )
    own_rows = math.ceil(rows / config.accumulation / (mesh.shape["data"] * mesh.shape["fsdp"]))
    arguments = {"weights": state.params, "optimizer": state.opt_state}
    flops = training_flops(config.model, rows * length, length)
    if frozen is not None:  # no weight of it has a gradient of its own
        arguments["base"] = frozen
        flops = StepFlops(flops.model * 2 / 3, flops.recomputed)
    return Program(
        lower=lambda: step.lower(state, batch, frozen),
        arguments=arguments,
        flops=flops,
        tokens=length,
        activations=activation_bytes(config.model, own_rows, length, dict(mesh.shape)),
        outputs=lambda result: {
            "weights": result[0].params, "optimizer": result[0].opt_state
        },
    )  # fmt: skip


def _trained(
    config: CompilePodConfig,
    experiment: ExperimentConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: ShardingRules,
) -> tuple[TrainState, LossFunction, Any]:
    """The abstract state, the loss, and the weights below an adapter, None without one."""
    if not config.lora.rank:
        state = abstract_state(config.model, optimizer, mesh, rules)
        return state, loss_of(experiment, rules), None
    frozen = abstract_params(_generation_model(config), mesh, rules)
    adapter = abstract_adapter(config.model, config.lora, mesh, rules)
    loss = partial(
        sft_loss, config=config.model, lora=config.lora, z_loss=config.z_loss,
        chunk=config.loss_chunk, rules=rules,
    )  # fmt: skip
    return abstract_state_of(adapter, optimizer, mesh), loss, frozen


def _generation(config: CompilePodConfig, mesh: Mesh, rules: ShardingRules) -> tuple[Any, Any, int]:
    """Weights in the generation layout, an empty cache for the rows, and how many those are."""
    rows = rows_of(config, mesh)
    model = _generation_model(config)
    stacked = abstract_params(model, mesh, rules)
    params = on_mesh(jax.eval_shape(unstack_layers, stacked), mesh)
    capacity = round_capacity(config.row_length)

    def empty(params: Any) -> Any:
        return cache_rows.empty_cache(params, rows, capacity, config=model, rules=rules)

    return params, on_mesh(jax.eval_shape(empty, params), mesh), rows


def _generation_model(config: CompilePodConfig) -> ModelConfig:
    """Weights are loaded in the type that they are used in."""
    return dataclasses.replace(config.model, param_dtype=config.model.compute_dtype)


def _abstract_rows(
    mesh: Mesh, rules: ShardingRules, shape: tuple[int, ...], dtype: Any
) -> jax.ShapeDtypeStruct:
    spec = rules.spec("batch", *[None] * (len(shape) - 1))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=named_sharding(mesh, spec))


def _blocks(capacity: int) -> int:
    """Turns of the loop that reads a full cache."""
    return capacity // BLOCK if capacity > 2 * BLOCK else 1


def _prefill(config: CompilePodConfig, mesh: Mesh, rules: ShardingRules) -> Program:
    """The engine's call that reads the last piece of each prompt."""
    params, cache, rows = _generation(config, mesh, rules)
    model, width = _generation_model(config), min(PIECE, config.row_length)

    def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return _abstract_rows(mesh, rules, shape, dtype)

    last = array(rows, model.d_model, dtype=model.compute_dtype)
    return Program(
        lower=lambda: sampler.read_prompts.lower(
            params, array(rows, width), array(rows), cache, last, config=model, rules=rules
        ),
        arguments={"weights": params, "cache": cache},
        flops=prefill_flops(model, rows * width, config.row_length - width // 2),
        tokens=width,
        turns=(_blocks(cache.capacity),),
    )


def _decoding(config: CompilePodConfig, mesh: Mesh, rules: ShardingRules) -> Program:
    """The engine's call that generates :data:`CALL_TOKENS` tokens a row, in a loop."""
    params, cache, rows = _generation(config, mesh, rules)
    model = _generation_model(config)

    def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return _abstract_rows(mesh, rules, shape, dtype)

    controls = jax.tree.map(lambda own: array(*own.shape, dtype=own.dtype), make_controls(rows))
    last = array(rows, model.d_model, dtype=model.compute_dtype)
    history = array(rows, cache.capacity)

    def begin(*arguments: Any) -> Any:
        return sampler.start(*arguments, config=model, rules=rules)[0]

    state = on_mesh(jax.eval_shape(begin, params, last, cache, history, controls), mesh)
    table = tree_bytes(params["embedding"]) if not model.tied_embeddings else 0
    return Program(
        lower=lambda: sampler.decode.lower(
            params, state, controls, array(rows), config=model, width=CALL_TOKENS, rules=rules
        ),
        arguments={"weights": params, "cache": cache},
        flops=decode_flops(model, rows * CALL_TOKENS, config.row_length),
        tokens=CALL_TOKENS,
        # For every token; of the input embeddings a row each is read.
        least_traffic=CALL_TOKENS * (tree_bytes(params) - table + tree_bytes(cache)),
        turns=(CALL_TOKENS, _blocks(cache.capacity)),  # and all of the cache for each token
    )
