"""Reward models and DPO side by side with TRL, on the same weights and batch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import CASES, random_params

from lilith.train.dpo import dpo_loss
from lilith.train.log_probs import sequence_log_probs
from lilith.train.preferences import PairBatch, pair_rows
from lilith.train.reward import init_head, reward_loss

pytest.importorskip("trl", reason="the extra [peers] is not installed: run `make test-peers`")

import datasets
import tokenizers
import torch
import transformers
import trl
from trl.trainer.dpo_trainer import DataCollatorForPreference as CollateForDpo
from trl.trainer.reward_trainer import DataCollatorForPreference as CollateForReward
from weights import to_model, to_state_dict

CONFIG = CASES["llama"]
BETA = 0.4
PROMPTS, CHOSEN, REJECTED = (5, 9, 3, 12), (7, 4, 11, 2), (3, 8, 6, 10)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def reference():
    return random_params(CONFIG, seed=1)


def examples_of(chosen=CHOSEN):
    """Pairs as TRL has them after its tokeniser; no token is the padding's."""
    random = np.random.default_rng(3)

    def ids(count):
        return random.integers(2, CONFIG.vocab, count).tolist()

    return [
        {"prompt_ids": ids(p), "chosen_ids": ids(c), "rejected_ids": ids(r), "margin": float(m)}
        for p, c, r, m in zip(PROMPTS, chosen, REJECTED, (0.0, 0.7, 1.3, 0.2))
    ]


def pairs_of(examples):
    """The same pairs as ours; answers are learnt."""
    count, longest = len(examples), max(PROMPTS) + max(CHOSEN) + 2
    tokens = np.zeros((count, 2, longest), np.int32)
    learnt, length = np.zeros((count, 2, longest), np.float32), np.zeros((count, 2), np.int32)
    for i, example in enumerate(examples):
        for side, name in enumerate(("chosen_ids", "rejected_ids")):
            whole = example["prompt_ids"] + example[name]
            tokens[i, side, : len(whole)], length[i, side] = whole, len(whole)
            learnt[i, side, len(example["prompt_ids"]) : len(whole)] = 1
    return PairBatch(
        tokens_PST=tokens,
        learnt_PST=learnt,
        length_PS=length,
        label_P=np.ones(count, np.float32),
        margin_P=np.array([example["margin"] for example in examples], np.float32),
        weight_P=np.ones(count, np.float32),
        reference_PS=np.zeros((count, 2), np.float32),
    )


def trainer_of(kind, config, model, folder, rows, **models):
    """A trainer of TRL around a model; the batches are handed to it, so its data is a stand-in."""
    words = {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    processing = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<unk>"
    )
    options = {
        "output_dir": str(folder), "use_cpu": True, "report_to": [], "bf16": False,
        "gradient_checkpointing": False, "dataloader_pin_memory": False, "disable_tqdm": True,
    }  # fmt: skip
    return kind(
        model=model, args=config(**options), train_dataset=datasets.Dataset.from_list(rows),
        processing_class=processing, **models,
    )  # fmt: skip


def their_loss_and_gradients(trainer, inputs):
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in trainer.model.named_parameters()
                         if p.grad is not None}  # fmt: skip


def assert_gradients(found, theirs):
    for path, gradient in found.items():
        other = theirs[path]
        np.testing.assert_allclose(
            gradient, other, rtol=0, atol=1e-4 * np.abs(other).max(), err_msg=path
        )


@pytest.mark.parametrize(
    ("ours", "theirs", "some"),
    [
        ({"kind": "sigmoid"}, {"loss_type": ["sigmoid"]}, slice(None)),
        ({"kind": "ipo"}, {"loss_type": ["ipo"]}, slice(None)),
        # TRL has conservative DPO's smoothing in its AOT losses, which for one pair are that.
        ({"label_smoothing": 0.2}, {"loss_type": ["aot"], "label_smoothing": 0.2}, slice(2, 3)),
        # TRL's SFT term is a mean over tokens: for answers of one length, ours over answers.
        (
            {"sft": 0.3},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]},
            "equal lengths",
        ),
    ],
    ids=["sigmoid", "ipo", "conservative", "sft"],
)
def test_dpo_is_that_of_trl(params, reference, ours, theirs, some, tmp_path):
    examples = examples_of((6,) * 4) if some == "equal lengths" else examples_of()[some]
    trainer = trainer_of(
        trl.DPOTrainer, partial(trl.DPOConfig, beta=BETA, **theirs), to_model(CONFIG, params),
        tmp_path, [{"prompt": "a", "chosen": " b", "rejected": " a"}],
        ref_model=to_model(CONFIG, reference),
    )  # fmt: skip
    truth, gradients = their_loss_and_gradients(trainer, CollateForDpo(pad_token_id=0)(examples))

    pairs = pairs_of(examples)
    below = jax.jit(partial(sequence_log_probs, config=CONFIG))(reference, pair_rows(pairs))
    pairs = pairs.replace(reference_PS=below.reshape(-1, 2))

    def mean_loss(params):
        sums = dpo_loss(params, pairs, config=CONFIG, beta=BETA, chunk=50, **ours)
        return sums.objective / sums.weight

    loss, found = jax.jit(jax.value_and_grad(mean_loss))(params)
    assert float(loss) == pytest.approx(truth, rel=1e-4)
    assert_gradients(to_state_dict(CONFIG, found), gradients)


def test_reward_model_is_that_of_trl(params, tmp_path):
    """With margins and centring."""
    head = init_head(0, CONFIG)
    language_model = to_model(CONFIG, params)
    shape = language_model.config
    shape.num_labels = 1
    model = transformers.AutoModelForSequenceClassification.from_config(shape, dtype=torch.float32)
    model.model.load_state_dict(language_model.model.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(np.asarray(head["weight"]))[None])
    rows = [{"chosen_ids": [2, 3], "rejected_ids": [3, 2]}]
    trainer = trainer_of(
        trl.RewardTrainer, partial(trl.RewardConfig, center_rewards_coefficient=0.05), model,
        tmp_path, rows,
    )  # fmt: skip
    examples = examples_of()
    whole = [
        {
            "chosen_ids": example["prompt_ids"] + example["chosen_ids"],
            "rejected_ids": example["prompt_ids"] + example["rejected_ids"],
            "margin": example["margin"],
        }
        for example in examples
    ]
    truth, gradients = their_loss_and_gradients(trainer, CollateForReward(pad_token_id=0)(whole))

    def mean_loss(trained):
        sums = reward_loss(trained, pairs_of(examples), config=CONFIG, centring=0.05)
        return sums.objective / sums.weight

    loss, found = jax.jit(jax.value_and_grad(mean_loss))({"model": params, "head": head})
    assert float(loss) == pytest.approx(truth, rel=1e-4)
    ours = to_state_dict(CONFIG, found["model"])
    assert not ours.pop("lm_head.weight").any()  # a reward model reads no vocabulary
    ours["score.weight"] = found["head"]["weight"][None]
    assert ours.keys() == gradients.keys()
    assert_gradients(ours, gradients)
    assert jnp.isfinite(found["head"]["bias"])
