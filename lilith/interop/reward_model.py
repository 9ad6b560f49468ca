"""Reward models in a folder: saved with the scale of their scores, loaded, and asked for scores."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lilith.config import ConfigError, ModelConfig, UserError
from lilith.config_parsing import from_dict
from lilith.inference.sampler import pad_prompts
from lilith.interop.load import load_model, merge_adapters
from lilith.model.params import Params, abstract_from_specs, flatten, model_specs
from lilith.sharding import DEFAULT_RULES, ShardingRules
from lilith.tokenizer import Tokenizer
from lilith.train.lora import lora_specs
from lilith.train.lora_config import LoraConfig
from lilith.train.metrics import write_atomically
from lilith.train.reward import head_specs, reward_scores

_WEIGHTS, _DESCRIPTION = "reward.safetensors", "reward.json"
_SIZES = ("layers", "d_model", "heads", "kv_heads", "d_ff", "vocab")
BUCKET = 64  # rows are padded to this length times a power of two: few programs are compiled

Loaded = tuple[Params, ModelConfig, Tokenizer]


class RewardModelError(UserError):
    """A reward model that can not be read, or a conversation that it can not score."""


@dataclass(frozen=True)
class RewardDescription:
    """What a reward model's folder says of it.

    Attributes:
      base: the model that it was trained from, as ``load_checkpoint`` takes it.
      adapters: folders of adapters that were merged into the base first.
      lora: of its adapter; rank 0: it has weights of its own.
      model: the sizes that the base must have.
      mean, deviation: of its raw scores on the reference responses.
      chat_template: that its conversations are rendered by, Jinja.
    """

    base: str
    adapters: tuple[str, ...]
    lora: LoraConfig
    model: dict[str, int]
    mean: float
    deviation: float
    chat_template: str | None


def save_reward_model(
    folder: pathlib.Path,
    params: Params,
    *,
    base: str,
    lora: LoraConfig,
    config: ModelConfig,
    mean: float,
    deviation: float,
    adapters: Sequence[str] = (),
    chat_template: str | None = None,
) -> None:
    """Write ``reward.safetensors`` (head and adapter, or all weights) and ``reward.json``.

    Args:
      params: ``{"model", "head"}`` as trained.
      base, lora, mean, deviation, adapters, chat_template: see :class:`RewardDescription`.
      config: of the base.

    Raises:
      RewardModelError: mean or deviation can not normalise scores.
    """
    if not math.isfinite(mean) or not (math.isfinite(deviation) and deviation > 0):
        raise RewardModelError(
            f"scores can not be normalised by mean {mean} and deviation {deviation}; look at the "
            "scores of the reference responses"
        )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_WEIGHTS}.partial"
    save_file({path: np.asarray(x) for path, x in flatten(params).items()}, unfinished)
    unfinished.replace(folder / _WEIGHTS)
    sizes = {name: getattr(config, name) for name in _SIZES}
    about = RewardDescription(base, tuple(adapters), lora, sizes, mean, deviation, chat_template)
    write_atomically(folder / _DESCRIPTION, json.dumps(dataclasses.asdict(about), indent=2) + "\n")


def read_reward_description(folder: pathlib.Path) -> RewardDescription:
    """What :func:`save_reward_model` wrote beside the weights.

    Raises:
      RewardModelError: the folder holds no reward model, or not a whole one.
    """
    path = folder / _DESCRIPTION
    try:
        about = json.loads(path.read_text())
        template = about["chat_template"]
        found = RewardDescription(
            base=str(about["base"]),
            adapters=tuple(about["adapters"]),
            lora=from_dict(LoraConfig, about["lora"], "lora"),
            model={name: int(about["model"][name]) for name in _SIZES},
            mean=float(about["mean"]),
            deviation=float(about["deviation"]),
            chat_template=None if template is None else str(template),
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise RewardModelError(
            f"{path} can not be read as the description of a reward model "
            f"({type(error).__name__}: {error}); copy the folder whole, or train again"
        ) from None
    if not math.isfinite(found.mean) or not (math.isfinite(found.deviation) and found.deviation):
        raise RewardModelError(
            f"{path} says mean {found.mean} and deviation {found.deviation}, which normalise "
            "nothing; train again"
        )
    return found


def load_reward_model(
    folder: pathlib.Path | str,
    *,
    mesh: Mesh | None = None,
    rules: ShardingRules = DEFAULT_RULES,
    dtype: str | None = None,
    loaded: Loaded | None = None,
    batch: int = 8,
) -> RewardModel:
    """A reward model, as :func:`save_reward_model` wrote it, over its base.

    Args:
      mesh: devices to spread the weights over by ``rules``; None: the default device.
      dtype: the type that the base is kept and computed in. None: float32 on a CPU, elsewhere as
        stored. Scores are float32 in any case.
      loaded: stacked weights, config and tokenizer of the base (its adapters merged) where they
        are in memory already; an adapter is then put over these very arrays.
      batch: conversations scored together; raised to a multiple of what the mesh splits them by.

    Raises:
      RewardModelError: the folder holds no whole reward model, or the base has other sizes.
      UserError: the base can not be loaded.
    """
    folder = pathlib.Path(folder).expanduser()
    about = read_reward_description(folder)
    if loaded is None:
        platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
        if dtype is None and platform == "cpu":
            dtype = "float32"
        params, config, tokenizer, _ = load_model(
            about.base, mesh=mesh, rules=rules, dtype=dtype, layered=False
        )
        params = merge_adapters(params, config, about.adapters)
    else:
        params, config, tokenizer = loaded
    for name, size in about.model.items():
        if getattr(config, name) != size:
            raise RewardModelError(
                f"the reward model {folder} was made for {about.base!r} with {name} = {size}, and "
                f"this model has {name} = {getattr(config, name)}; load it over the model it was "
                "made for"
            )
    model = lora_specs(config, about.lora) if about.lora.rank else model_specs(config)
    specs = {"model": model, "head": head_specs(config)}
    trained = _read_weights(folder / _WEIGHTS, abstract_from_specs(specs, jnp.float32, mesh, rules))
    frozen = params if about.lora.rank else None
    if mesh is not None:
        shards = math.prod(mesh.shape[axis] for axis in rules.batch)
        batch = -(-batch // shards) * shards
    return RewardModel(trained, frozen, config, tokenizer, about, mesh, rules, batch)


def _read_weights(path: pathlib.Path, target: Params) -> Params:
    """The arrays of ``path``, which must be those of ``target``, in their places."""
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RewardModelError(f"{path} can not be read ({error}); copy the folder whole") from None
    wanted = flatten(target)
    odd = sorted(
        name
        for name in wanted.keys() | arrays.keys()
        if name not in arrays or name not in wanted or arrays[name].shape != wanted[name].shape
    )
    if odd:
        raise RewardModelError(
            f"{path} does not hold what {_DESCRIPTION} says: {odd[0]} is missing, unknown or of "
            "another shape; copy the folder whole, or train again"
        )
    placed = {
        name: jax.device_put(arrays[name].astype(np.float32), leaf.sharding)
        for name, leaf in wanted.items()
    }
    return traverse_util.unflatten_dict(placed, sep="/")


class RewardModel:
    """Scores finished conversations. Made by :func:`load_reward_model`.

    Attributes:
      trained: ``{"model", "head"}``; frozen: the base below its adapter, None without one.
      config, tokenizer: of the base.
      about: what its folder says, ``mean``, ``deviation`` and ``chat_template`` among it.
    """

    def __init__(
        self,
        trained: Params,
        frozen: Params | None,
        config: ModelConfig,
        tokenizer: Tokenizer,
        about: RewardDescription,
        mesh: Mesh | None = None,
        rules: ShardingRules = DEFAULT_RULES,
        batch: int = 8,
    ) -> None:
        self.trained, self.frozen, self.config = trained, frozen, config
        self.tokenizer, self.about = tokenizer, about
        self._mesh, self._batch = mesh, batch
        self._scores = jax.jit(partial(reward_scores, config=config, lora=about.lora, rules=rules))

    def score(
        self,
        conversations: Iterable[Any],
        render: Callable[[Any], Sequence[int]] | None = None,
    ) -> np.ndarray:
        """Scores of whole conversations, float32 [n], of mean 0 and deviation 1 on the reference
        responses.

        Args:
          conversations: token ids of each, up to the end of the last answer's turn (no white space
            after it); or anything that ``render`` turns into such ids.

        Raises:
          RewardModelError: a conversation is empty, longer than the context, or holds an id
            outside the vocabulary.
        """
        about = self.about
        return (self.raw_scores(conversations, render) - about.mean).astype(
            np.float32
        ) / np.float32(about.deviation)

    def raw_scores(
        self,
        conversations: Iterable[Any],
        render: Callable[[Any], Sequence[int]] | None = None,
    ) -> np.ndarray:
        """What the head says itself, float32 [n]; see :meth:`score`."""
        every = [list(map(int, render(each) if render else each)) for each in conversations]
        for number, ids in enumerate(every):
            self._check(number, ids)
        found = np.zeros(len(every), np.float32)
        order = sorted(range(len(every)), key=lambda i: len(every[i]))
        for first in range(0, len(order), self._batch):
            mine = order[first : first + self._batch]
            width = self._width(len(every[mine[-1]]))
            rows = [every[i] for i in mine]
            tokens, lengths = pad_prompts(rows, rows=self._batch, bucket=width)
            found[mine] = self._run(tokens, lengths)[: len(mine)]
        return found

    def _run(self, tokens_BT: np.ndarray, length_B: np.ndarray) -> np.ndarray:
        if self._mesh is None:
            return np.asarray(self._scores(self.trained, tokens_BT, length_B, frozen=self.frozen))
        with jax.set_mesh(self._mesh):
            return np.asarray(self._scores(self.trained, tokens_BT, length_B, frozen=self.frozen))

    def _width(self, length: int) -> int:
        """The length that a batch is padded to."""
        width = BUCKET
        while width < length:
            width *= 2
        return max(length, min(width, self.config.context))

    def _check(self, number: int, ids: list[int]) -> None:
        if not ids:
            raise RewardModelError(f"conversation {number} has no tokens, so it has no score")
        if len(ids) > self.config.context:
            raise RewardModelError(
                f"conversation {number} has {len(ids):,} tokens, more than the context of the "
                f"reward model ({self.config.context:,}); shorten it"
            )
        if not (min(ids) >= 0 and max(ids) < self.config.vocab):
            odd = next(i for i in ids if not 0 <= i < self.config.vocab)
            raise RewardModelError(
                f"conversation {number} holds the token {odd}, and the reward model has "
                f"{self.config.vocab:,}; score ids of its own tokenizer"
            )
