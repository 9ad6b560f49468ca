"""What a run would cost and see, without running it."""

from __future__ import annotations

import math

import jax
from jax.sharding import AbstractMesh, AxisType

from lilith.config import ExperimentConfig
from lilith.data import Corpus
from lilith.model.estimates import activation_bytes, flops_per_token, tree_bytes
from lilith.model.params import abstract_params, count_params
from lilith.sharding import MESH_AXES
from lilith.train.optimizer import make_optimizer
from lilith.train.state import state_from_params


def show_costs(config: ExperimentConfig) -> None:
    """Print parameters, memory a device, tokens a step and FLOPs a token."""
    sizes = mesh_sizes(config)
    devices = math.prod(sizes.values())
    mesh = AbstractMesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Explicit,) * len(sizes)
    )
    with jax.sharding.use_abstract_mesh(mesh):
        params = abstract_params(config.model, mesh)
        optimizer = make_optimizer(config.optimizer, config.train.steps)
        state = jax.eval_shape(lambda params: state_from_params(params, optimizer), params)
    weights, moments = tree_bytes(state.params), tree_bytes(state.opt_state)
    rows = math.ceil(
        config.train.batch / config.train.accumulation / (sizes["data"] * sizes["fsdp"])
    )
    activations = activation_bytes(config.model, rows, config.data.length, sizes)
    flops = flops_per_token(config.model, config.data.length)
    tokens = config.train.batch * config.data.length
    shape = " x ".join(f"{name} {size}" for name, size in sizes.items() if size > 1) or "1 device"
    total = weights * 2 + activations + (0 if config.optimizer.offload else moments)
    print(f"{config.name}: stage {config.stage}, {config.train.steps:,} steps")
    print(f"parameters        {count_params(config.model):,}")
    print(f"mesh              {shape} ({devices} in all)")
    print(f"memory a device   {_size(total)}, estimated:")
    print(f"  weights         {_size(weights)} ({config.model.param_dtype})")
    print(f"  gradients       {_size(weights)}")
    place = ", on the host" if config.optimizer.offload else ""
    print(f"  optimizer       {_size(moments)} ({config.optimizer.name}{place})")
    print(
        f"  activations     {_size(activations)} ({rows} x {config.data.length} tokens at once, "
        f"remat {config.model.remat}, {config.model.compute_dtype})"
    )
    print(f"tokens a step     {tokens:,} ({config.train.batch} rows of {config.data.length})")
    print(f"tokens in all     {tokens * config.train.steps:,}")
    print(f"FLOPs a token     {flops.causal:.4g} with causal attention, {flops.full:.4g} with full")
    print(f"FLOPs a step      {flops.causal * tokens:.4g} with causal attention", flush=True)


def mesh_sizes(config: ExperimentConfig) -> dict[str, int]:
    """The mesh's axis sizes; an axis of -1 takes what this machine's devices leave."""
    sizes = {name: getattr(config.mesh, name) for name in MESH_AXES}
    fixed = math.prod(size for size in sizes.values() if size != -1)
    return {
        name: max(1, len(jax.devices()) // fixed) if size == -1 else size
        for name, size in sizes.items()
    }


def show_first_batch(config: ExperimentConfig, corpus: Corpus, shown: int = 2) -> None:
    """Print the first rows of the first batch, decoded, documents apart."""
    rows = next(corpus.train_iterator(config.train.batch, seed=config.seed))
    count = len(rows["tokens"])
    print(f"\nfirst batch, {min(shown, count)} of {count} rows:")
    for tokens, segments, mask in list(zip(rows["tokens"], rows["segment_ids"], rows["loss_mask"]))[
        :shown
    ]:
        print(f"--- {int(mask.sum())} of {len(mask)} tokens trained")
        for segment in range(1, int(segments.max()) + 1):
            print(f"[document {segment}]")
            print(corpus.tokenizer.decode(tokens[segments == segment].tolist()))


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e3:.1f} kB"
