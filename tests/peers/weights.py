"""LILITH's configs and weights as transformers' own, by the exporter's table and config."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from lilith.config import ModelConfig
from lilith.interop.huggingface_config import export_config
from lilith.interop.weights import export_tensors


def to_state_dict(config: ModelConfig, params: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A tree shaped as our parameters (or their gradients) under transformers' names.

    A tied model has no ``lm_head.weight``: its embedding serves.
    """
    tensors = export_tensors(params, config, "huggingface")
    return {name: torch.tensor(array) for name, array in tensors}


def to_model(config: ModelConfig, params: dict[str, Any]) -> transformers.PreTrainedModel:
    """A float32 model of transformers with copies of our weights; every weight is accounted for."""
    data = export_config(config, "float32")
    own = transformers.AutoConfig.for_model(
        **data | {"use_cache": False, "bos_token_id": None, "eos_token_id": None},
        attn_implementation="eager",
    )
    model = transformers.AutoModelForCausalLM.from_config(own, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(to_state_dict(config, params), strict=False)
    assert missing == (["lm_head.weight"] if config.tied_embeddings else []), missing
    assert not unexpected, unexpected
    return model.eval()


def peer_logits(config: ModelConfig, params: dict[str, Any], tokens: np.ndarray) -> np.ndarray:
    """Logits that transformers computes from our weights, [rows, length, vocab] float32."""
    with torch.no_grad():
        return to_model(config, params)(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
