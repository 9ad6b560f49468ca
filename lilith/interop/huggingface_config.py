"""A Hugging Face ``config.json`` as a ModelConfig, and back: llama, mistral, qwen2, qwen3.

Absent fields take the values that transformers gives them. What LILITH does not compute is an
error: nothing that changes results is passed over.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from lilith.config import ConfigError, ModelConfig, RopeScaling, nearest
from lilith.interop.weights import ImportFailed

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# The values of absent fields where the families differ (transformers' own).
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"max_position_embeddings": 131_072, "num_key_value_heads": 8,
                "sliding_window": 4096},
    "qwen2": {"max_position_embeddings": 32_768, "num_key_value_heads": 32,
              "sliding_window": 4096},
    "qwen3": {"max_position_embeddings": 32_768, "num_key_value_heads": 32,
              "sliding_window": 4096, "head_dim": 128},
}  # fmt: skip
_REFUSED = {  # what adds to the computation when it is there and not the value that turns it off
    "mlp_bias": (False, "adds biases to the feed-forward layers"),
    "attention_bias": (False, "adds a bias to the output projection of attention"),
    "quantization_config": (None, "stores quantised weights; use an unquantised folder, or a GGUF"),
}
_KINDS = {"full_attention": "global", "sliding_attention": "window"}
_NUMBER = (int, float)


class _Fields:
    """The fields of a config.json, each with its expected type checked when it is read."""

    def __init__(self, data: Mapping[str, Any], where: str, defaults: Mapping[str, Any]) -> None:
        self.data, self.where, self._defaults = data, where, defaults

    def get(self, name: str, kinds: Any, default: Any = None) -> Any:
        """The value, or the family's or else the given default; an explicit null is None."""
        value = self.data.get(name, self._defaults.get(name, default))
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        # A bool is an int to Python, and never a size.
        if value is not None and (
            not isinstance(value, kinds) or (value is True) > (bool in kinds)
        ):
            raise self.error(name, f"expected {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    def need(self, name: str, kinds: Any) -> Any:
        """The value of a field that has no default."""
        value = self.get(name, kinds)
        if value is None:
            raise ImportFailed(f"{self.where} has no {name!r}, without which the model is unknown")
        return value

    def error(self, name: str, reason: str) -> ImportFailed:
        """The one sentence about a field."""
        return ImportFailed(f"{self.where}: {name!r} is {self.data.get(name)!r}; {reason}")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object of a model's folder.

    Raises:
      ImportFailed: the file can not be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportFailed(f"{path} can not be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ImportFailed(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ImportFailed(f"{path} holds a JSON {type(data).__name__}; expected an object")
    return data


def model_config(data: Mapping[str, Any], where: str) -> ModelConfig:
    """The ModelConfig of a ``config.json``, in float32.

    Args:
      where: what errors call the file.

    Raises:
      ImportFailed: a model of another family, a field LILITH does not compute, a field of a wrong
        type, or sizes that do not fit together.
    """
    family = data.get("model_type")
    if family not in FAMILIES:
        close = nearest(family, FAMILIES) if isinstance(family, str) else ""
        raise ImportFailed(
            f"{where}: 'model_type' is {family!r}{close}; LILITH reads {', '.join(FAMILIES)} "
            "(SmolLM and Llama 2 and 3 are 'llama')"
        )
    fields = _Fields(data, where, _DEFAULTS[family])
    _refuse(fields, family)
    layers, heads = fields.need("num_hidden_layers", int), fields.need("num_attention_heads", int)
    kinds = _layer_kinds(fields, family, layers)
    window = fields.get("sliding_window", int) if "window" in kinds else None
    kv_heads = fields.get("num_key_value_heads", int)
    width, head_dim = fields.need("hidden_size", int), fields.get("head_dim", int)
    if head_dim is not None and head_dim * heads == width:
        head_dim = None  # what follows from the other sizes is not said twice
    try:
        base, scaling = _rope(fields)
        return ModelConfig(
            layers=layers,
            d_model=width,
            heads=heads,
            kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=head_dim,
            d_ff=fields.need("intermediate_size", int),
            vocab=fields.need("vocab_size", int),
            context=fields.need("max_position_embeddings", int),
            rope_base=base,
            rope_scaling=scaling,
            norm_eps=float(fields.get("rms_norm_eps", _NUMBER, 1e-6)),
            tied_embeddings=bool(fields.get("tie_word_embeddings", bool, False)),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            attention_pattern=shortest_period(kinds),
            window=ModelConfig.window if window is None else window,
            compute_dtype="float32",
        )
    except ConfigError as error:
        raise ImportFailed(f"{where}: {error}") from None


def _refuse(fields: _Fields, family: str) -> None:
    for name, (off, effect) in _REFUSED.items():
        if fields.data.get(name, off) not in (off, None):
            raise fields.error(name, f"it {effect}, which LILITH does not compute")
    activation = fields.get("hidden_act", str, "silu")
    if activation not in ("silu", "swish"):
        raise fields.error("hidden_act", "LILITH's feed-forward layers use silu (SwiGLU) alone")
    partial = fields.get("partial_rotary_factor", _NUMBER, 1.0)
    if partial not in (None, 1.0):
        raise fields.error("partial_rotary_factor", "LILITH rotates whole heads (1.0)")


def _layer_kinds(fields: _Fields, family: str, layers: int) -> list[str]:
    """Which attention each layer has: global or window."""
    if family == "llama":
        return ["global"] * layers
    window = fields.get("sliding_window", int)
    if family == "mistral":
        kinds = ["global" if window is None else "window"] * layers
    else:
        if not fields.get("use_sliding_window", bool, False):
            window = None
        first = fields.get("max_window_layers", int, 28)
        kinds = ["window" if window is not None and i >= first else "global" for i in range(layers)]
    written = fields.get("layer_types", list)
    if written is None:
        return kinds
    if len(written) != layers or any(kind not in _KINDS for kind in written):
        raise fields.error("layer_types", f"expected {layers} of {', '.join(map(repr, _KINDS))}")
    chosen = [_KINDS[kind] for kind in written]
    if family == "mistral" and chosen != kinds:
        raise fields.error(
            "layer_types", "a 'mistral' has a sliding window in all of its layers or in none"
        )
    if "window" in chosen and window is None:
        raise fields.error("layer_types", "it names sliding windows, but none is in use")
    return chosen


def shortest_period(kinds: list[str]) -> tuple[str, ...]:
    """The shortest pattern that gives ``kinds`` when it is repeated."""
    for period in range(1, len(kinds) + 1):
        if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            return tuple(kinds[:period])
    raise ImportFailed("the config has no layers: 'num_hidden_layers' must be positive")


def _rope(fields: _Fields) -> tuple[float, RopeScaling]:
    """The rotary base and scaling, from ``rope_parameters`` or the older ``rope_scaling``."""
    name = "rope_scaling" if fields.get("rope_scaling", dict) else "rope_parameters"
    data = fields.get(name, dict) or {}
    rope = _Fields(data, f"{fields.where}: {name}", {})
    base = rope.get("rope_theta", _NUMBER, fields.get("rope_theta", _NUMBER, 10_000.0))
    if rope.get("partial_rotary_factor", _NUMBER, 1.0) != 1.0:
        raise rope.error("partial_rotary_factor", "LILITH rotates whole heads (1.0)")
    kind = rope.get("rope_type", str, rope.get("type", str, "default"))
    if kind == "default":
        if any(isinstance(value, dict) for value in data.values()):
            raise fields.error(name, "LILITH has one rotary encoding for all layers")
        return float(base), RopeScaling()
    if kind not in ("linear", "llama3", "yarn"):
        raise fields.error(name, f"LILITH computes linear, llama3 and yarn scaling, not {kind!r}")
    context = fields.need("max_position_embeddings", int)
    original = fields.get("original_max_position_embeddings", int) or rope.get(
        "original_max_position_embeddings", int, context
    )
    factor = rope.get("factor", _NUMBER)
    if factor is None and kind == "yarn":
        factor = context / original
    if factor is None:
        raise rope.error("factor", "this scaling needs a number")
    if kind == "linear":
        return float(base), RopeScaling(kind=kind, factor=float(factor))
    own = _llama3_fields(rope) if kind == "llama3" else _yarn_fields(rope, factor)
    return float(base), RopeScaling(
        kind=kind, factor=float(factor), original_context=original, **own
    )


def _llama3_fields(rope: _Fields) -> dict[str, float]:
    low, high = (
        float(rope.need(name, _NUMBER)) for name in ("low_freq_factor", "high_freq_factor")
    )
    if low >= high:
        raise rope.error("high_freq_factor", f"it must be above 'low_freq_factor' ({low})")
    return {"low_frequency_factor": low, "high_frequency_factor": high}


def _yarn_fields(rope: _Fields, factor: float) -> dict[str, float | None]:
    if rope.get("truncate", bool, True) is False:
        raise rope.error("truncate", "LILITH computes YaRN with truncated bounds alone")
    attention = rope.get("attention_factor", _NUMBER)
    scales = [rope.get(name, _NUMBER) for name in ("mscale", "mscale_all_dim")]
    if attention is None and all(scales):  # two temperatures, one over the other (DeepSeek)
        growth = 0.1 * math.log(factor) if factor > 1 else 0.0
        attention = (scales[0] * growth + 1.0) / (scales[1] * growth + 1.0)
    return {
        "beta_fast": float(rope.get("beta_fast", _NUMBER) or 32.0),
        "beta_slow": float(rope.get("beta_slow", _NUMBER) or 1.0),
        "attention_factor": None if attention is None else float(attention),
    }


def export_config(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The content of a ``config.json`` from which transformers builds the same model.

    The family follows from the features: q/k norms are Qwen3's, q/k/v biases Qwen2's, a sliding
    window in every layer Mistral's; without these it is a Llama (a Mistral without a window where
    ``heads`` does not divide ``d_model``, which transformers' Llama refuses).

    Args:
      dtype: of the weights in the files.

    Raises:
      ImportFailed: no family computes what ``config`` says; the message names the field.
    """
    pattern = config.attention_pattern
    kinds = [pattern[i % len(pattern)] for i in range(config.layers)]
    family = _family(config, kinds)
    data: dict[str, Any] = {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "vocab_size": config.vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.key_dim,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_theta": config.rope_base,
        "rope_parameters": _export_rope(config),
        "torch_dtype": dtype,
    }
    if family == "llama":
        data |= {"attention_bias": False, "mlp_bias": False}
    elif family == "mistral":
        data["sliding_window"] = config.window if "window" in kinds else None
    else:
        windowed = "window" in kinds
        names = {kind: name for name, kind in _KINDS.items()}
        data |= {
            "use_sliding_window": windowed,
            "sliding_window": config.window if windowed else None,
            "max_window_layers": kinds.index("window") if windowed else config.layers,
            "layer_types": [names[kind] for kind in kinds],
        }
    if family == "qwen3":
        data["attention_bias"] = False
    if config.rope_scaling.kind != "none":  # for transformers before 5
        data["rope_scaling"] = _export_rope(config)
    return data


def _family(config: ModelConfig, kinds: list[str]) -> str:
    if config.logit_softcap:
        raise _inexpressible("logit_softcap", config.logit_softcap)
    if config.qk_norm and config.qkv_bias:
        raise _inexpressible("qkv_bias", True, " together with model.qk_norm")
    if config.qk_norm:
        return "qwen3"
    if config.qkv_bias:
        return "qwen2"
    if len(set(kinds)) > 1:
        raise _inexpressible(
            "attention_pattern", config.attention_pattern, " without model.qk_norm or qkv_bias"
        )
    return "mistral" if kinds[0] == "window" or config.d_model % config.heads else "llama"


def _inexpressible(field: str, value: Any, condition: str = "") -> ImportFailed:
    return ImportFailed(
        f"model.{field} is {value!r}{condition}, which none of {', '.join(FAMILIES)} computes, so "
        "the model can not be written as a Hugging Face folder; keep it as a LILITH checkpoint"
    )


def _export_rope(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    data: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_base}
    if scaling.kind == "none":
        return data
    data |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "linear":
        return data
    data["original_max_position_embeddings"] = scaling.original_context or config.context
    if scaling.kind == "llama3":
        data["low_freq_factor"] = scaling.low_frequency_factor
        data["high_freq_factor"] = scaling.high_frequency_factor
    else:
        data |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            data["attention_factor"] = scaling.attention_factor
    return data
