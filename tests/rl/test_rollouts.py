"""Collecting answers: the policy's own draws, whatever else is generated beside them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from lilith.config import MeshConfig, UserError
from lilith.data.prompts import ChatPrompt
from lilith.inference import engine as engines
from lilith.inference.engine import Engine
from lilith.model.params import init_params, param_shardings
from lilith.model.presets import PRESETS
from lilith.model.transformer import forward, unembed
from lilith.rl.answers import answer_rows, finished
from lilith.rl.rollouts import Limits, Rollout, collect
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer

CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32", context=256)
TOKENIZER = ByteTokenizer()
PROMPTS = [TOKENIZER.encode(text) for text in ("hello", "a much longer prompt", "x", "abc")]
STOPS = tuple(range(97, 113))  # a sixteenth of the bytes: rows end at very different places
LIMITS = Limits(answer_tokens=90)


@pytest.fixture(scope="module")
def params():
    return init_params(0, CONFIG)


@pytest.fixture(scope="module")
def rollouts(params) -> dict[tuple[int, int], Rollout]:
    found = collect(
        Engine(params, CONFIG, vocab=TOKENIZER.vocab_size), PROMPTS, range(8), copies=2,
        stop_ids=STOPS, limits=LIMITS,
    )  # fmt: skip
    return {(own.prompt, own.copy): own for own in found}


def test_every_prompt_is_answered_by_tokens_of_the_policy(rollouts) -> None:
    assert set(rollouts) == {(prompt, copy) for prompt in range(4) for copy in range(2)}
    assert len({own.written for own in rollouts.values()}) > 4
    for (prompt, _), own in rollouts.items():
        size = own.prompt_tokens
        assert list(own.ids[:size]) == PROMPTS[prompt]
        assert own.learnt == (False,) * size + (True,) * (len(own.ids) - size)
        assert own.turns == 1
        assert own.ended == (own.ids[-1] in STOPS)
        assert not set(own.ids[size:-1]) & set(STOPS)
        assert own.ended or own.written == LIMITS.answer_tokens
        assert not any(own.log_probs[:size])
        assert all(value < 0 for value in own.log_probs[size:])


def test_log_probabilities_are_those_of_the_training_forward(params, rollouts) -> None:
    rows, sampled = answer_rows(list(rollouts.values()), 8, 255)
    assert rows["tokens"].shape == (8, 128)

    @jax.jit
    def true(tokens, targets, segments):
        hidden, _ = forward(params, tokens, CONFIG, segments_BT=segments)
        log_probs = jax.nn.log_softmax(unembed(params, hidden, CONFIG))
        return jax.numpy.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]

    wanted = true(rows["tokens"], rows["targets"], rows["segment_ids"])
    mask = rows["loss_mask"] > 0
    assert mask.sum() == sum(own.written for own in rollouts.values())
    np.testing.assert_allclose(sampled[mask], np.asarray(wanted)[mask], atol=2e-5)
    assert not sampled[~mask].any()


@pytest.mark.parametrize("rows", [1, 3])
def test_how_many_are_generated_together_changes_nothing(params, rollouts, rows) -> None:
    limits = dataclasses.replace(LIMITS, rows=rows)
    engine = Engine(params, CONFIG, vocab=TOKENIZER.vocab_size)
    for own in collect(engine, PROMPTS, range(8), copies=2, stop_ids=STOPS, limits=limits):
        other = rollouts[own.prompt, own.copy]
        assert own.ids == other.ids
        np.testing.assert_allclose(own.log_probs, other.log_probs, atol=2e-5)


def test_rows_that_ended_are_left_out_of_the_batch(params, monkeypatch) -> None:
    sizes = []
    decode = engines.sampler.decode

    def watched(params, state, *args, **kwargs):
        sizes.append(len(state.done_B))
        return decode(params, state, *args, **kwargs)

    monkeypatch.setattr(engines.sampler, "decode", watched)
    engine = Engine(params, CONFIG, vocab=TOKENIZER.vocab_size)
    limits = Limits(answer_tokens=190)
    rare = STOPS[:4]  # some rows end in the first call, most in a later one
    found = list(collect(engine, PROMPTS, range(8), copies=2, stop_ids=rare, limits=limits))
    assert len(found) == 8
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 8
    assert sizes[-1] <= 4


def test_on_a_mesh_the_same_is_drawn(params, rollouts) -> None:
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placed = jax.device_put(params, param_shardings(CONFIG, mesh))
    engine = Engine(placed, CONFIG, vocab=TOKENIZER.vocab_size, mesh=mesh)
    for own in collect(engine, PROMPTS, range(8), copies=2, stop_ids=STOPS, limits=LIMITS):
        assert own.ids == rollouts[own.prompt, own.copy].ids


def test_replies_are_appended_and_not_learnt(params) -> None:
    engine = Engine(params, CONFIG, vocab=TOKENIZER.vocab_size)
    limits = Limits(answer_tokens=120, turns=3)
    told = TOKENIZER.encode("<42>")
    replies = []

    def reply(rollout: Rollout) -> list[int] | None:
        replies.append(rollout)
        return told if rollout.prompt == 0 else None

    found = sorted(
        collect(engine, PROMPTS[:2], range(2), stop_ids=range(64, 192), limits=limits, reply=reply),
        key=lambda own: own.prompt,
    )
    first, second = found
    assert (first.turns, second.turns) == (3, 1)
    assert len(replies) == 3  # after the last turn nobody is asked
    size = first.prompt_tokens
    runs = [int(own) for own in first.learnt[size:]]
    text = "".join(map(str, runs))
    assert all(text.split("0" * len(told)))  # the policy wrote before, between and after
    assert text.count("0") == 2 * len(told)
    at = size + text.index("0")
    assert list(first.ids[at : at + len(told)]) == told
    assert first.log_probs[at : at + len(told)] == (0.0,) * len(told)
    # What was drawn in later turns is the policy's, too.
    rows, sampled = answer_rows([first], 1, 255)
    prompt = ChatPrompt(tuple(PROMPTS[0]), ({"role": "user", "content": "hello"},), check={"a": 1})
    judged = finished(first, prompt, TOKENIZER)
    assert [m["role"] for m in judged.messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert judged.messages[2]["content"] == "<42>"
    assert judged.answer == judged.messages[-1]["content"]
    assert (judged.check, judged.ended) == ({"a": 1}, True)
    assert (sampled[rows["loss_mask"] > 0] < 0).all()


def test_a_reply_without_room_ends_the_conversation(params) -> None:
    engine = Engine(params, CONFIG, vocab=TOKENIZER.vocab_size)
    limits = Limits(answer_tokens=60, turns=9)
    (own,) = collect(
        engine, PROMPTS[:1], [0], stop_ids=range(64, 192), limits=limits,
        reply=lambda rollout: [1] * 60,
    )  # fmt: skip
    assert len(own.ids) - own.prompt_tokens <= 60
    assert own.turns == 1


def test_what_can_not_be_collected() -> None:
    engine = Engine(init_params(0, CONFIG), CONFIG)
    with pytest.raises(UserError, match="the prompt is empty"):
        list(collect(engine, [[]], [0], stop_ids=STOPS, limits=LIMITS))
    with pytest.raises(ValueError, match="3 seeds for 1 prompts times 2"):
        list(collect(engine, [[1]], [0, 1, 2], copies=2, stop_ids=STOPS, limits=LIMITS))
