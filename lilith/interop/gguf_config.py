"""The metadata of a GGUF file as a ModelConfig, and back: llama, qwen2, qwen3.

The keys are llama.cpp's (``llama.block_count`` and so on); Llama 2 and 3, SmolLM and Mistral are
all ``llama``. Llama 3's rotary scaling stands in no key: it is the tensor ``rope_freqs.weight``, by
which each frequency is divided (see ``gguf_rope``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from gguf import GGUFWriter

from lilith.config import ConfigError, ModelConfig, RopeScaling, nearest
from lilith.interop.gguf_header import TensorRecord
from lilith.interop.gguf_metadata import Metadata
from lilith.interop.gguf_rope import scaling_of
from lilith.interop.huggingface_config import shortest_period
from lilith.interop.weights import WEIGHTS, ImportFailed

ARCHITECTURE = "general.architecture"
# Files of Mistral say "llama"; some old ones say their own name, with llama's layout and keys.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
PERMUTED = ("llama", "mistral")  # whose q and k rows stand as llama.cpp's rotation wants them
ROPE_FREQUENCIES = "rope_freqs.weight"
_LONG_ROPE = ("rope_factors_long.weight", "rope_factors_short.weight")
_LAYER_TENSORS = 9  # norms and matrices that every layer has
_YARN_BETAS = {"yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0}


def architecture_of(metadata: Metadata) -> str:
    """Which of :data:`ARCHITECTURES` a file holds.

    Raises:
      ImportFailed: another one, or none.
    """
    name = metadata.text(ARCHITECTURE)
    if name not in ARCHITECTURES:
        raise ImportFailed(
            f"{metadata.where}: {ARCHITECTURE} is {name!r}{nearest(name, ARCHITECTURES)}; LILITH "
            f"reads {', '.join(ARCHITECTURES)} (Llama 2 and 3, SmolLM and Mistral are 'llama')"
        )
    return name


def read_config(
    metadata: Metadata, tensors: Mapping[str, TensorRecord], divisors: np.ndarray | None
) -> ModelConfig:
    """The ModelConfig of a file, in float32.

    Args:
      tensors: those of the file.
      divisors: the values of its ``rope_freqs.weight``, if it has one.

    Raises:
      ImportFailed: an unknown architecture, a key that is missing or not what it must be, a feature
        that LILITH does not compute, or sizes that do not fit together.
    """
    architecture = architecture_of(metadata)
    _refuse_features(metadata, architecture, tensors)

    def key(name: str) -> str:
        return f"{architecture}.{name}"

    layers = metadata.integer(key("block_count"), least=1)
    if layers * _LAYER_TENSORS > len(tensors):  # before anything is done a layer
        raise ImportFailed(
            f"{metadata.where}: {key('block_count')} is {layers}, and the {len(tensors)} tensors "
            "of the file are too few for so many layers; it is cut short or one part of several"
        )
    heads = metadata.integer(key("attention.head_count"), least=1)
    d_model = metadata.integer(key("embedding_length"), least=1)
    head_dim = _head_dim(metadata, architecture, d_model, heads)
    pattern, window = _windows(metadata, architecture, layers)
    context = metadata.integer(key("context_length"), least=1)
    base = metadata.real(key("rope.freq_base"), 10_000.0)
    if not 2 <= base <= 1e15:
        raise metadata.wrong(key("rope.freq_base"), "a number from 2 to 1e15")
    try:
        scaling = _rope_scaling(metadata, architecture, divisors is not None)
        if divisors is not None:
            original = metadata.integer(key("rope.scaling.original_context_length"), 0)
            scaling = scaling_of(divisors, head_dim, base, original, metadata.where)
        return ModelConfig(
            layers=layers,
            d_model=d_model,
            heads=heads,
            kv_heads=metadata.integer(key("attention.head_count_kv"), heads, least=1),
            head_dim=None if head_dim * heads == d_model else head_dim,
            d_ff=metadata.integer(key("feed_forward_length"), least=1),
            vocab=_vocabulary(metadata, architecture, tensors),
            context=context,
            rope_base=base,
            rope_scaling=scaling,
            norm_eps=metadata.real(key("attention.layer_norm_rms_epsilon")),
            tied_embeddings=WEIGHTS["unembedding"].gguf not in tensors,
            qkv_bias=WEIGHTS["layers/attention/q_bias"].name("gguf", 0) in tensors,
            qk_norm=architecture == "qwen3",
            logit_softcap=metadata.real(key("final_logit_softcapping"), 0.0),
            attention_pattern=pattern,
            window=window,
            compute_dtype="float32",
        )
    except ConfigError as error:
        raise ImportFailed(f"{metadata.where}: {error}") from None


def _refuse_features(
    metadata: Metadata, architecture: str, tensors: Mapping[str, TensorRecord]
) -> None:
    """What changes the results and LILITH does not compute."""
    if metadata.integer(f"{architecture}.expert_count", 0):
        raise metadata.wrong(f"{architecture}.expert_count", "0: it has no mixtures of experts")
    for name, off in (("attention.clamp_kqv", 0.0), ("attention.max_alibi_bias", 0.0),
                      ("attn_logit_softcapping", 0.0), ("logit_scale", 1.0),
                      ("embedding_scale", 1.0), ("residual_scale", 1.0)):  # fmt: skip
        if metadata.real(f"{architecture}.{name}", off) not in (off, 0.0):
            raise metadata.wrong(f"{architecture}.{name}", f"{off}: it computes no such thing")
    if metadata.integer("split.count", 1) > 1:
        raise ImportFailed(
            f"{metadata.where} is one of {metadata.integer('split.count')} parts of a model; join "
            "them with llama.cpp's `llama-gguf-split --merge`"
        )
    for name in _LONG_ROPE:
        if name in tensors:
            raise ImportFailed(
                f"{metadata.where} holds {name!r}: LILITH computes linear, Llama 3's and YaRN "
                "scaling of rotary positions, not LongRoPE"
            )


def _head_dim(metadata: Metadata, architecture: str, d_model: int, heads: int) -> int:
    """The width of a head, the same for keys, values and rotation."""
    key = f"{architecture}.attention.key_length"
    if key not in metadata and d_model % heads:
        raise ImportFailed(
            f"{metadata.where}: {architecture}.embedding_length is {d_model}, which "
            f"{architecture}.attention.head_count ({heads}) does not divide, and {key!r} is missing"
        )
    head_dim = metadata.integer(key, d_model // heads, least=1)
    for name in ("attention.value_length", "rope.dimension_count"):
        if metadata.integer(f"{architecture}.{name}", head_dim) != head_dim:
            raise metadata.wrong(
                f"{architecture}.{name}", f"{head_dim}, the width of a head's keys"
            )
    return head_dim


def _vocabulary(metadata: Metadata, architecture: str, tensors: Mapping[str, TensorRecord]) -> int:
    """How many tokens the model knows: the rows of its embedding."""
    name = WEIGHTS["embedding"].gguf
    if name not in tensors:
        raise ImportFailed(f"{metadata.where} lacks the tensor {name!r}; the file is incomplete")
    rows = tensors[name].shape[0]
    if metadata.integer(f"{architecture}.vocab_size", rows) != rows:
        raise metadata.wrong(
            f"{architecture}.vocab_size", f"{rows}, the rows of its tensor {name!r}"
        )
    return rows


def _windows(metadata: Metadata, architecture: str, layers: int) -> tuple[tuple[str, ...], int]:
    """The attention pattern and the window; a number n as pattern says: each n-th is global."""
    key = f"{architecture}.attention.sliding_window"
    window = metadata.integer(key, 0)
    if not window:
        return ("global",), ModelConfig.window
    pattern = f"{key}_pattern"
    if isinstance(metadata.values.get(pattern), np.ndarray):
        chosen = metadata.numbers(pattern, layers)
        return shortest_period(["window" if it else "global" for it in chosen]), window
    every = metadata.integer(pattern, 0)
    if every > layers:
        raise metadata.wrong(pattern, f"at most the number of layers, {layers}")
    return (("window",) * (every - 1) + ("global",) if every else ("window",)), window


def _rope_scaling(metadata: Metadata, architecture: str, has_divisors: bool) -> RopeScaling:
    """The scaling that the keys name: none, linear or yarn."""

    def key(name: str) -> str:
        return f"{architecture}.rope.scaling.{name}"

    old = f"{architecture}.rope.scale_linear"  # before there were types
    factor = metadata.real(key("factor"), metadata.real(old, 0.0)) or 1.0
    kind = metadata.text(key("type"), "linear")
    if kind not in ("none", "linear", "yarn"):
        raise metadata.wrong(key("type"), "none, linear or yarn (Llama 3's is a tensor)")
    attention = metadata.real(key("attn_factor"), 1.0)
    if kind == "none" or (kind == "linear" and factor == 1.0):
        kind = "none"
    if kind != "yarn" and attention != 1.0:
        raise metadata.wrong(key("attn_factor"), "1 where the scaling is not yarn")
    if kind == "none":
        return RopeScaling()
    if has_divisors:
        raise metadata.wrong(key("type"), f"none beside the tensor {ROPE_FREQUENCIES!r}")
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor)
    if metadata.real(key("yarn_ext_factor"), 1.0) not in (1.0, -1.0):
        raise metadata.wrong(key("yarn_ext_factor"), "1")
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=metadata.integer(key("original_context_length"), 0),
        attention_factor=_yarn_attention(metadata, architecture, factor, attention),
        **{
            name.removeprefix("yarn_"): metadata.real(key(name), usual)
            for name, usual in _YARN_BETAS.items()
        },
    )


def _yarn_attention(
    metadata: Metadata, architecture: str, factor: float, attention: float
) -> float | None:
    """YaRN's factor on cos and sin, None for the usual 0.1 ln(factor) + 1.

    ``yarn_attn_factor`` is the whole of it, as in a Hugging Face config; ``attn_factor`` multiplies
    the usual one, which ``yarn_log_multiplier`` divides by another of its kind.
    """
    prefix = f"{architecture}.rope.scaling."
    if prefix + "yarn_attn_factor" in metadata:
        return metadata.real(prefix + "yarn_attn_factor")
    multiplier = metadata.real(prefix + "yarn_log_multiplier", 0.0)
    if attention == 1.0 and not multiplier:
        return None
    return attention * _usual_attention(factor, 1.0) / _usual_attention(factor, multiplier)


def _usual_attention(factor: float, multiplier: float) -> float:
    return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1 else 1.0


def write_config(config: ModelConfig, add: GGUFWriter) -> tuple[str, ...]:
    """Write the keys of a model, all but its architecture and tokenizer.

    Args:
      add: a writer of a file of :func:`family` of the same config.

    Returns:
      Notes for the person: what llama.cpp does not compute as the config says.

    Raises:
      ImportFailed: GGUF has no way to say what the config says.
    """
    add.add_vocab_size(config.vocab)
    add.add_context_length(config.context)
    add.add_embedding_length(config.d_model)
    add.add_block_count(config.layers)
    add.add_feed_forward_length(config.d_ff)
    add.add_head_count(config.heads)
    add.add_head_count_kv(config.kv_heads)
    add.add_key_length(config.key_dim)
    add.add_value_length(config.key_dim)
    add.add_rope_dimension_count(config.key_dim)
    add.add_rope_freq_base(config.rope_base)
    add.add_layer_norm_rms_eps(config.norm_eps)
    ignored = []
    if "window" in config.attention_pattern:
        kinds = (config.attention_pattern * config.layers)[: config.layers]
        add.add_sliding_window(config.window)
        add.add_sliding_window_pattern([kind == "window" for kind in kinds])
        ignored.append("the sliding window")
    if config.logit_softcap:
        add.add_final_logit_softcapping(config.logit_softcap)
        ignored.append("the soft-cap of the logits")
    ignored += _write_rope(config, add)
    if not ignored:
        return ()
    return (
        f"llama.cpp does not read {' and '.join(ignored)} of architecture {add.arch!r}: it "
        "computes other results from this file than LILITH, which reads them back",
    )


def family(config: ModelConfig) -> str:
    """The architecture that computes what ``config`` says.

    Raises:
      ImportFailed: none does.
    """
    if config.qk_norm and config.qkv_bias:
        raise ImportFailed(
            "model.qk_norm and model.qkv_bias are both on, and no architecture of GGUF that "
            "LILITH writes has both"
        )
    return "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"


def _write_rope(config: ModelConfig, add: GGUFWriter) -> list[str]:
    """Write the rotary scaling; gives what of it llama.cpp does not read."""
    scaling = config.rope_scaling
    if scaling.kind == "none":
        return []
    if scaling.kind == "llama3":
        if add.arch != "llama":
            raise ImportFailed(
                f"model.rope_scaling.kind is 'llama3', which the GGUF architecture {add.arch!r} "
                "can not say; use linear or yarn scaling"
            )
        add.add_rope_scaling_orig_ctx_len(scaling.original_context or config.context)
        return []  # the rest of it is a tensor
    prefix = f"{add.arch}.rope.scaling."
    add.add_string(prefix + "type", scaling.kind)
    add.add_rope_scaling_factor(scaling.factor)
    if scaling.kind == "linear":
        return []
    add.add_rope_scaling_orig_ctx_len(scaling.original_context or config.context)
    if scaling.attention_factor is not None:
        add.add_rope_scaling_yarn_attn_factor(scaling.attention_factor)
        usual = _usual_attention(scaling.factor, 1.0)  # llama.cpp multiplies it by this key
        add.add_rope_scaling_attn_factors(scaling.attention_factor / usual)
    add.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    add.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
    usual_betas = (scaling.beta_fast, scaling.beta_slow) == tuple(_YARN_BETAS.values())
    return [] if usual_betas else ["YaRN's beta_fast and beta_slow"]
