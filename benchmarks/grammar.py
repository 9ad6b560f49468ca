"""How long the mask of one token of a tool call takes: microseconds, on the host.

Run as ``python -m benchmarks.grammar [TOKENIZER ...]``; without a path the bytes'
tokenizer; a GGUF file is read for its tokenizer.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from lilith.agent.grammar import CallGrammar
from lilith.agent.registry import create_quant_tools
from lilith.interop.gguf import read_gguf
from lilith.interop.gguf_tokenizer import read_tokenizer
from lilith.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer

CALLS = (
    {"name": "black_scholes", "arguments": {"spot": 100, "strike": 105.5, "time": 0.25,
     "rate": 0.05, "volatility": 0.2, "option_type": "put"}},
    {"name": "stats_summary", "arguments": {"data": [0.01, -0.02, 0.015, 0.003, -0.011] * 4}},
    {"name": "portfolio_optimize", "arguments": {"returns": {
        "A": [0.01, -0.02, 0.015] * 8, "B": [0.02, 0.001, -0.015] * 8}}},
    {"name": "execute_python", "arguments": {"code": "for i in range(3):\n    print(i ** 2)\n"}},
)  # fmt: skip


def measure(tokenizer: Tokenizer) -> dict[str, float]:
    """Microseconds: the first and the median token's mask, and building the grammar."""
    tools = create_quant_tools()
    CallGrammar(tokenizer, tools)  # reads the vocabulary, once a tokenizer
    began = time.perf_counter()
    grammar = CallGrammar(tokenizer, tools)
    built = time.perf_counter() - began
    masks: list[float] = []
    accepts: list[float] = []
    prompt = tokenizer.encode("<tool_call>", allow_special=True)
    for call in CALLS * 5:
        state = grammar.start(prompt)
        for token in tokenizer.encode(f"\n{json.dumps(call)}\n"):
            began = time.perf_counter()
            state.allowed(4096)
            masked = time.perf_counter()
            state.accept(token)
            masks.append(masked - began)
            accepts.append(time.perf_counter() - masked)
    return {
        "vocabulary": tokenizer.vocab_size,
        "tokens": len(masks),
        "mask_median_us": round(1e6 * float(np.median(masks)), 1),
        "mask_mean_us": round(1e6 * float(np.mean(masks)), 1),
        "mask_p99_us": round(1e6 * float(np.percentile(masks, 99)), 1),
        "accept_median_us": round(1e6 * float(np.median(accepts)), 1),
        "build_ms": round(1e3 * built, 1),
    }


def read(path: str) -> Tokenizer:
    """A tokenizer from a folder, a tokenizer.json, or a model in GGUF."""
    if path.endswith(".gguf"):
        return read_tokenizer(read_gguf(path).metadata)[0]
    return load_tokenizer(path)


def main() -> None:
    """Print one line of JSON a tokenizer."""
    for tokenizer in map(read, sys.argv[1:]) if sys.argv[1:] else [ByteTokenizer()]:
        print(json.dumps({"tokenizer": tokenizer.kind, **measure(tokenizer)}))


if __name__ == "__main__":
    main()
