"""Named model sizes. Exact parameter counts are asserted in the tests."""

from __future__ import annotations

from lilith.config import ConfigError, ModelConfig, nearest

# Reference shapes whose sizes are published: Llama 2 (Touvron et al. 2023) for 7b and 13b,
# SmolLM2 (Allal et al. 2025) for smollm2-135m. The others were chosen here; see docs/models.md.
PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(),
    "nano": ModelConfig(
        layers=6, d_model=256, heads=4, kv_heads=2, d_ff=704, vocab=4096, context=512,
        tied_embeddings=True, compute_dtype="float32",
    ),
    "50m": ModelConfig(
        layers=12, d_model=512, heads=8, kv_heads=4, d_ff=1344, vocab=32_000, context=2048,
        tied_embeddings=True, remat="dots",
    ),
    "150m": ModelConfig(
        layers=15, d_model=768, heads=12, kv_heads=4, d_ff=2304, vocab=32_000, context=2048,
        remat="dots",
    ),
    "500m": ModelConfig(
        layers=24, d_model=1280, heads=20, kv_heads=4, d_ff=3584, vocab=32_000, context=2048,
        remat="dots",
    ),
    "1b": ModelConfig(
        layers=20, d_model=2048, heads=16, kv_heads=8, d_ff=5248, vocab=32_000, context=2048,
        remat="dots",
    ),
    "7b": ModelConfig(
        layers=32, d_model=4096, heads=32, kv_heads=32, d_ff=11_008, vocab=32_000, context=4096,
        remat="full",
    ),
    "13b": ModelConfig(
        layers=40, d_model=5120, heads=40, kv_heads=40, d_ff=13_824, vocab=32_000, context=4096,
        remat="full",
    ),
    "30b": ModelConfig(
        layers=60, d_model=6656, heads=52, kv_heads=52, d_ff=16_384, vocab=32_000, context=4096,
        remat="full",
    ),
    "70b": ModelConfig(
        layers=80, d_model=8192, heads=64, kv_heads=8, d_ff=28_672, vocab=32_000, context=4096,
        remat="full",
    ),
    "100b": ModelConfig(
        layers=96, d_model=9216, heads=72, kv_heads=8, d_ff=30_720, vocab=64_000, context=4096,
        remat="full",
    ),
    "smollm2-135m": ModelConfig(
        layers=30, d_model=576, heads=9, kv_heads=3, d_ff=1536, vocab=49_152, context=8192,
        rope_base=100_000.0, tied_embeddings=True,
    ),
}  # fmt: skip


def get_model_config(name: str) -> ModelConfig:
    """The preset of this name.

    Raises:
      ConfigError: no such preset; the message names the nearest one.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"unknown model preset {name!r}{nearest(name, PRESETS)}; known: {', '.join(PRESETS)}"
        )
    return PRESETS[name]


def get_1b_model_config() -> ModelConfig:
    """About 1.02 billion parameters."""
    return PRESETS["1b"]


def get_7b_model_config() -> ModelConfig:
    """6,738,415,616 parameters."""
    return PRESETS["7b"]


def get_13b_model_config() -> ModelConfig:
    """13,015,864,320 parameters."""
    return PRESETS["13b"]
