"""A very small model, with pairs and rollouts of random tokens, for the losses that read them."""

from __future__ import annotations

import jax
import numpy as np

from lilith.config import ModelConfig
from lilith.sharding import DEFAULT_RULES, named_sharding
from lilith.train.ppo import RolloutBatch
from lilith.train.preferences import PairBatch
from lilith.train.state import Batch

CONFIG = ModelConfig(
    layers=2, d_model=16, heads=2, kv_heads=2, d_ff=16, vocab=32, context=64,
    compute_dtype="float32", logit_softcap=5.0,
)  # fmt: skip
LENGTH = 12


def random_pairs(count=8, seed=0, length=LENGTH):
    """Pairs of ragged lengths whose last third or so is learnt; labels, margins and references."""
    random = np.random.default_rng(seed)
    lengths = random.integers(5, length + 2, (count, 2)).astype(np.int32)
    places = np.arange(length + 1)
    real = places < lengths[..., None]
    tokens = random.integers(1, CONFIG.vocab, real.shape) * real
    learnt = real & (places >= lengths[..., None] - random.integers(1, 4, (count, 2, 1)))
    return PairBatch(
        tokens_PST=tokens.astype(np.int32),
        learnt_PST=learnt.astype(np.float32),
        length_PS=lengths,
        label_P=random.choice([1.0, 0.8, 0.3], count).astype(np.float32),
        margin_P=random.uniform(0, 1, count).astype(np.float32),
        weight_P=np.ones(count, np.float32),
        reference_PS=random.normal(-8, 1, (count, 2)).astype(np.float32),
    )


def random_rows(count=8, seed=0, length=LENGTH):
    """Rows with padding, a prompt and a gap (as a tool's response) that are not learnt."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, CONFIG.vocab, (count, length + 1)).astype(np.int32)
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (count, length))
    real = places < random.integers(7, length + 1, (count, 1))
    gap = (places == 5) & (random.random((count, 1)) < 0.5)
    own = real & (places >= random.integers(1, 4, (count, 1))) & ~gap
    return Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        segment_ids=real.astype(np.int32),
        positions=places,
        loss_mask=own.astype(np.float32),
    )


def random_rollout(count=8, seed=0, length=LENGTH):
    """Rows with everything that PPO and GRPO read, of plausible sizes."""
    rows = random_rows(count, seed, length)
    random = np.random.default_rng(seed + 1)

    def normal(mean, deviation):
        return random.normal(mean, deviation, rows.tokens.shape).astype(np.float32)

    return RolloutBatch(
        rows=rows,
        old_log_probs_BT=normal(-3.5, 0.4),
        advantages_BT=normal(0, 1),
        returns_BT=normal(0, 1),
        old_values_BT=normal(0, 1),
        reference_BT=normal(-3.5, 0.4),
    )


def on_mesh(batch, mesh):
    """A batch whose rows (or pairs) are split over ``mesh``."""
    return jax.tree.map(
        lambda x: jax.device_put(
            x, named_sharding(mesh, DEFAULT_RULES.spec("batch", *[None] * (x.ndim - 1)))
        ),
        batch,
    )


def piece(batch, where):
    """Some rows (or pairs) of a batch."""
    return jax.tree.map(lambda x: x[where], batch)


def assert_close(found, wanted, share=1e-5):
    """Every leaf within ``share`` of its largest value, or of 1e-3 for those that are all small."""
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=share * max(np.abs(b).max(), 1e-3), err_msg=str(path)
        )
