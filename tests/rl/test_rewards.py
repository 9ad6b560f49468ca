"""Rewards of finished conversations: mixtures, verifiers that hang or fail, bad rewards."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from lilith.config import ConfigError
from lilith.data.instructions.registry import make
from lilith.data.instructions.tool_prompts import tool_call_prompts
from lilith.rl import verifiers
from lilith.rl.rewards import Finished, Mixture, RewardError, Rule, Scorer, Verifier
from lilith.rl.rollouts import Rollout
from lilith.rl.shaping import missing_end_penalty, overlong_penalty, varied_groups


def said(answer: str, **more: object) -> Finished:
    return Finished([{"role": "user", "content": "q"}], answer, **more)


def rewards_of(*sources, conversations=None):
    conversations = [said("a"), said("bbb")] if conversations is None else conversations
    judgement = Mixture(sources).judge()
    for conversation in conversations:
        judgement.add(conversation)
    return judgement.rewards()


LENGTH = Rule("length", lambda own: len(own.answer))


def test_a_mixture_is_the_weighted_sum_of_its_sources() -> None:
    whole = Scorer("rank", lambda conversations: [0.25 * i for i in range(len(conversations))])
    slow = Verifier("slow", lambda own: own.answer == "a", workers=2)
    found = rewards_of((0.5, LENGTH), (2.0, whole), (-1.0, slow))
    assert found.by_source["length"].tolist() == [1.0, 3.0]
    assert found.by_source["rank"].tolist() == [0.0, 0.25]
    assert found.by_source["slow"].tolist() == [1.0, 0.0]
    assert found.total.tolist() == [-0.5, 2.0]
    assert found.total.dtype == np.float32
    assert not found.given_up
    assert not found.failed
    assert rewards_of((1.0, whole), conversations=()).total.shape == (0,)


def test_a_verifier_works_while_others_are_still_to_come() -> None:
    begun = threading.Event()

    def function(own: Finished) -> float:
        begun.set()
        return 1.0

    judgement = Mixture([(1.0, Verifier("slow", function))]).judge()
    judgement.add(said("a"))
    assert begun.wait(10)  # before anybody asked for rewards
    judgement.add(said("b"))
    assert judgement.rewards().total.tolist() == [1.0, 1.0]


def test_a_verifier_that_hangs_is_given_up_and_the_others_are_not_lost() -> None:
    never = threading.Event()

    def function(own: Finished) -> float:
        if own.answer == "hang":
            never.wait(60)
        if own.answer == "raise":
            raise KeyError("no such thing")
        return 1.0

    verifier = Verifier("v", function, seconds=0.2, failure=-0.5, workers=1)
    conversations = [said(text) for text in ("ok", "hang", "raise", "ok", "hang")]
    found = rewards_of((1.0, verifier), conversations=conversations)
    assert found.total.tolist() == [1.0, -0.5, -0.5, 1.0, -0.5]
    assert found.given_up == {"v": 2}
    assert found.failed == {"v": (1, "KeyError: 'no such thing'")}
    never.set()


def test_a_verifier_that_gives_nothing_is_no_zero() -> None:
    verifier = Verifier("v", lambda own: None, failure=-0.5)
    with pytest.raises(RewardError, match="'v' gave nan for conversation 0 of 1"):
        rewards_of((1.0, verifier), conversations=[said("a")])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], r"'m' gave rewards of shape \[1\] for 2 conversations"),
        ([1.0, 2.0, 3.0], r"shape \[3\] for 2 conversations"),
        ([[1.0], [2.0]], r"shape \[2, 1\]"),
        ([1.0, float("nan")], "gave nan for conversation 1 of 2; rewards must be finite"),
        ([float("inf"), 1.0], "gave inf for conversation 0 of 2"),
        (["a", "b"], "gave what are not numbers"),
        (None, "gave"),
    ],
)
def test_rewards_that_can_not_be_used(values, words) -> None:
    with pytest.raises(RewardError, match=words):
        rewards_of((1.0, Scorer("m", lambda conversations: values)))


def test_mixtures_that_can_not_be_made() -> None:
    with pytest.raises(ConfigError, match="no reward source"):
        Mixture([])
    with pytest.raises(ConfigError, match="two reward sources are called 'length'"):
        Mixture([(1.0, LENGTH), (2.0, LENGTH)])
    with pytest.raises(ConfigError, match="weight of reward source 'length' is nan"):
        Mixture([(float("nan"), LENGTH)])
    with pytest.raises(ConfigError, match=r"no reward source 'tool_cal' \(did you mean"):
        verifiers.source("tool_cal")


def call_text(call: dict) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def test_tool_calls_are_judged_by_call_and_by_result() -> None:
    prompt = tool_call_prompts(5, 1)[0]
    check = {"tool_calls": [prompt.expected]}
    expected = prompt.expected

    def judged(call: object) -> list[float]:
        text = call if isinstance(call, str) else call_text(call)
        own = said(text, check=check)
        return [f(own) for f in (verifiers.tool_call, verifiers.tool_call_parts,
                                 verifiers.tool_result)]  # fmt: skip

    assert judged(expected) == [1.0, 1.0, 1.0]
    spelled = {"name": expected["name"], "arguments": {**expected["arguments"], "dividend": 0.0}}
    assert judged(spelled)[2] == 1.0
    wrong = {"name": expected["name"], "arguments": {**expected["arguments"], "spot": 1.0}}
    strict, parts, result = judged(wrong)
    assert (strict, result) == (0.0, 0.0)
    assert 0.3 < parts < 0.7
    assert judged({"name": "stats_summary", "arguments": {"data": [1]}}) == [0.0, 0.1, 0.0]
    assert judged({"name": "no_such_tool", "arguments": {}}) == [0.0, 0.1, 0.0]
    assert judged("It is worth 5.") == [0.0, 0.0, 0.0]
    assert judged({"name": expected["name"], "arguments": {}})[2] == 0.0
    with pytest.raises(ConfigError, match="names no tool call"):
        verifiers.tool_call(said("x"))


def test_code_is_judged_in_the_sandbox() -> None:
    record = make("code_series", 3, 0)
    *prompt, answer = record["messages"]
    source = verifiers.source("code", seconds=30, failure=-1.0)

    def judged(text: str) -> float:
        messages = [*prompt, {"role": "assistant", "content": text}]
        own = Finished(messages, text, check=record["metadata"]["check"])
        return float(rewards_of((1.0, source), conversations=[own]).total[0])

    assert judged(answer["content"]) == 1.0
    assert judged(answer["content"].replace("return", "return 0 *")) == 0.0
    assert judged("I will not.") == 0.0


def rollout(length: int, ended: bool) -> Rollout:
    return Rollout((1,) * (3 + length), (), (), 0, 0, 3, ended)


def test_penalties_of_answers_that_did_not_end_or_are_long() -> None:
    answers = [rollout(10, True), rollout(20, False)]
    assert missing_end_penalty(answers, 0.5).tolist() == [0.0, -0.5]
    lengths = [rollout(n, True) for n in (0, 12, 14, 16, 20)]
    assert overlong_penalty(lengths, 20, 8).tolist() == [0.0, 0.0, -0.25, -0.5, -1.0]


def test_groups_with_equal_rewards_are_found() -> None:
    rewards = np.array([0.1, 0.1, 0.1, 0, 1, 0, 1, 1, 1, 0, 0, 0.5], np.float32)
    assert varied_groups(rewards, 3) == [1, 3]
