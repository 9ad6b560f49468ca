"""LILITH: a language model from raw text to an agent that plans, calculates and checks its work.

Public names load on first use, so that ``import lilith`` imports no jax.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ExperimentConfig": "lilith.config",
    "ModelConfig": "lilith.config",
    "UserError": "lilith.config",
    "get_1b_model_config": "lilith.model.presets",
    "get_7b_model_config": "lilith.model.presets",
    "get_13b_model_config": "lilith.model.presets",
    "get_model_config": "lilith.model.presets",
    "LILITHAgent": "lilith.agent.agent",
    "SYSTEM_PROMPTS": "lilith.agent.roles",
    "create_quant_agent": "lilith.agent.agent",
    "create_quant_tools": "lilith.agent.registry",
    "ChainOfThought": "lilith.reasoning.chain_of_thought",
    "SelfCritique": "lilith.reasoning.critique",
    "ConstitutionalAI": "lilith.reasoning.constitutional",
    "MetacognitiveMonitor": "lilith.reasoning.metacognition",
    "ReasoningStrategy": "lilith.reasoning.trace",
    "ReasoningTrace": "lilith.reasoning.trace",
    "create_advanced_reasoner": "lilith.reasoning.reasoner",
    "export_gguf": "lilith.interop",
    "export_huggingface": "lilith.interop",
    "load_checkpoint": "lilith.interop",
    "load_tokenizer": "lilith.tokenizer",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lilith' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
