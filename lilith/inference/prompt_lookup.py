"""Drafts for speculative decoding, looked up in the text so far (Saxena 2023, prompt lookup).

What a model writes is often in its prompt already: a function being edited, the numbers of a
question in a tool's arguments. The last tokens are searched for earlier in the row, and what
followed them there is proposed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

MATCH = 3  # tokens that must agree; fewer propose too much that is refused


def look_up(history_BS: jax.Array, held_B: jax.Array, drafts: int) -> tuple[jax.Array, jax.Array]:
    """Propose what followed the latest earlier occurrence of each row's last tokens.

    Args:
      history_BS: int32 tokens of each row; the first ``held_B`` count.
      drafts: most tokens to propose.

    Returns:
      int32 proposals [B, drafts] and how many of them are meant [B], 0 where nothing matched.
    """
    size = history_BS.shape[1]
    slots = jnp.arange(size)
    last_B = held_B - 1
    matches_BS = slots < last_B[:, None]  # a match ends before the last token
    for back in range(MATCH):
        own_B1 = jnp.take_along_axis(history_BS, jnp.maximum(last_B - back, 0)[:, None], axis=1)
        earlier_BS = jnp.roll(history_BS, back, axis=1)  # its tokens `back` slots before
        matches_BS &= (earlier_BS == own_B1) & (slots >= back)
    end_B = jnp.max(jnp.where(matches_BS, slots, -1), axis=1)
    found_B = (end_B >= 0) & (held_B > MATCH)
    take_BD = end_B[:, None] + 1 + jnp.arange(drafts)
    proposed_BD = jnp.take_along_axis(history_BS, jnp.clip(take_BD, 0, size - 1), axis=1)
    meant_B = jnp.where(found_B, jnp.clip(last_B - end_B, 0, drafts), 0)
    return proposed_BD, meant_B
