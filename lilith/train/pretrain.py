"""Next-token prediction on packed documents."""

from __future__ import annotations

from typing import Any

import jax

from lilith.config import ModelConfig
from lilith.model.transformer import forward, output_table
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.train.losses import CrossEntropy, cross_entropy
from lilith.train.state import Batch


def pretrain_loss(
    params: Any,
    batch: Batch,
    *,
    config: ModelConfig,
    z_loss: float = 0.0,
    chunk: int = 1024,
    noise_BTD: jax.Array | None = None,
    rules: ShardingRules = DEFAULT_RULES,
) -> CrossEntropy:
    """Sums of the next-token loss over the rows of ``batch``; see :func:`cross_entropy`.

    ``noise_BTD`` is added to the embeddings.
    """
    hidden_BTD, _ = forward(
        params,
        batch.tokens,
        config,
        positions_BT=batch.positions,
        segments_BT=batch.segment_ids,
        noise_BTD=noise_BTD,
        rules=rules,
    )
    return cross_entropy(
        hidden_BTD,
        output_table(params, config),
        batch.targets,
        batch.loss_mask,
        z_loss=z_loss,
        softcap=config.logit_softcap,
        chunk=chunk,
        rules=rules,
    )
