"""Damaged GGUF files: each is read, or refused with the one error, in bounded time and memory."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import CODE, bpe_content, rewrite
from golden_cases import random_params
from interop_models import MODELS

from lilith.config import TokenizerConfig
from lilith.interop.gguf import write_gguf
from lilith.interop.gguf_pretokenizers import PRE_TOKENIZERS, pre_tokenizer_node
from lilith.interop.gguf_tokenizer import JSON_KEY, SENTENCEPIECE_KEY
from lilith.tokenizer import ByteTokenizer, HuggingFaceTokenizer, train_sentencepiece

HERE = Path(__file__).parent
CASES = 500  # of each file
CPU_SECONDS = 2  # of one case, on one core
MEBIBYTES = 768  # of address space beyond what the process takes before it reads a file


TOKENIZERS = {
    "bytes": ByteTokenizer,
    "bpe": lambda: HuggingFaceTokenizer(
        json.dumps(bpe_content() | {"pre_tokenizer": pre_tokenizer_node(PRE_TOKENIZERS["qwen2"])})
    ),
    "sentencepiece": lambda: train_sentencepiece([CODE], TokenizerConfig(vocab=600)),
}


@pytest.mark.parametrize(
    ("name", "kind", "left_out"),
    [
        ("llama3", "bytes", None),
        ("qwen3", "bpe", None),
        ("llama", "bpe", JSON_KEY),
        ("qwen2", "sentencepiece", None),
        ("llama", "sentencepiece", SENTENCEPIECE_KEY),
    ],
)
def test_every_damage_is_read_or_refused(tmp_path, name, kind, left_out):
    """In a process of its own, whose limits end it if a case takes more than its share."""
    config, tokenizer = dataclasses.replace(MODELS[name], vocab=700), TOKENIZERS[kind]()
    write_gguf(
        tmp_path / "m.gguf", random_params(config), config, tokenizer, chat_template="{{ x }}"
    )
    if left_out is not None:  # as files of others are, with the tokenizer in the metadata alone
        rewrite(tmp_path / "m.gguf", tmp_path / "bare.gguf", keys={left_out: None})
        (tmp_path / "bare.gguf").replace(tmp_path / "m.gguf")
    ended = subprocess.run(
        [sys.executable, HERE / "gguf_fuzz_child.py", tmp_path / "m.gguf", str(CASES),
         str(CPU_SECONDS), str(MEBIBYTES)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    counts = json.loads(ended.stdout.splitlines()[-1])
    assert counts["unexpected"] == []
    assert counts["read"] + counts["refused"] == CASES
    assert counts["refused"] > CASES // 2
    assert len(counts["kinds"]) > 8  # so that mutations reach past the first check
