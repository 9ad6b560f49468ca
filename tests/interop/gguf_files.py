"""Small GGUF files: written by LILITH, by the gguf package, and byte by byte."""

from __future__ import annotations

import json
import pathlib
import struct
from typing import Any

import gguf
import numpy as np
import tokenizers
from golden_cases import random_params
from interop_models import MODELS
from tokenizers import models, pre_tokenizers, trainers

from lilith.interop.gguf import write_gguf
from lilith.interop.gguf_header import open_file, read_header
from lilith.interop.gguf_metadata import Metadata
from lilith.tokenizer import ByteTokenizer

SCALARS = {"B": 0, "b": 1, "H": 2, "h": 3, "I": 4, "i": 5, "f": 6, "?": 7, "Q": 10, "q": 11,
           "d": 12}  # fmt: skip


CODE = pathlib.Path(__file__).read_text(encoding="utf-8")  # something to train tokenizers on
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def bpe_content() -> dict[str, Any]:
    """The tokenizer.json of a byte-level BPE that has joined words, spaces, digits and marks."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*SPECIAL, "    "], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    trained.train_from_iterator([CODE[i : i + 40] for i in range(0, len(CODE), 40)], trainer)
    content = json.loads(trained.to_str())
    content["added_tokens"][3]["special"] = False  # a run of spaces is ordinary text
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                          "use_regex": True}  # fmt: skip
    return content


def write_model(path: pathlib.Path, case: str = "llama", /, **options: object):
    """A file that LILITH wrote of a small model with the byte tokenizer; gives the weights."""
    params = random_params(MODELS[case])
    write_gguf(path, params, MODELS[case], ByteTokenizer(), **options)
    return params


def metadata_of(path: pathlib.Path, *left_out: str, **changes: object) -> Metadata:
    """A file's keys, some of them left out or changed (a dot in a name is written __)."""
    values = dict(read_header(open_file(path), str(path)).metadata.values)
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return Metadata({key: it for key, it in values.items() if key not in left_out}, str(path))


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, form: str, value: object) -> bytes:
    """One key: ``form`` is a letter of struct, s for text, [ before one for a list."""
    start = text(name)
    if form == "s":
        return start + struct.pack("<I", 8) + text(value)
    if form[0] != "[":
        return start + struct.pack("<I", SCALARS[form]) + struct.pack("<" + form, value)
    items = [text(item) if form[1] == "s" else struct.pack("<" + form[1], item) for item in value]
    kind = 8 if form[1] == "s" else SCALARS[form[1]]
    return start + struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


def record(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """One tensor's record; ``dims`` with the innermost first, as in the file."""
    start = text(name) + struct.pack("<I", len(dims))
    return start + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def raw(
    keys: list[bytes], records: list[bytes] = (), data: bytes = b"", *, version: int = 3, **counts
) -> bytes:
    """A file of these parts; ``tensors`` and ``keys_count`` lie about how many there are."""
    start = b"GGUF" + struct.pack(
        "<IQQ", version, counts.get("tensors", len(records)), counts.get("keys_count", len(keys))
    )
    header = start + b"".join(keys) + b"".join(records)
    return header + bytes(-len(header) % 32) + data


def rewrite(
    source: pathlib.Path,
    target: pathlib.Path,
    *,
    keys: dict[str, object] | None = None,
    tensors: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType] | None] | None = None,
) -> None:
    """Write a file again through the gguf package; None leaves a key or a tensor out."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    keys, tensors = dict(keys or {}), dict(tensors or {})
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = keys.pop(name, field.contents())
        if value is not None:
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, value, field.types[0], sub)
    for name, value in keys.items():
        writer.add_key_value(name, value, gguf.GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        if tensor.name not in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        elif (changed := tensors.pop(tensor.name)) is not None:
            writer.add_tensor(tensor.name, changed[0], raw_dtype=changed[1])
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
