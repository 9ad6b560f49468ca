"""Updates one layer after another, so that what they need on the way is one layer's and not all's.

Taking 8-bit state apart and putting it together again makes several float32 arrays of a weight's
shape, and state that waits in the host's memory must be on the device while it is updated. For
stacked weights, [layers, ...], that would be more than the weights themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import jax
import optax

LAYERS = "layers"  # of the parameters: arrays whose first axis is the layer


class Layerwise(optax.GradientTransformationExtraArgs):
    """An optimizer that updates each weight by itself alone, and so any part of the layers.

    Its update takes ``first_layer``, the number of the first layer that it is given.
    """


def apply_gradients(
    optimizer: optax.GradientTransformation, gradients: Any, factor: Any, state: Any, params: Any
) -> tuple[Any, Any]:
    """Weights and optimizer state after an update with the gradients times ``factor``.

    A :class:`Layerwise` optimizer takes the weights that are no layer's first and then the layers
    in turn; every number is what one update of all would give.
    """
    if not (isinstance(optimizer, Layerwise) and _has_layers(params)):
        return _applied(optimizer, gradients, factor, state, params)
    keys = params.keys()
    trees = _shaped_as(keys, state)
    others, state_of_others = _applied(
        optimizer, _rest(gradients), factor, _replaced(keys, state, map(_rest, trees)),
        _rest(params),
    )  # fmt: skip

    def one(layer: jax.Array, carry: Any) -> Any:
        weights, stacks = carry
        own_state = _replaced(keys, state, [{LAYERS: own} for own in _cut(stacks, layer)])
        updated, own_state = _applied(
            optimizer, {LAYERS: _cut(gradients[LAYERS], layer)}, factor, own_state,
            {LAYERS: _cut(weights, layer)}, first_layer=layer,
        )  # fmt: skip
        own_stacks = [own[LAYERS] for own in _shaped_as({LAYERS}, own_state)]
        return _put(weights, updated[LAYERS], layer), _put(stacks, own_stacks, layer)

    # The arrays that the loop carries are changed in place.
    start = (params[LAYERS], [own[LAYERS] for own in trees])
    layers, stacks = jax.lax.fori_loop(0, _count(params), one, start)
    rest = _shaped_as(others.keys(), state_of_others)
    whole = [{**own, LAYERS: stack} for own, stack in zip(rest, stacks)]
    return {**others, LAYERS: layers}, _replaced(others.keys(), state_of_others, whole)


def _applied(
    optimizer: optax.GradientTransformation, gradients: Any, factor: Any, state: Any, params: Any,
    **extra: Any,
) -> tuple[Any, Any]:  # fmt: skip
    scaled = jax.tree.map(lambda g: (g * factor).astype(g.dtype), gradients)
    updates, state = optimizer.update(scaled, state, params, **extra)
    return optax.apply_updates(params, updates), state


def _has_layers(params: Any) -> bool:
    """Whether there are stacked layers, and something beside them."""
    if not isinstance(params, dict) or not isinstance(params.get(LAYERS), dict):
        return False
    return len(params) > 1 and all(
        leaf.ndim and len(leaf) == _count(params) for leaf in jax.tree.leaves(params[LAYERS])
    )


def _count(params: Any) -> int:
    return len(jax.tree.leaves(params[LAYERS])[0])


def _rest(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: own for name, own in tree.items() if name != LAYERS}


def _shaped_as(keys: Collection[str], state: Any) -> list[Any]:
    """The dicts of ``state`` with these keys: what it keeps for every weight, such as a moment."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: _has_keys(node, keys))
    return [own for own in leaves if _has_keys(own, keys)]


def _replaced(keys: Collection[str], state: Any, parts: Iterable[Any]) -> Any:
    """``state`` with ``parts``, in order, in place of its dicts with these keys."""
    own = iter(parts)
    return jax.tree.map(
        lambda node: next(own) if _has_keys(node, keys) else node,
        state,
        is_leaf=lambda node: _has_keys(node, keys),
    )


def _has_keys(node: Any, keys: Collection[str]) -> bool:
    return isinstance(node, dict) and node.keys() == set(keys)


def _cut(tree: Any, layer: jax.Array) -> Any:
    """One layer of stacked arrays, as a stack of one."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, layer, 1), tree)


def _put(tree: Any, own: Any, layer: jax.Array) -> Any:
    """Stacked arrays with one layer of them changed."""
    return jax.tree.map(
        lambda leaf, part: jax.lax.dynamic_update_slice_in_dim(leaf, part, layer, 0), tree, own
    )
