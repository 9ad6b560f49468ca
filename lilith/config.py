"""Experiment configuration: frozen dataclasses, dotted overrides, JSON.

An experiment is one :class:`ExperimentConfig`. A file in ``configs/`` builds it, ``--set a.b=c``
changes it, and every run writes the resolved one as JSON, from which the same run can start.
Every mistake a person can make here ends in a :class:`ConfigError` that names the field, what was
given and what is expected.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from lilith.errors import ConfigError as ConfigError
from lilith.errors import UserError as UserError
from lilith.errors import nearest as nearest
from lilith.errors import require as _require
from lilith.errors import require_choice as _require_choice

DTYPES = ("float32", "bfloat16", "float16", "float64")
ATTENTION_IMPLEMENTATIONS = ("auto", "reference", "xla", "blocked", "splash", "cudnn")
REMAT_POLICIES = ("none", "dots", "attention", "full", "offload")  # from most kept to least
OPTIMIZERS = ("adamw", "adafactor", "lion", "muon")
SCHEDULES = ("constant", "cosine", "linear", "wsd")
TOKENIZER_KINDS = ("sentencepiece", "huggingface", "bytes")
SOURCE_KINDS = (
    "stdlib",
    "package_docs",
    "code",
    "text",
    "jsonl",
    "array_record",
    "tfds",
)


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts longer than the model was trained on."""

    kind: str = "none"  # none, linear, llama3, yarn
    factor: float = 1.0
    original_context: int = 0
    low_frequency_factor: float = 1.0  # llama3
    high_frequency_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float | None = None  # yarn; None: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        _require_choice("rope_scaling.kind", self.kind, ("none", "linear", "llama3", "yarn"))
        _require(self.factor >= 1.0, f"rope_scaling.factor is {self.factor}; it must be >= 1")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer. Sizes are counts; ``context`` is in tokens."""

    layers: int = 2
    d_model: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None  # None: d_model / heads
    d_ff: int = 176
    vocab: int = 512
    context: int = 128
    rope_base: float = 10_000.0
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    logit_softcap: float = 0.0  # 0: off; else logits = cap * tanh(logits / cap)
    attention_pattern: tuple[str, ...] = ("global",)  # repeated over the layers: global, window
    window: int = 1024  # tokens seen by a "window" layer
    attention: str = "auto"
    attention_block: int = 0  # tokens that the splash kernel takes at a time; 0: up to 512
    remat: str = "none"
    scan_layers: bool = True
    compute_dtype: str = "bfloat16"
    param_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in (
            "layers",
            "d_model",
            "heads",
            "kv_heads",
            "d_ff",
            "vocab",
            "context",
            "window",
        ):
            value = getattr(self, name)
            _require(value > 0, f"model.{name} is {value}; it must be positive")
        _require(
            self.heads % self.kv_heads == 0,
            f"model.heads is {self.heads}, which model.kv_heads ({self.kv_heads}) does not divide; "
            "each key/value head must serve the same number of query heads",
        )
        if self.head_dim is None:
            _require(
                self.d_model % self.heads == 0,
                f"model.d_model is {self.d_model}, which model.heads ({self.heads}) does not "
                "divide; change one of them or set model.head_dim",
            )
        _require(
            self.key_dim > 0 and self.key_dim % 2 == 0,
            f"the width of a head is {self.key_dim}; rotary positions need a positive even number",
        )
        _require(self.logit_softcap >= 0, "model.logit_softcap must be 0 (off) or positive")
        _require(len(self.attention_pattern) > 0, "model.attention_pattern is empty")
        for kind in self.attention_pattern:
            _require_choice("model.attention_pattern", kind, ("global", "window"))
        _require_choice("model.attention", self.attention, ATTENTION_IMPLEMENTATIONS)
        _require(
            self.attention_block >= 0 and self.attention_block % 128 == 0,
            f"model.attention_block is {self.attention_block}; it must be a multiple of 128, or 0",
        )
        _require_choice("model.remat", self.remat, REMAT_POLICIES)
        _require_choice("model.compute_dtype", self.compute_dtype, DTYPES)
        _require_choice("model.param_dtype", self.param_dtype, DTYPES)

    @property
    def key_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads if self.head_dim is None else self.head_dim


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer. With an empty ``path`` a SentencePiece model is trained on the corpus."""

    kind: str = "sentencepiece"
    path: str = ""
    vocab: int = 4096
    algorithm: str = "bpe"  # bpe, unigram (SentencePiece)
    train_megabytes: float = 8.0  # how much text the training sees, sampled from the corpus

    def __post_init__(self) -> None:
        _require_choice("tokenizer.kind", self.kind, TOKENIZER_KINDS)
        _require_choice("tokenizer.algorithm", self.algorithm, ("bpe", "unigram"))
        _require(self.vocab > 0, f"tokenizer.vocab is {self.vocab}; it must be positive")
        _require(
            self.train_megabytes > 0,
            f"tokenizer.train_megabytes is {self.train_megabytes}; it must be positive",
        )
        _require(
            self.kind != "huggingface" or bool(self.path),
            "tokenizer.kind is 'huggingface', which needs tokenizer.path (a tokenizer.json)",
        )


@dataclass(frozen=True)
class SourceConfig:
    """One source of documents. ``path`` may be a file, a folder, a glob, or a TFDS builder name."""

    name: str = "python"
    kind: str = "stdlib"
    path: str = ""
    weight: float = 1.0
    languages: tuple[str, ...] = ()  # code: python, javascript, java, cpp, go, rust; (): all
    text_field: str = "text"  # jsonl, tfds, array_record: which field holds the document
    split: str = "train"  # tfds
    optional: bool = False  # an absent optional source is left out, and the log says so
    max_megabytes: float | None = None  # read at most this much text; None: all

    def __post_init__(self) -> None:
        _require_choice(f"data source {self.name!r}: kind", self.kind, SOURCE_KINDS)
        _require(
            math.isfinite(self.weight) and self.weight > 0,
            f"data source {self.name!r}: weight is {self.weight}; it must be a positive number",
        )
        _require(
            self.kind in ("stdlib", "package_docs") or bool(self.path),
            f"data source {self.name!r} of kind {self.kind!r} needs a path",
        )


def default_sources() -> tuple[SourceConfig, ...]:
    """The corpus every machine has: the interpreter's own library and its packages' documents."""
    return (
        SourceConfig(name="stdlib", kind="stdlib", weight=0.9),
        SourceConfig(name="package_docs", kind="package_docs", weight=0.1),
    )


@dataclass(frozen=True)
class DataConfig:
    """What is read and how it becomes rows of tokens."""

    sources: tuple[SourceConfig, ...] = field(default_factory=default_sources)
    length: int = 128  # tokens a row
    validation_fraction: float = 0.01  # of documents, by content hash
    validation_kilobytes: int = 512  # at most this much text is kept for validation
    max_document_kilobytes: int = 1024  # longer code is skipped as generated, longer text is cut
    epochs: float = 0.0  # passes over all rows, which then set train.steps; 0: train.steps counts
    workers: int = 0  # reading processes beside the training one
    cache: str = ""  # where tokenised corpora are kept; "": under the run's folder

    def __post_init__(self) -> None:
        _require(len(self.sources) > 0, "data.sources is empty: name at least one source")
        names = [source.name for source in self.sources]
        _require(
            len(set(names)) == len(names), f"data.sources has two sources of one name: {names}"
        )
        _require(self.length >= 2, f"data.length is {self.length}; a row needs at least 2 tokens")
        _require(
            0.0 < self.validation_fraction < 1.0,
            f"data.validation_fraction is {self.validation_fraction}; it must be between 0 and 1",
        )
        _require(
            self.validation_kilobytes > 0 and self.max_document_kilobytes > 0,
            "data.validation_kilobytes and data.max_document_kilobytes must be positive",
        )
        _require(self.workers >= 0, f"data.workers is {self.workers}; it must be 0 or more")
        _require(0 <= self.epochs < math.inf, f"data.epochs is {self.epochs}; it must be 0 or more")


@dataclass(frozen=True)
class MeshConfig:
    """How many devices along each mesh axis. One axis may be -1: all devices that are left."""

    data: int = 1
    fsdp: int = -1
    context: int = 1
    tensor: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        bad = {name: size for name, size in sizes.items() if size == 0 or size < -1}
        _require(not bad, f"mesh sizes must be positive or -1 (all that are left); got {bad}")
        free = [name for name, size in sizes.items() if size == -1]
        _require(
            len(free) <= 1, f"mesh axes {free} are all -1; only one can take what is left over"
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its schedule. ``steps`` of the schedule are ``train.steps``."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 100
    decay_fraction: float = 0.2  # wsd: the last share of the run, spent decaying
    final_fraction: float = 0.1  # of learning_rate, at the end of the decay
    weight_decay: float = 0.1
    no_decay: tuple[str, ...] = ("norm", "bias")  # regular expressions over paths
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0  # 0: off
    state_dtype: str = "float32"  # float32, bfloat16, int8 (in blocks)
    rounding: str = "nearest"  # of bfloat16 weights: nearest, stochastic
    offload: bool = False  # the state waits in the host's memory between steps

    def __post_init__(self) -> None:
        _require_choice("optimizer.name", self.name, OPTIMIZERS)
        _require_choice("optimizer.schedule", self.schedule, SCHEDULES)
        # Adafactor's factored moments are too small to gain from blocks of int8.
        kinds = ("float32", "bfloat16") + (() if self.name == "adafactor" else ("int8",))
        _require_choice(f"optimizer.state_dtype of {self.name}", self.state_dtype, kinds)
        _require_choice("optimizer.rounding", self.rounding, ("nearest", "stochastic"))
        _require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"optimizer.learning_rate is {self.learning_rate}; it must be a positive number",
        )
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps must be 0 or more")
        for name in ("decay_fraction", "final_fraction"):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, f"optimizer.{name} is {value}; it must be in [0, 1]")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            _require(0.0 <= value < 1.0, f"optimizer.{name} is {value}; it must be in [0, 1)")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            _require(value >= 0, f"optimizer.{name} is {value}; it must be 0 or more")
        _require(self.eps > 0, f"optimizer.eps is {self.eps}; it must be positive")


@dataclass(frozen=True)
class TrainConfig:
    """The loop: how long, how much at once, what to look at on the way."""

    steps: int = 100
    batch: int = 8  # rows a step, over all devices and hosts
    accumulation: int = 1  # micro-batches a step
    z_loss: float = 0.0  # weight of log(Z)^2
    loss_chunk: int = 1024  # tokens whose logits exist at one time
    log_every: int = 10
    eval_every: int = 100
    eval_rows: int = 64  # rows of the quick evaluation during training; the last one is whole
    sample_every: int = 100  # 0: never
    sample_prompts: tuple[str, ...] = ("def ",)
    sample_tokens: int = 64
    sample_temperature: float = 0.8
    max_bad_steps: int = 10  # consecutive non-finite steps after which the run stops
    hang_seconds: float = 3600.0  # for a step, an evaluation or a save; 0: no limit
    check_replicas_every: int = 0  # steps; are the state's copies on all devices equal? 0: never
    overlap: bool = False  # compile steps with the options of lilith/pods/overlap_flags.py

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "accumulation",
            "loss_chunk",
            "log_every",
            "eval_every",
            "eval_rows",
            "sample_tokens",
            "max_bad_steps",
        ):
            value = getattr(self, name)
            _require(value > 0, f"train.{name} is {value}; it must be positive")
        _require(self.sample_every >= 0, "train.sample_every must be 0 (never) or positive")
        _require(
            0 <= self.hang_seconds < math.inf,
            f"train.hang_seconds is {self.hang_seconds}; it must be 0 (never) or positive",
        )
        _require(
            self.check_replicas_every >= 0,
            f"train.check_replicas_every is {self.check_replicas_every}; it must be 0 (never) or "
            "positive",
        )
        _require(self.z_loss >= 0, "train.z_loss must be 0 or more")
        _require(self.sample_temperature >= 0, "train.sample_temperature must be 0 or more")
        _require(
            self.batch % self.accumulation == 0,
            f"train.batch is {self.batch}, which train.accumulation ({self.accumulation}) does "
            "not divide",
        )


@dataclass(frozen=True)
class CheckpointConfig:
    """When training state is saved, and which saves are kept."""

    every: int = 100  # steps
    keep: int = 2  # the newest
    keep_best: int = 1  # by validation loss
    # Train on while a save is written. A kill then loses the steps of that time besides `every`.
    overlap: bool = False
    bucket: str = ""  # gs://BUCKET/RUN keeps checkpoints, and copies of the run's other files

    def __post_init__(self) -> None:
        _require(self.every > 0, f"checkpoint.every is {self.every}; it must be positive")
        _require(self.keep > 0, f"checkpoint.keep is {self.keep}; at least one must be kept")
        _require(self.keep_best >= 0, "checkpoint.keep_best must be 0 or more")


def profiled_steps(text: str) -> tuple[int, int] | None:
    """The first and the last step of ``first:last``, both traced; None for an empty text.

    Raises:
      ConfigError: it is not of this form, or no step is in it.
    """
    if not text:
        return None
    first, _, last = text.partition(":")
    _require(
        first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last),
        f"profile is {text!r}; it must be FIRST:LAST with 1 <= FIRST <= LAST, such as 10:13",
    )
    return int(first), int(last)


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything a run depends on. ``stage`` picks the runner in ``experiments/``."""

    name: str = "unnamed"
    stage: str = "pretrain"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    profile: str = ""  # FIRST:LAST, the steps that are traced; "": none

    def __post_init__(self) -> None:
        _require(bool(self.name), "name is empty")
        profiled_steps(self.profile)
        _require(
            self.data.length <= self.model.context,
            f"data.length is {self.data.length}, longer than model.context "
            f"({self.model.context}); shorten the rows or lengthen the context",
        )
