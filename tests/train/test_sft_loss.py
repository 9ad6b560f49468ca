"""The fine-tuning loss: golden means, packs, micro-batches, noise, and learning by heart."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lilith.config import OptimizerConfig
from lilith.data.chat import Rendered, render_conversation
from lilith.data.chat_rows import pack_conversations
from lilith.inference.sampler import pad_prompts, sample
from lilith.inference.sampling import make_controls
from lilith.model.params import init_params
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward, output_table
from lilith.sharding import DEFAULT_RULES
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import ChatTemplate
from lilith.train.lora import apply_adapter, init_adapter
from lilith.train.lora_config import LoraConfig
from lilith.train.optimizer import make_optimizer
from lilith.train.sft import embedding_noise, sft_loss
from lilith.train.state import Batch, state_from_params
from lilith.train.step import train_step

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32")
LENGTH = 48
SHORT_TEMPLATE = """\
{%- for m in messages -%}
  {{- '[' + m.role[0] + ']' + m.content + ('~' if m.role == 'assistant' else '') -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '[a]' -}}{%- endif -%}"""


def conversations(count=7, seed=0):
    """Rendered conversations of ragged lengths, with ragged masks."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        size = int(random.integers(4, LENGTH))
        mask = random.random(size) < 0.5
        mask[0], mask[-1] = False, True
        made.append(Rendered(random.integers(0, CONFIG.vocab, size).astype(np.int32), mask))
    return made


def batch_of(chats, length=LENGTH):
    rows = pack_conversations(chats, length, 0)
    return Batch(**{
        name: jnp.stack([rows[i][name] for i in range(len(rows))])
        for name in ("tokens", "targets", "segment_ids", "positions", "loss_mask")
    })  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


def test_masked_mean_over_ragged_packs(params):
    """Against NumPy in float64, one conversation at a time."""
    chats = conversations()
    read = jax.jit(lambda params, ids: forward(params, ids, CONFIG)[0])
    nll = weight = 0.0
    for chat in chats:
        padded = np.pad(chat.ids[:-1], (0, LENGTH - len(chat.ids) + 1))
        hidden = read(params, padded[None])[0, : len(chat.ids) - 1]
        logits = np.asarray(hidden, np.float64) @ np.asarray(output_table(params, CONFIG)).T
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        own = -log_probs[np.arange(len(logits)), chat.ids[1:]]
        nll, weight = nll + own[chat.mask[1:]].sum(), weight + chat.mask[1:].sum()
    packed = batch_of(chats)
    assert len(packed.tokens) < len(chats)  # some rows hold several
    found = jax.jit(partial(sft_loss, config=CONFIG))(params, packed)
    assert float(found.weight) == weight
    assert float(found.nll / found.weight) == pytest.approx(nll / weight, rel=2e-6)


def test_packed_gradients_equal_unpacked(params):
    chats = conversations()

    @jax.jit
    def gradient(batch):
        return jax.grad(lambda p: sft_loss(p, batch, config=CONFIG).objective)(params)

    whole = batch_of(chats)
    packed = gradient(whole)
    alone = [gradient(jax.tree.map(lambda x: jnp.pad(x, ((0, len(whole.tokens) - 1), (0, 0))),
                                   batch_of([chat]))) for chat in chats]  # fmt: skip
    for mine, *others in zip(jax.tree.leaves(packed), *map(jax.tree.leaves, alone)):
        np.testing.assert_allclose(mine, sum(others), atol=2e-5 * np.abs(mine).max())


@pytest.mark.parametrize("rank", [0, 4])
def test_accumulation_equals_the_full_batch(params, rank):
    lora = LoraConfig(rank=rank)
    batch = batch_of(conversations(20), 64)
    batch = jax.tree.map(lambda x: x[:8], batch)
    assert len(batch.tokens) == 8
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=0), 10)
    start = init_adapter(0, params, CONFIG, lora) if rank else params
    step = jax.jit(
        partial(train_step, loss=partial(sft_loss, config=CONFIG, lora=lora), optimizer=optimizer),
        static_argnames="accumulation",
    )
    states = [
        step(
            state_from_params(start, optimizer), batch, params if rank else None, accumulation=count
        )
        for count in (1, 4)
    ]
    (one, figures), (four, others) = states
    assert float(figures["gradient_norm"]) == pytest.approx(
        float(others["gradient_norm"]), rel=1e-5
    )
    assert float(figures["loss"]) == pytest.approx(float(others["loss"]), rel=1e-6)
    # AdamW's moments show gradients as they are; the first update is only their sign.
    for mine, other in zip(jax.tree.leaves(one.opt_state), jax.tree.leaves(four.opt_state)):
        np.testing.assert_allclose(mine, other, atol=1e-6 + 1e-5 * np.abs(np.asarray(mine)).max())


def test_an_adapter_needs_its_base(params):
    with pytest.raises(ValueError, match="frozen"):
        sft_loss(params, batch_of(conversations(2)), config=CONFIG, lora=LoraConfig(rank=2))


def test_noise_depends_on_each_documents_length():
    segments = jnp.asarray([[1] * 9 + [2] * 36 + [0] * 3])
    noise = np.asarray(embedding_noise(jax.random.key(0), segments, 64, 5.0, DEFAULT_RULES))[0]
    for part, length in ((noise[:9], 9), (noise[9:45], 36)):
        bound = 5.0 / np.sqrt(length * 64)
        assert 0.98 * bound < np.abs(part).max() <= bound
        assert part.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_noise_only_in_training_and_by_the_key(params):
    batch = batch_of(conversations(3))
    loss = jax.jit(lambda key: sft_loss(params, batch, config=CONFIG, neftune=50.0, key=key).nll)
    plain = loss(None)
    assert float(plain) == pytest.approx(
        float(jax.jit(partial(sft_loss, config=CONFIG))(params, batch).nll)
    )
    first, again, other = (float(loss(jax.random.key(seed))) for seed in (0, 0, 1))
    assert first == again
    assert len({first, other, float(plain)}) == 3


def test_each_step_and_micro_batch_draws_anew(params):
    """The same step of the same seed draws the same, so a run that is resumed does."""
    drawn = []

    def loss(params, batch, *, key):
        jax.debug.callback(
            lambda data: drawn.append(tuple(data.tolist())), jax.random.key_data(key)
        )
        return sft_loss(params, batch, config=CONFIG, key=key, neftune=5.0)

    batch = jax.tree.map(lambda x: x[:4], batch_of(conversations(20), 64))
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = state_from_params(params, optimizer)
    run = jax.jit(partial(train_step, loss=loss, optimizer=optimizer, accumulation=2, seed=3))
    for first in (state, state, state.replace(step=state.step + 1)):
        run(first, batch)
        jax.effects_barrier()
    keys = [set(drawn[i : i + 2]) for i in (0, 2, 4)]
    assert len(keys[0]) == 2
    assert keys[0] == keys[1]
    assert not keys[0] & keys[2]


@pytest.mark.parametrize("rank", [0, 16])
def test_learns_32_conversations_by_heart(params, rank):
    tokenizer = ByteTokenizer()
    template = ChatTemplate.of(SHORT_TEMPLATE, tokenizer)
    random = np.random.default_rng(4)
    words = ["red", "green", "blue", "gold", "grey", "pink", "teal", "plum"]
    chats = [
        [{"role": "user", "content": f"colour of {i}?"},
         {"role": "assistant", "content": " ".join(random.choice(words, 2))}]
        for i in range(32)
    ]  # fmt: skip
    rendered = [render_conversation(chat, tokenizer, template) for chat in chats]
    batch = batch_of(rendered, 128)
    lora = LoraConfig(rank=rank)
    optimizer = make_optimizer(
        OptimizerConfig(learning_rate=5e-3, warmup_steps=10, weight_decay=0.0),
        300,
    )
    start = init_adapter(0, params, CONFIG, lora) if rank else params
    step = jax.jit(
        partial(train_step, loss=partial(sft_loss, config=CONFIG, lora=lora), optimizer=optimizer)
    )
    state, base = state_from_params(start, optimizer), params if rank else None
    for _ in range(300):
        state, figures = step(state, batch, base)
    # Below an adapter the random table of words stays, and with it the largest logit, about 8.
    assert float(figures["loss"]) < (0.35 if rank else 0.02)
    own = apply_adapter(params, state.params, lora) if rank else state.params
    tokens, lengths = pad_prompts([template.encode(chat[:1], tokenizer) for chat in chats])
    stop = tokenizer.encode("~")
    made = sample(own, tokens, lengths, make_controls(32, stop_ids=tuple(stop)), config=CONFIG,
                  new_tokens=16, vocab=tokenizer.vocab_size)  # fmt: skip
    answers = [
        tokenizer.decode(np.asarray(row)[: int(count)].tolist()).rstrip("~")
        for row, count in zip(made.tokens_BN, made.length_B)
    ]
    assert answers == [chat[1]["content"] for chat in chats]
