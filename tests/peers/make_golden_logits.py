"""Make ``tests/model/golden_logits.npz``: what transformers computes for every golden case.

From the repository root, with the extra ``[peers]`` installed:

    PYTHONPATH=tests/model python tests/peers/make_golden_logits.py

The file holds one float32 [rows, length, vocab] array for each case and, as ``versions``, the
versions of torch and transformers that made it (first made with torch 2.13.0 and transformers
5.23.0).
"""

import numpy as np
import torch
import transformers
from golden_cases import CASES, GOLDEN, LENGTH, ROWS, random_params, random_tokens
from weights import peer_logits


def golden_logits() -> dict[str, np.ndarray]:
    """The logits of every case."""
    return {
        name: peer_logits(config, random_params(config), random_tokens(config, ROWS, LENGTH))
        for name, config in CASES.items()
    }


def main() -> None:
    versions = [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    np.savez_compressed(GOLDEN, versions=np.array(versions), **golden_logits())
    print(f"{GOLDEN}: {len(CASES)} cases, {GOLDEN.stat().st_size:,} bytes, {', '.join(versions)}")


if __name__ == "__main__":
    main()
