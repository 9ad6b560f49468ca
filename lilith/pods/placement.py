"""What of a training state each device holds, and whether it is split as it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax

from lilith.config import ModelConfig
from lilith.sharding import ShardingError

REPLICATED_LIMIT = 64e6  # bytes: a larger tensor must be split


def whole_tensors(tree: Any, shardings: Any = None) -> Iterator[tuple[str, int]]:
    """Path and bytes of each array that every device of a mesh holds as a whole.

    Args:
      tree: abstract arrays with their shardings.
      shardings: a tree alike that counts instead, such as a compiled program's.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    placed = [leaf.sharding for _, leaf in leaves]
    if shardings is not None:
        placed = jax.tree.leaves(shardings)
    for (path, leaf), sharding in zip(leaves, placed):
        alone = len(sharding.device_set) == 1
        if not alone and tuple(sharding.shard_shape(leaf.shape)) == tuple(leaf.shape):
            size = math.prod(leaf.shape) * leaf.dtype.itemsize
            yield jax.tree_util.keystr(path, simple=True, separator="/"), size


def require_split(tree: Any, kind: str, shardings: Any = None) -> None:
    """Refuse a tree with a large array that is not split.

    Args:
      kind: what the tree holds, for the message.

    Raises:
      ShardingError: naming the largest of them.
    """
    large = [own for own in whole_tensors(tree, shardings) if own[1] > REPLICATED_LIMIT]
    if large:
        path, size = max(large, key=lambda own: own[1])
        more = f" and {len(large) - 1} more" if len(large) > 1 else ""
        raise ShardingError(
            f"the {kind} {path} ({size / 1e6:,.0f} MB){more} is whole on every device, and above "
            f"{REPLICATED_LIMIT / 1e6:.0f} MB it must be split; give one of its axes a mesh axis "
            "in the sharding rules, or turn the guard off with check=false"
        )


def require_heads(config: ModelConfig, tensor: int) -> None:
    """Refuse a tensor axis that cuts heads apart.

    Raises:
      ShardingError: with the sizes that do divide.
    """
    for name in ("heads", "kv_heads"):
        count = getattr(config, name)
        if count % tensor:
            most = math.gcd(config.heads, config.kv_heads)
            right = ", ".join(str(size) for size in range(1, most + 1) if most % size == 0)
            raise ShardingError(
                f"model.{name} is {count}, which mesh.tensor={tensor} does not divide; sizes that "
                f"divide the heads of this model: {right}"
            )
