"""Fine-tuning side by side with TRL, and adapters with PEFT, on the same weights and batch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import CASES, random_params

from lilith.data.chat import Rendered
from lilith.data.chat_rows import pack_conversations
from lilith.model.transformer import forward
from lilith.train.lora import apply_adapter, init_adapter
from lilith.train.lora_config import LoraConfig
from lilith.train.sft import sft_loss
from lilith.train.state import Batch

pytest.importorskip("trl", reason="the extra [peers] is not installed: run `make test-peers`")
pytest.importorskip("peft", reason="the extra [peers] is not installed: run `make test-peers`")

import datasets
import peft
import tokenizers
import torch
import transformers
import trl
from weights import to_model, to_state_dict

CONFIG = CASES["llama"]
SIZES = (31, 9, 17, 24, 12, 40)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def chats():
    """Conversations of ragged lengths; the first token of each is never learnt."""
    random = np.random.default_rng(1)
    made = []
    for size in SIZES:
        mask = random.random(size) < 0.6
        mask[0], mask[-1] = False, True
        made.append(Rendered(random.integers(0, CONFIG.vocab, size).astype(np.int32), mask))
    return made


def trainer_of(model, chats, folder):
    """TRL's trainer around what is already tokenised, with labels where a token is learnt."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<unk>": 1}, "<unk>"))
    processing = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<unk>"
    )
    rows = [
        {
            "input_ids": chat.ids.tolist(),
            "labels": [int(i) if m else -100 for i, m in zip(chat.ids, chat.mask)],
        }
        for chat in chats
    ]
    options = trl.SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=len(rows), use_cpu=True, report_to=[],
        dataset_kwargs={"skip_prepare_dataset": True}, bf16=False, gradient_checkpointing=False,
        dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    return trl.SFTTrainer(
        model=model, args=options, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=processing,
    )  # fmt: skip


def test_loss_and_gradients_are_those_of_trl(params, chats, tmp_path):
    model = to_model(CONFIG, params)
    trainer = trainer_of(model, chats, tmp_path)
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    truth = trainer.compute_loss(trainer.model, inputs)
    truth.backward()
    theirs = dict(model.named_parameters())

    rows = pack_conversations(chats, 64, 0)
    assert len(rows) < len(chats)  # ours are packed, theirs padded
    batch = Batch(**{
        name: jnp.stack([rows[i][name] for i in range(len(rows))]) for name in rows[0]
    })  # fmt: skip

    def mean_loss(params):
        sums = sft_loss(params, batch, config=CONFIG)
        return sums.objective / sums.weight

    loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(params)
    assert float(loss) == pytest.approx(truth.item(), rel=1e-5)
    for path, gradient in to_state_dict(CONFIG, gradients).items():
        other = theirs[path].grad.numpy()
        np.testing.assert_allclose(
            gradient, other, rtol=0, atol=1e-4 * np.abs(other).max(), err_msg=path
        )


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_adapters_do_what_those_of_peft_do(params, dora):
    lora = LoraConfig(rank=4, alpha=12.0, dora=dora)
    start = init_adapter(0, params, CONFIG, lora)
    adapter = jax.tree.map(
        lambda x: x + 0.05 * jax.random.normal(jax.random.key(x.shape[-1]), x.shape), start
    )
    model = peft.get_peft_model(
        to_model(CONFIG, params),
        peft.LoraConfig(r=4, lora_alpha=12, use_dora=dora, lora_dropout=0.0, target_modules=[
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ]),
    )  # fmt: skip
    state = model.state_dict()
    for block, projections in (("attention", "qkvo"), ("mlp", ("gate", "up", "down"))):
        place = "self_attn" if block == "attention" else "mlp"
        for projection in projections:
            own = adapter["layers"][block][projection]
            for i in range(CONFIG.layers):
                name = f"base_model.model.model.layers.{i}.{place}.{projection}_proj"
                for theirs, ours in (("lora_A", "a"), ("lora_B", "b")):
                    matrix = torch.tensor(np.asarray(own[ours][i]).T.copy())
                    state[f"{name}.{theirs}.default.weight"].copy_(matrix)
                if dora:
                    vector = torch.tensor(np.asarray(own["magnitude"][i]).copy())
                    state[f"{name}.lora_magnitude_vector.default.weight"].copy_(vector)
    tokens = np.random.default_rng(2).integers(0, CONFIG.vocab, (2, 20))
    with torch.no_grad():
        truth = model(torch.tensor(tokens), output_hidden_states=True).hidden_states[-1].numpy()
    found = jax.jit(partial(forward, config=CONFIG))(
        apply_adapter(params, adapter, lora), jnp.asarray(tokens)
    )[0]
    plain = jax.jit(partial(forward, config=CONFIG))(params, jnp.asarray(tokens))[0]
    assert np.abs(found - plain).max() > 0.1
    np.testing.assert_allclose(found, truth, atol=3e-5)
