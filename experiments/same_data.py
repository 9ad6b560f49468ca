"""Whether the hosts of a run have prepared the same data, which their files' sizes do not say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import hosts
from experiments.host_facts import some_of
from lilith.config import UserError


def require_same_data(position: Mapping[str, Any]) -> None:
    """Compare where every process begins to read, and in which data; all of them call it.

    Each host prepares the data itself and takes its own rows of every batch: with other contents it
    would train on rows twice and on others never, and no loss would show it.

    Args:
      position: the state of the data iterator, with the fingerprint of what it reads.

    Raises:
      UserError: a process differs from the first.
    """
    if jax.process_count() == 1:
        return
    digest = hashlib.sha256(json.dumps(position, sort_keys=True).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))  # [process, bytes]
    watch = hosts.current()
    name = "process {}".format if watch is None else watch.name
    odd = [name(i) for i, other in enumerate(digests) if (other != digests[0]).any()]
    if odd:
        raise UserError(
            f"{some_of(odd)} prepared other data than {name(0)} from the same config: the contents "
            "of files differ, though their sizes may not; put the same files on every host, or "
            "all of them on storage that every host mounts"
        )
