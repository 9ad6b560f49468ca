"""Small trained changes of frozen weights: LoRA (Hu et al. 2021) and DoRA (Liu et al. 2024).

An :class:`Adapted` stands in a weight's place among the parameters, so every forward takes it:
training, scoring and generation need no other code, and a weight may be adapted twice.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Adapted:
    """A weight W [inputs, outputs] and its change: x W + scale dropout(x) A B.

    With a magnitude m (DoRA) output o is then multiplied by m_o / |column o of W + scale A B|. All
    arrays of stacked layers have the layers' axis in front.

    Attributes:
      weight: as it was, [*inputs, *outputs], or itself adapted.
      a: [inputs, rank], the inputs' axes as one; b: [rank, outputs].
      magnitude: [outputs], or None for LoRA.
      key: of the dropout's draws; None for no dropout.
      scale, dropout: alpha / rank, and the share of inputs that the change does not see.
    """

    weight: Any
    a: jax.Array
    b: jax.Array
    magnitude: jax.Array | None = None
    key: jax.Array | None = None
    scale: float = flax.struct.field(pytree_node=False, default=1.0)
    dropout: float = flax.struct.field(pytree_node=False, default=0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's."""
        return self.weight.shape

    def matrix(self, weight: jax.Array) -> jax.Array:
        """W + scale A B, [inputs, outputs], of ``weight`` [inputs, outputs]; no magnitude."""
        # With a batch axis no remat policy keeps the product, which is as large as the weight.
        change = jnp.einsum("Z...IR,Z...RO->Z...IO", self.a[None], self.b[None])[0]
        return weight + self.scale * change

    def dropped(self, x_BTC: jax.Array) -> jax.Array:
        """The inputs that the change sees, scaled up so that their mean stays."""
        if self.key is None or self.dropout == 0.0:
            return x_BTC
        kept = jax.random.bernoulli(self.key, 1.0 - self.dropout, x_BTC.shape)
        return jnp.where(kept, x_BTC / (1.0 - self.dropout), 0).astype(x_BTC.dtype)


def column_norms(matrix: jax.Array) -> jax.Array:
    """Float32 length of each column of [..., inputs, outputs]."""
    return jnp.sqrt(jnp.sum(jnp.square(matrix.astype(jnp.float32)), axis=-2))


def rescaling(magnitude: jax.Array, matrix: jax.Array) -> jax.Array:
    """What DoRA multiplies the outputs by, [outputs], for a :meth:`Adapted.matrix`.

    The norm counts as a constant: its gradient costs much and changes little (section 4.3).
    """
    return magnitude / jax.lax.stop_gradient(column_norms(matrix))


def merged(weight: Any) -> jax.Array:
    """The one weight that does what an adapted one does, in its shape; other weights as they are.

    Stacked layers are taken too. Dropout plays no part.
    """
    if not isinstance(weight, Adapted):
        return weight
    inner = merged(weight.weight)
    matrix = weight.matrix(inner.reshape(*weight.a.shape[:-1], weight.b.shape[-1]))
    if weight.magnitude is not None:
        matrix = matrix * rescaling(weight.magnitude, matrix)[..., None, :]
    return matrix.reshape(inner.shape).astype(inner.dtype)
