"""Where LILITH keeps what can be made again: compiled programs, tokenised corpora, downloads."""

from __future__ import annotations

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """``$LILITH_CACHE``, else ``lilith`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("LILITH_CACHE")
    if own:
        return pathlib.Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser() / "lilith"


def compiled_folder() -> pathlib.Path:
    """Where compiled programs are kept: ``$JAX_COMPILATION_CACHE_DIR``, else in the cache."""
    own = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return pathlib.Path(own) if own else cache_folder() / "compiled"


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, in :func:`compiled_folder`.

    A person's own ``JAX_COMPILATION_CACHE_DIR``, and what JAX is told about it, go first.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(compiled_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
