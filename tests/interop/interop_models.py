"""Small models of every family and the folders of them that others would hand over."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random

import jax
import numpy as np
from golden_cases import CASES, random_params
from safetensors.numpy import save_file

from lilith.config import ModelConfig
from lilith.interop.huggingface import write_huggingface
from lilith.tokenizer import ByteTokenizer

VOCAB = 272  # room for bytes and special tokens
MODELS = {name: dataclasses.replace(config, vocab=VOCAB) for name, config in CASES.items()}
LLAMA = MODELS["llama"]


class Tensors:
    """A source of weights that are in memory already."""

    where = "memory"

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors

    def names(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.tensors.items()}

    def read(self, name: str) -> np.ndarray:
        return self.tensors[name]


def same(a: object, b: object) -> bool:
    """Whether two trees have the same structure, types and bits."""
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(x).dtype == np.asarray(y).dtype
        and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
    )


def write_folder(folder: pathlib.Path, config: ModelConfig = LLAMA, **options: object):
    """A folder that LILITH wrote, with random weights and the byte tokenizer; gives the weights."""
    params = random_params(config)
    write_huggingface(folder, params, config, ByteTokenizer(), **options)
    return params


def edit_json(path: pathlib.Path, **changes: object) -> None:
    """Set fields of a JSON file; ... removes one."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def edit_tensors(path: pathlib.Path, **changes: np.ndarray | None) -> None:
    """Write a safetensors file again, with tensors added or changed; None removes one."""
    from safetensors.numpy import load_file

    tensors = load_file(path) | changes
    save_file({name: array for name, array in tensors.items() if array is not None}, path)


def texts(count: int, seed: int = 0) -> list[str]:
    """Varied texts: code, prose, runs of spaces, any Unicode, and marks that tokenizers use."""
    rng = random.Random(seed)
    alphabet = "ab \n\t(){}_=01\u00e9\u00df\u4e2d\u2581\0<>|x\u0120"
    words = ["def ", "return", "    ", "\t", "  \n", "<|im_end|>", "<0x41>", "<unk>", "caf\u00e9"]
    words += ["e\u0301", "\U0001f600", "x1=22", "aaaa", "----", "\r\n", "\u00a0", "if (a) {"]
    made = ["", " ", "a", "\u2581", "\u2581 \u2581"]
    for _ in range(count):
        made.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))))
        made.append("".join(rng.choice(words) for _ in range(rng.randint(1, 20))))
        points = (rng.choice([rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000)])
                  for _ in range(rng.randint(1, 20)))  # fmt: skip
        made.append("".join(map(chr, points)))
    return made
