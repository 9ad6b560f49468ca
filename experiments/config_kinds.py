"""Whether a stage was given a config of its own kind."""

from __future__ import annotations

from typing import Any, TypeVar

from lilith.config import ConfigError

T = TypeVar("T")


def require_kind(config: Any, kind: type[T], example: str, remedy: str = "") -> T:
    """``config``, which must be of class ``kind``.

    Args:
      example: a file in ``configs/`` that gives such a config.
      remedy: what else the error says.

    Raises:
      ConfigError: it is the config of another stage, whose name was changed.
    """
    if isinstance(config, kind):
        return config
    raise ConfigError(
        f"{config.name} is the config of a training run, and stage {config.stage!r} needs one like "
        f"configs/{example}.py{remedy}"
    )
