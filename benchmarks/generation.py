"""Generation with SmolLM2-135M: LILITH beside transformers and llama.cpp, and how well they agree.

transformers runs LILITH's own export of the weights (float32, dequantised from the GGUF), so both
compute the same model; llama.cpp runs the GGUF as it is (4-bit weights), so its speed is another
kind of figure. All cores, one process, in turn. Needs the extra [peers]; llama.cpp is left out
where `llama-cpp-python` is not installed.

    python -m benchmarks.generation [--repeats 5] [--only speed|speculative|agreement|load]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.generation_prompts import CODE_EDITS, CONVERSATIONS, STARTS, TOOL_CALLS
from lilith.inference.language_model import LanguageModel
from lilith.inference.sampling import make_controls
from lilith.interop import load_checkpoint, write_huggingface
from lilith.model.layered import split_layers
from lilith.model.transformer import forward, unembed

NAME = "smollm2-135m-instruct"
NEW_TOKENS = 64


def transformers_model(model: LanguageModel) -> Any:
    """The same weights in transformers, through LILITH's own export."""
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        params = split_layers(model.params, model.config.kv_heads)
        write_huggingface(f"{folder}/model", params, model.config, model.tokenizer)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            f"{folder}/model", dtype=torch.float32
        )
    return loaded.eval()


def transformers_generate(peer: Any, rows: list[list[int]]) -> list[list[int]]:
    """Greedy continuations by transformers' own `generate`, left-padded as it wants them."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with torch.inference_mode():
        out = peer.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    return out[:, width:].tolist()


def llama_cpp_model(path: str) -> Any | None:
    """The GGUF in llama.cpp, or None where its package is not installed."""
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    return Llama(path, n_ctx=2048, n_threads=os.cpu_count(), logits_all=True, verbose=False)


def gemv(model: LanguageModel) -> tuple[Callable[[], Any], int]:
    """One matrix-vector product with the largest weight, and the bytes it reads."""
    table = jnp.asarray(model.params["embedding"])
    vector = jnp.ones((1, table.shape[1]))
    product = jax.jit(lambda x, table: x @ table.T)
    return lambda: product(vector, table).block_until_ready(), table.size * table.dtype.itemsize


def speed(model: LanguageModel, info: Any, repeats: int) -> tuple[list[list[Any]], dict[str, Any]]:
    """Tokens/s of one stream and of sixteen; and one stream's share of the memory bandwidth."""
    peer, cpp = transformers_model(model), llama_cpp_model(str(info.files[0]))
    prompts = [model.encode(text) for text in STARTS]
    one = prompts[:1]
    decode, decoded = decode_only(model, prompts[0])
    product, read = gemv(model)
    sides: dict[str, Callable[[], Any]] = {
        "ours 1": lambda: model.generate_batch(one, max_tokens=NEW_TOKENS),
        "peer 1": lambda: transformers_generate(peer, one),
        "ours 16": lambda: model.generate_batch(prompts, max_tokens=NEW_TOKENS),
        "peer 16": lambda: transformers_generate(peer, prompts),
        "decode": decode,
        "product": lambda: [product() for _ in range(10)],
    }
    if cpp is not None:
        sides["cpp 1"] = lambda: cpp.create_completion(
            prompts[0], max_tokens=NEW_TOKENS, temperature=0.0, logit_bias={2: -100.0}
        )
    lengths = {
        rows: sum(len(a.tokens) for a in model.generate_batch(prompts[:rows], max_tokens=64))
        for rows in (1, 16)
    }
    seconds = {name: harness.median(t) for name, t in harness.interleaved(sides, repeats).items()}
    ours = {rows: lengths[rows] / seconds[f"ours {rows}"] for rows in (1, 16)}
    theirs = {rows: rows * NEW_TOKENS / seconds[f"peer {rows}"] for rows in (1, 16)}
    rows = [
        ["one stream, tokens/s", ours[1], theirs[1], ours[1] / theirs[1], 2.5],
        ["sixteen rows, tokens/s", ours[16], theirs[16], ours[16] / theirs[16], 1.5],
    ]
    if cpp is not None:
        own = NEW_TOKENS / seconds["cpp 1"]
        rows.append(["one stream, llama.cpp on Q4_1", ours[1], own, ours[1] / own, "-"])
    bandwidth = 10 * read / seconds["product"]
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model.params))
    reached = decoded() / seconds["decode"] * weights
    rows.append(["decoding, GB/s of weights", reached / 1e9, bandwidth / 1e9,
                 reached / bandwidth, 0.65])  # fmt: skip
    return rows, {"weights_megabytes": weights / 1e6}


def decode_only(
    model: LanguageModel, row: list[int]
) -> tuple[Callable[[], Any], Callable[[], int]]:
    """Decoding without the prompt, and how many tokens a call of it makes."""
    engine, count = model.engine, [0]
    controls = make_controls(1, stop_ids=())
    generation = engine.begin([row], controls, reserve=1536)
    engine.step(generation, [1])
    held = generation.state

    def call() -> None:
        out = engine.step(generation, [48])
        count[0] = len(out.tokens[0])

    assert held is not None
    return call, lambda: count[0]


def speculative(model: LanguageModel, repeats: int) -> tuple[list[list[Any]], dict[str, Any]]:
    """The gain of prompt lookup on tool calls and code edits; the tokens must be the same."""
    rows, same = [], True
    for name, prompts in (("tool calls", TOOL_CALLS), ("code edits", CODE_EDITS)):
        ids = [model.encode(prompt) for prompt in prompts]

        def run(drafts: int, ids: list[list[int]] = ids) -> list[Any]:
            model.engine.forget()
            return [
                model.generate_batch([row], max_tokens=96, speculative=drafts)[0] for row in ids
            ]

        plain, drafted = run(0), run(7)
        same &= [a.tokens for a in plain] == [a.tokens for a in drafted]
        tokens = sum(len(answer.tokens) for answer in plain)
        sides = {"plain": lambda run=run: run(0), "drafted": lambda run=run: run(7)}
        seconds = harness.interleaved(sides, repeats)
        a, b = (tokens / harness.median(seconds[side]) for side in ("drafted", "plain"))
        rows.append([f"speculative, {name}, tokens/s", a, b, a / b, 1.5 if "tool" in name else "-"])
    return rows, {"speculative_tokens_identical": same}


def agreement(model: LanguageModel, info: Any) -> dict[str, Any]:
    """Largest difference of log-probabilities, identical greedy tokens, llama.cpp's top choice."""
    import torch

    peer, cpp = transformers_model(model), llama_cpp_model(str(info.files[0]))
    ids = model.encode("\n".join((*STARTS, *CODE_EDITS, *TOOL_CALLS)))[:512]

    @jax.jit
    def log_probs(params: Any, tokens: jax.Array) -> jax.Array:
        hidden, _ = forward(params, tokens, model.config)
        return jax.nn.log_softmax(unembed(params, hidden, model.config)[0])

    ours = np.asarray(log_probs(model.params, np.array([ids], np.int32)))
    with torch.inference_mode():
        theirs = torch.log_softmax(peer(torch.tensor([ids])).logits[0], -1).numpy()
    rows = [model.encode(messages) for messages in CONVERSATIONS]
    greedy = 0
    for row in rows:
        answer = model.generate_batch([row], max_tokens=NEW_TOKENS)[0]
        with torch.inference_mode():
            out = peer.generate(
                torch.tensor([row]), do_sample=False, max_new_tokens=NEW_TOKENS,
                eos_token_id=list(model.stop_ids), pad_token_id=0,
            )[0, len(row) :].tolist()  # fmt: skip
        greedy += list(answer.tokens) == out
    facts = {
        "tokens_compared": len(ids),
        "largest_log_prob_difference": float(np.abs(ours - theirs).max()),
        "greedy_prompts_identical": f"{greedy} of {len(rows)}",
    }
    if cpp is not None:
        cpp.reset()
        cpp.eval(ids)
        top = np.argmax(cpp.scores[: len(ids)], axis=-1)
        facts["llama_cpp_top1_agreement"] = float(np.mean(top == np.argmax(ours, axis=-1)))
    return facts


def load(repeats: int) -> dict[str, Any]:
    """Seconds from a new process to the first token of an answer, programs compiled before."""
    code = (
        "from lilith import load_checkpoint\n"
        f"model, _, _ = load_checkpoint({NAME!r})\n"
        "next(model.stream([{'role': 'user', 'content': 'What is the capital of France?'}]))\n"
    )
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
        seconds.append(time.perf_counter() - begin)
    return {"load_to_first_token_s": harness.median(seconds[1:]), "target_s": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("speed", "speculative", "agreement", "load"))
    arguments = parser.parse_args()
    model, _, info = load_checkpoint(NAME)
    rows: list[list[Any]] = []
    facts: dict[str, Any] = {}

    def wanted(section: str) -> bool:
        return arguments.only in (None, section)

    if wanted("speed"):
        found, more = speed(model, info, arguments.repeats)
        rows, facts = rows + found, facts | more
    if wanted("speculative"):
        found, more = speculative(model, arguments.repeats)
        rows, facts = rows + found, facts | more
    if wanted("agreement"):
        facts |= agreement(model, info)
    if wanted("load"):
        facts |= load(arguments.repeats)
    facts |= harness.machine("jax", "torch", "transformers")
    name = "generation" if arguments.only is None else f"generation_{arguments.only}"
    harness.report(name, ("what", "LILITH", "peer", "ratio", "target"), rows, facts)


if __name__ == "__main__":
    main()
