"""LILITH's configs and weights as Hugging Face transformers' own.

Both rotate the pairs (i, i + H/2) of a head, so weights move without a permutation; torch keeps
the matrix of a linear layer as [out, in].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from lilith.config import ModelConfig, RopeScaling


def to_state_dict(params: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A tree shaped as our parameters (or their gradients) under transformers' names.

    A tied model has no ``lm_head.weight``: its embedding serves.
    """
    flat = {
        "model.embed_tokens.weight": params["embedding"],
        "model.norm.weight": params["final_norm"],
    }
    if "unembedding" in params:
        flat["lm_head.weight"] = params["unembedding"]
    layers = params["layers"]
    for i in range(len(layers["mlp_norm"])):
        prefix = f"model.layers.{i}."
        flat[prefix + "input_layernorm.weight"] = layers["attention_norm"][i]
        flat[prefix + "post_attention_layernorm.weight"] = layers["mlp_norm"][i]
        flat |= {
            f"{prefix}self_attn.{name}": value
            for name, value in _attention({k: v[i] for k, v in layers["attention"].items()}).items()
        }
        for name in ("gate", "up", "down"):
            flat[f"{prefix}mlp.{name}_proj.weight"] = np.asarray(layers["mlp"][name][i]).T
    return {name: torch.tensor(np.asarray(value)) for name, value in flat.items()}


def _attention(weights: dict[str, Any]) -> dict[str, np.ndarray]:
    """One layer's attention weights: q, k, v [D, heads, H] and o [N, H, D] as matrices."""
    weights = {name: np.asarray(value) for name, value in weights.items()}
    out = {"o_proj.weight": weights["o"].reshape(-1, weights["o"].shape[-1]).T}
    for name in ("q", "k", "v"):
        out[f"{name}_proj.weight"] = weights[name].reshape(weights[name].shape[0], -1).T
        if f"{name}_bias" in weights:
            out[f"{name}_proj.bias"] = weights[f"{name}_bias"].reshape(-1)
        if f"{name}_norm" in weights:
            out[f"{name}_norm.weight"] = weights[f"{name}_norm"]
    return out


def _rope_parameters(base: float, scaling: RopeScaling) -> dict[str, Any]:
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    if scaling.kind == "none":
        return parameters
    parameters |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear" and scaling.original_context:
        parameters["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        parameters["low_freq_factor"] = scaling.low_frequency_factor
        parameters["high_freq_factor"] = scaling.high_frequency_factor
    if scaling.kind == "yarn":
        parameters |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            parameters["attention_factor"] = scaling.attention_factor
    return parameters


def to_config(config: ModelConfig) -> transformers.PreTrainedConfig:
    """The config of the family with these features: Qwen3, Qwen2, Mistral or Llama."""
    common = {
        "vocab_size": config.vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_parameters": _rope_parameters(config.rope_base, config.rope_scaling),
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "eager",
    }
    kinds = [
        config.attention_pattern[i % len(config.attention_pattern)] for i in range(config.layers)
    ]
    if config.qk_norm:
        return transformers.Qwen3Config(
            **common,
            head_dim=config.key_dim,
            use_sliding_window="window" in kinds,
            sliding_window=config.window,
            layer_types=[
                "sliding_attention" if kind == "window" else "full_attention" for kind in kinds
            ],
        )
    if config.qkv_bias:
        return transformers.Qwen2Config(**common)
    if "window" in kinds:
        return transformers.MistralConfig(
            **common, head_dim=config.key_dim, sliding_window=config.window
        )
    return transformers.LlamaConfig(**common, head_dim=config.key_dim)


def to_model(config: ModelConfig, params: dict[str, Any]) -> transformers.PreTrainedModel:
    """A float32 model of transformers with copies of our weights; every weight is accounted for."""
    model = transformers.AutoModelForCausalLM.from_config(to_config(config), dtype=torch.float32)
    missing, unexpected = model.load_state_dict(to_state_dict(params), strict=False)
    assert missing == (["lm_head.weight"] if config.tied_embeddings else []), missing
    assert not unexpected, unexpected
    return model.eval()


def peer_logits(config: ModelConfig, params: dict[str, Any], tokens: np.ndarray) -> np.ndarray:
    """Logits that transformers computes from our weights, [rows, length, vocab] float32."""
    with torch.no_grad():
        return to_model(config, params)(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
