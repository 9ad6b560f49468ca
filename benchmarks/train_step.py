"""Training tokens/s on SmolLM2-135M's shape: LILITH beside Hugging Face transformers with torch.

Both do the same full step on the same random batch: forward, backward, clipping by global norm,
AdamW; float32, all cores, one process, in turn. Needs the extra [peers].

    python -m benchmarks.train_step [--repeats 7] [--batch 4] [--length 256]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from lilith.config import MeshConfig, ModelConfig, OptimizerConfig
from lilith.model.estimates import flops_per_token
from lilith.model.params import count_params
from lilith.model.presets import get_model_config
from lilith.sharding import make_mesh
from lilith.train.metrics import measure_matmul_peak
from lilith.train.optimizer import make_optimizer
from lilith.train.pretrain import pretrain_loss
from lilith.train.state import init_state, put_batch
from lilith.train.step import train_step

OPTIMIZER = OptimizerConfig(learning_rate=3e-4, schedule="constant", warmup_steps=0)


def lilith_step(config: ModelConfig, batch: int, length: int):
    """A callable that takes one training step of ours, and the compiled program."""
    optimizer = make_optimizer(OPTIMIZER, 1000)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    state = init_state(0, config, optimizer, mesh)
    rows = put_batch(random_rows(config, batch, length), mesh)
    loss = partial(pretrain_loss, config=config, chunk=512)
    step = jax.jit(
        partial(train_step, loss=loss, optimizer=optimizer, clip_norm=1.0), donate_argnums=0
    )
    with jax.set_mesh(mesh):
        compiled = step.lower(state, rows).compile()
    box = [state]

    def call() -> None:
        box[0], figures = compiled(box[0], rows)
        figures["loss"].block_until_ready()
        jax.block_until_ready(box[0])

    return call, compiled


def random_rows(config: ModelConfig, batch: int, length: int) -> dict[str, np.ndarray]:
    """One document a row, random tokens."""
    tokens = np.random.default_rng(0).integers(0, config.vocab, (batch, length + 1))
    return {
        "tokens": tokens[:, :-1].astype(np.int32),
        "targets": tokens[:, 1:].astype(np.int32),
        "segment_ids": np.ones((batch, length), np.int32),
        "positions": np.tile(np.arange(length, dtype=np.int32), (batch, 1)),
        "loss_mask": np.ones((batch, length), np.float32),
    }


def transformers_step(config: ModelConfig, batch: int, length: int):
    """The same step by transformers' LlamaForCausalLM and torch's fused AdamW."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab,
            hidden_size=config.d_model,
            intermediate_size=config.d_ff,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=config.tied_embeddings,
            attn_implementation="sdpa",
            use_cache=False,
        )
    ).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    tokens = torch.tensor(random_rows(config, batch, length)["tokens"]).long()

    def call() -> None:
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()
    config = dataclasses.replace(get_model_config("smollm2-135m"), compute_dtype="float32")
    tokens = options.batch * options.length
    ours, compiled = lilith_step(config, options.batch, options.length)
    sides = {
        "lilith": ours,
        "transformers": transformers_step(config, options.batch, options.length),
    }
    seconds = harness.interleaved(sides, options.repeats)
    middle = {name: harness.median(values) for name, values in seconds.items()}
    flops = flops_per_token(config, options.length).causal
    peak = measure_matmul_peak("float32", seconds=1.0)
    rows = [
        [name, middle[name], min(seconds[name]), max(seconds[name]), tokens / middle[name],
         flops * tokens / middle[name] / 1e9, flops * tokens / middle[name] / peak]
        for name in sides
    ]  # fmt: skip
    memory = compiled.memory_analysis()
    harness.report(
        "train_step",
        ["side", "median s", "min s", "max s", "tokens/s", "GFLOP/s", "of peak"],
        rows,
        {
            "ratio lilith / transformers": middle["transformers"] / middle["lilith"],
            "shape": f"SmolLM2-135M ({count_params(config):,} parameters), batch "
            f"{options.batch} x {options.length}, float32, AdamW, clip 1.0",
            "matrix product peak, GFLOP/s": peak / 1e9,
            "limit by that peak, tokens/s": peak / flops,
            "temporaries of our step, MB": memory.temp_size_in_bytes / 1e6,
            "one [batch, length, vocab] float32, MB": tokens * config.vocab * 4 / 1e6,
            "glibc tunables": os.environ.get("GLIBC_TUNABLES", "none"),
            **harness.machine("jax", "torch", "transformers"),
        },
    )


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    jnp.zeros(()).block_until_ready()
    main()
