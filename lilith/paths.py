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


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, under :func:`cache_folder`.

    A person's own ``JAX_COMPILATION_CACHE_DIR`` goes first.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
