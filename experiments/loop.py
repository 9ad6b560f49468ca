"""The training loop of every stage: restore, step, look, save, stop.

A stage gives a :class:`Stage`; the loop owns the state, the checkpoints, the metrics file and the
signals. Killed at any step and started again, it goes on to the same final bits.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from experiments import hosts
from experiments.goodput import Goodput, start_clock
from experiments.progress import Progress
from experiments.roll_call import RestartError
from experiments.same_data import require_same_data
from experiments.stop_signals import StopSignals
from experiments.tuning_config import LoopConfig
from experiments.watchdog import Watchdog
from lilith.config import ExperimentConfig, UserError, profiled_steps
from lilith.config_parsing import to_json
from lilith.model.estimates import flops_per_token
from lilith.pods.overlap_flags import Options, overlap_options
from lilith.pods.profile import StepProfiler
from lilith.train.checkpoint import Checkpointer
from lilith.train.metrics import (
    MetricsWriter,
    Throughput,
    model_flops_utilization,
    read_metrics,
    total_peak_flops,
)
from lilith.train.optimizer import make_optimizer, make_schedule
from lilith.train.replicas import replica_difference
from lilith.train.state import (
    TrainState,
    abstract_state,
    abstract_state_of,
    init_state,
    place_state,
    put_batch,
)
from lilith.train.step import LossFunction, train_step


class TrainingError(UserError):
    """Training can not go on: the loss stays non-finite, or the batches teach nothing."""


class BatchIterator(Protocol):
    """Batches in a fixed order, with a position that can be saved."""

    def __next__(self) -> dict[str, np.ndarray]:
        """This process's rows of the next global batch."""

    def state(self) -> dict[str, Any]:
        """The position, as JSON values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back (or on) to a saved position."""


@dataclass(frozen=True)
class Stage:
    """What a stage hands to the loop.

    Attributes:
      evaluate: (params, whole) -> named figures; ``validation_loss`` picks the best checkpoint.
      sample: (params, step) shows what the model writes; None never samples.
      start: makes the first parameters, in their places on the mesh; None: fresh ones of
        ``config.model``.
      target: their shapes, dtypes and shardings, where there is a ``start``.
      frozen: weights that the loss reads and nothing trains.
      draws: the loss draws random numbers.
      put: puts a process's rows on the mesh as the global batch that the loss reads.
      rows_each: rows of ``config.data.length`` tokens in one of the batch's entries: two in a pair.
    """

    config: ExperimentConfig | LoopConfig
    workdir: pathlib.Path
    mesh: Mesh
    loss: LossFunction
    batches: BatchIterator
    evaluate: Callable[[Any, bool], dict[str, float]]
    sample: Callable[[Any, int], str] | None
    tokenizer_directory: pathlib.Path
    start: Callable[[], Any] | None = None
    target: Any = None
    frozen: Any = None
    draws: bool = False
    put: Callable[[dict[str, np.ndarray], Mesh], Any] = put_batch
    rows_each: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a call of :func:`train` ended."""

    state: TrainState
    step: int
    finished: bool
    signal: int | None = None  # that asked for the stop


def train(stage: Stage, progress: Progress, checkpointer: Checkpointer) -> Outcome:
    """Train to ``config.train.steps``, from the newest checkpoint if there is one.

    Raises:
      TrainingError: too many non-finite steps in a row, or a batch without trained tokens.
      UserError: the hosts have prepared different data.
      RestartError: copies of the state on several devices differ.
      CheckpointError, DataError: what they say.
    """
    with Watchdog(stage.config.train.hang_seconds) as watchdog:
        outcome = _train(stage, progress, checkpointer, watchdog)
    start_clock()  # of the next training in this process, if there is one
    return outcome


def _train(
    stage: Stage, progress: Progress, checkpointer: Checkpointer, watchdog: Watchdog
) -> Outcome:
    config = stage.config
    watchdog.working("restoring or making the first state")
    require_same_data(stage.batches.state())
    code = hosts.RESTART if config.checkpoint.bucket else 2
    checkpointer.on_failure = partial(hosts.fail_soon, code=code)
    optimizer = make_optimizer(config.optimizer, config.train.steps, config.seed)
    state, start = _restore_or_init(stage, optimizer, checkpointer, progress)
    options = overlap_options(stage.mesh) if config.train.overlap else {}
    step_function = jitted_step(config, stage.loss, optimizer, draws=stage.draws, options=options)
    loop = _Loop(stage, progress, checkpointer, watchdog, start)
    profiler = StepProfiler(
        profiled_steps(config.profile), stage.workdir / "profile", progress.message
    )
    with StopSignals().watch() as signals, jax.set_mesh(stage.mesh), loop, profiler:
        step = start
        if start >= config.train.steps:  # stopped before the last evaluation, or made shorter
            loop.look(start, state)
        while step < config.train.steps:
            watchdog.working(f"reading the batch of step {step + 1}")
            batch = stage.put(next(stage.batches), stage.mesh)
            watchdog.working(f"step {step + 1}")
            profiler.before(step + 1, state)
            with jax.transfer_guard("disallow"):
                state, figures = step_function(state, batch, stage.frozen)
            step += 1
            if profiler.ends_with(step):
                profiler.end(step, figures, step_function.lower(state, batch, stage.frozen))
            loop.note(step, figures)
            loop.look(step, state)
            if signals.stop_after(step):
                loop.flush()
                loop.save(step, state, None)
                checkpointer.wait()
                loop.note_health(step)
                return Outcome(state, step, step == config.train.steps, signals.received)
        loop.flush()
        checkpointer.wait()
    return Outcome(state, step, True)


def jitted_step(
    config: ExperimentConfig | LoopConfig,
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    draws: bool = False,
    options: Options | None = None,
) -> Any:
    """The training step of a config, jitted: (state, batch, frozen) -> (state, metrics).

    Args:
      draws: the loss draws random numbers.
      options: of the compiler.
    """
    return jax.jit(
        partial(
            train_step,
            loss=loss,
            optimizer=optimizer,
            accumulation=config.train.accumulation,
            clip_norm=config.optimizer.clip_norm,
            seed=config.seed if draws else None,
        ),
        donate_argnums=0,
        compiler_options=options or None,
    )


def _restore_or_init(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    checkpointer: Checkpointer,
    progress: Progress,
) -> tuple[TrainState, int]:
    config = stage.config
    if checkpointer.latest_step() is None:
        if stage.start is not None:
            return place_state(stage.start(), optimizer, stage.mesh), 0
        return init_state(config.seed, config.model, optimizer, stage.mesh), 0
    if stage.target is not None:
        target = abstract_state_of(stage.target, optimizer, stage.mesh)
    else:
        target = abstract_state(config.model, optimizer, stage.mesh)
    restored = checkpointer.restore(target)
    for warning in restored.warnings:
        progress.message(f"warning: {warning}")
    stage.batches.restore(dict(restored.info.data_state))
    progress.message(f"resumed from the checkpoint of step {restored.step}")
    return restored.state, restored.step


class _Loop:
    """What happens around the steps: figures, evaluations, samples, saves."""

    def __init__(
        self,
        stage: Stage,
        progress: Progress,
        checkpointer: Checkpointer,
        watchdog: Watchdog,
        start: int,
    ) -> None:
        config = stage.config
        self.stage, self.progress, self.checkpointer = stage, progress, checkpointer
        self.watchdog, self.hosts = watchdog, hosts.current()
        self.config_json = to_json(config)
        self.schedule = make_schedule(config.optimizer, config.train.steps)
        self.metrics: MetricsWriter | None = None  # the first process writes for all
        self.goodput = Goodput([], start)
        if jax.process_index() == 0:
            path = stage.workdir / "metrics.jsonl"
            self.goodput = Goodput(read_metrics(path), start)
            self.metrics = MetricsWriter(path)
            self.metrics.resume(start)
        self.throughput = Throughput()
        self.tokens_per_step = config.train.batch * config.data.length * stage.rows_each
        self.flops = flops_per_token(config.model, config.data.length).causal
        if stage.frozen is not None:  # below an adapter no weight has a gradient of its own
            self.flops *= 2 / 3
        self.peak, _ = total_peak_flops(list(stage.mesh.devices.flat), config.model.compute_dtype)
        self.began = time.perf_counter()
        self.pending: tuple[int, dict[str, jax.Array]] | None = None

    def __enter__(self) -> _Loop:
        return self

    def __exit__(self, *error: object) -> None:
        if self.metrics is not None:
            self.metrics.close()

    def note(self, step: int, figures: dict[str, jax.Array]) -> None:
        """Take a step's figures; they are read one step later, while the next one runs."""
        self.flush()
        self.pending = step, figures

    def flush(self) -> None:
        """Read, check, show and write the figures of the last noted step."""
        if self.pending is None:
            return
        step, arrays = self.pending
        self.pending = None
        figures = {name: float(value) for name, value in jax.device_get(arrays).items()}
        rate = self.throughput.update(self.tokens_per_step)
        self.goodput.step()
        self._check(step, figures)
        shown: dict[str, Any] = {"loss": figures["loss"]}
        if rate is not None:
            figures["tokens_per_second"] = shown["tokens_per_second"] = rate
            figures["mfu"] = shown["mfu"] = model_flops_utilization(self.flops, rate, self.peak)
        logs = step % self.stage.config.train.log_every == 0
        if logs:
            self._compare(f"step {step}", figures, ("loss", "gradient_norm"))
        if logs and self.metrics is not None:
            with self.throughput.paused():  # the first call of the schedule compiles
                figures["learning_rate"] = float(self.schedule(step - 1))
            self.metrics.write(step, **figures, **self._health())
        self.progress.update(step, **shown)

    def _check(self, step: int, figures: dict[str, float]) -> None:
        if figures["tokens"] == 0:
            raise TrainingError(
                f"the batch of step {step} has no trained token (its loss mask is all zero); "
                "check the data and the template that marks what is trained"
            )
        limit = self.stage.config.train.max_bad_steps
        if figures["bad_in_a_row"]:
            self.progress.message(
                f"step {step} skipped: loss {figures['loss']}, gradient norm "
                f"{figures['gradient_norm']} ({figures['bad_in_a_row']:.0f} in a row)"
            )
        if figures["bad_in_a_row"] >= limit:
            last = self.checkpointer.latest_step()
            raise TrainingError(
                f"stopped at step {step}: {limit} steps in a row had a loss or gradient that is "
                f"not finite (loss {figures['loss']}); the last checkpoint is of step {last}; "
                "lower optimizer.learning_rate, set optimizer.clip_norm, or look at the data"
            )

    def _compare(self, what: str, figures: dict[str, float], names: Iterable[str]) -> None:
        """Say which hosts see other figures than the first; all should see the same bits."""
        if self.hosts is None:
            return
        self.hosts.compare(what, ", ".join(f"{name} {float(figures[name])!r}" for name in names))
        for words in self.hosts.differences():
            self.progress.message(f"warning: {words}")

    def _health(self) -> dict[str, float]:
        """Goodput; and with other processes, seconds since the most silent one's heartbeat."""
        beats = {} if self.hosts is None else {"heartbeat_age": self.hosts.heartbeat_age()}
        return self.goodput.figures() | beats

    def note_health(self, step: int) -> None:
        """Write how well the time was used up to ``step``, of which nothing else is written."""
        if self.metrics is not None:
            self.metrics.write(step, **self._health())

    def look(self, step: int, state: TrainState) -> None:
        """Evaluate, sample and save where this step asks for it."""
        config = self.stage.config
        last = step >= config.train.steps
        saves = last or step % config.checkpoint.every == 0
        checks = config.train.check_replicas_every
        if checks and step % checks == 0 and not saves:
            self.flush()
            with self.throughput.paused(), self.goodput.paused():
                self._check_replicas(step, state)
        samples = config.train.sample_every and (last or step % config.train.sample_every == 0)
        if not (saves or samples or step % config.train.eval_every == 0):
            return
        self.flush()
        with self.throughput.paused(), self.goodput.paused():
            loss = None
            if saves or step % config.train.eval_every == 0:
                loss = self._evaluate(step, state, whole=last)
            if saves:
                self.save(step, state, loss)
            if samples and self.stage.sample is not None:
                self.watchdog.working(f"the samples after step {step}")
                text = self.stage.sample(state.params, step)
                self.progress.message(text)
            if saves and not config.checkpoint.overlap:
                self.watchdog.working(f"saving step {step}")
                self.checkpointer.wait()

    def _evaluate(self, step: int, state: TrainState, whole: bool) -> float:
        self.watchdog.working(f"the evaluation after step {step}")
        figures = self.stage.evaluate(state.params, whole)
        self._compare(f"the evaluation after step {step}", figures, figures)
        if self.metrics is not None:
            seconds = time.perf_counter() - self.began
            figures_of_time = {"seconds": seconds} | self._health()
            self.metrics.write(step, whole_validation=whole, **figures_of_time, **figures)
        words = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items()
        )
        self.progress.message(f"step {step}: {words}")
        return figures["validation_loss"]

    def save(self, step: int, state: TrainState, validation_loss: float | None) -> None:
        """Save the state and all that goes with it."""
        self.watchdog.working(f"saving step {step}")
        if self.stage.config.train.check_replicas_every:
            self._check_replicas(step, state)
        self.checkpointer.save(
            step,
            state,
            data_state=self.stage.batches.state(),
            config_json=self.config_json,
            tokenizer_directory=self.stage.tokenizer_directory,
            validation_loss=validation_loss,
        )

    def _check_replicas(self, step: int, state: TrainState) -> None:
        """Compare all copies of the state; what is wrong must not be saved."""
        name = "process {}".format if self.hosts is None else self.hosts.name
        self.watchdog.working(f"comparing the copies of the state after step {step}")
        difference = replica_difference(state, self.stage.mesh, name)
        if difference is not None:
            raise RestartError(
                f"silent data corruption at step {step}: {difference}; the same command goes on "
                f"from the last checkpoint (step {self.checkpointer.latest_step()}), and a device "
                "that is named again should be replaced"
            )
