"""Weights of other projects, in and out: Hugging Face folders, GGUF files, names to download.

The public names load on first use: a file's reader brings in only what it needs.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "load_checkpoint": "lilith.interop.load",
    "load_model": "lilith.interop.load",
    "CheckpointInfo": "lilith.interop.load",
    "export_huggingface": "lilith.interop.export",
    "export_gguf": "lilith.interop.export",
    "load_huggingface": "lilith.interop.huggingface",
    "write_huggingface": "lilith.interop.huggingface",
    "load_gguf": "lilith.interop.gguf",
    "write_gguf": "lilith.interop.gguf",
    "ImportFailed": "lilith.interop.weights",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lilith.interop' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
