"""Traced steps are written for XProf and Perfetto, and summed up by the parts of the model."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from experiments.tuning_config import TuningConfig
from lilith.config import ConfigError, ExperimentConfig, UserError, profiled_steps
from lilith.pods.profile import (
    Operation,
    StepProfiler,
    block_of,
    operation_names,
    read_trace,
    summary,
    where,
)


def loss(weights, x):
    def layer(x, own):
        with jax.named_scope("attention"):
            x = jnp.tanh(x @ own)
        with jax.named_scope("mlp"):
            x = jnp.sin(x @ own @ own)
        return x, None

    return jax.lax.scan(layer, x, weights)[0].sum()


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Steps 3 and 4 of five traced: the folder and what was shown."""
    folder, shown = tmp_path_factory.mktemp("trace") / "profile", []
    step = jax.jit(jax.grad(loss))
    weights, x = jnp.ones((4, 128, 128)), jnp.ones((128, 128))
    figures = None
    with StepProfiler((3, 4), folder, shown.append) as profiler:
        for number in range(1, 6):
            profiler.before(number, figures)
            figures = step(weights, x)
            if profiler.ends_with(number):
                profiler.end(number, figures, step.lower(weights, x))
    return folder, shown


def test_the_trace_has_the_parts_of_the_model(traced):
    folder, shown = traced
    (text,) = shown
    assert text.startswith(f"profile of 2 steps, in {folder}:")
    assert "attention" in text
    assert "mlp" in text
    names = operation_names(jax.jit(jax.grad(loss)).lower(
        jnp.ones((4, 128, 128)), jnp.ones((128, 128))).compile().as_text())  # fmt: skip
    operations = read_trace(folder, names)
    blocks = {own.block for own in operations}
    assert {"attention", "mlp"} <= blocks
    assert any(own.where.startswith("backward ") for own in operations)
    assert operations == sorted(operations, key=lambda own: -own.seconds)
    # Two steps of four layers: what runs once a layer is counted eight times.
    assert 8 in {own.count for own in operations}


def test_perfetto_can_open_it(traced):
    (path,) = traced[0].rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert any("hlo_op" in event.get("args", {}) for event in events)


def test_training_that_stops_within_the_range_ends_the_trace(tmp_path):
    shown = []
    with StepProfiler((1, 9), tmp_path / "profile", shown.append) as profiler:
        profiler.before(1, None)
        assert not profiler.ends_with(1)
    assert shown == [f"the profile in {tmp_path / 'profile'} ends early, with the training"]
    with StepProfiler(None, tmp_path / "none", shown.append) as nothing:
        nothing.before(1, None)
        assert not nothing.ends_with(1)
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_trace_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no trace"):
        read_trace(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "expected", "block"),
    [
        ("jit(step)/jvp(layers)/while/body/attention/dot_general", "attention/dot_general",
         "attention"),
        ("jit(step)/transpose(jvp(layers))/while/body/mlp/dot_general", "backward mlp/dot_general",
         "mlp"),
        ("jit(step)/transpose(jvp(jit(loss)))/reduce_sum", "backward loss/reduce_sum", "loss"),
        ("jit(train_step)/optimizer/mul", "optimizer/mul", "optimizer"),
        ("jit(train_step)/add", "train_step/add", "other"),
        ("", "", "other"),
    ],
)  # fmt: skip
def test_where_an_operation_comes_from(name, expected, block):
    assert (where(name), block_of(name)) == (expected, block)


def test_the_summary_adds_up():
    operations = [
        Operation("dot.1", "attention/dot_general", "attention", 8, 0.006),
        Operation("dot.2", "backward attention/dot_general", "attention", 8, 0.012),
        Operation("add", "add", "other", 2, 0.002),
    ]
    lines = summary(operations, 2, top=2)
    assert lines[0] == "10.00 ms a step in operations"
    assert lines[2].split() == ["attention", "3.00", "6.00", "90%"]
    assert lines[3].split() == ["other", "1.00", "0.00", "10%"]
    assert lines[5].split() == ["3.00", "30%", "4", "dot.1", "attention/dot_general"]
    assert len(lines) == 7


def test_steps_in_words():
    assert profiled_steps("10:13") == (10, 13)
    assert profiled_steps("1:1") == (1, 1)
    assert profiled_steps("") is None
    for text in ("10", "10:", "a:b", "-1:3", "1.5:2", "0:3", "13:10"):
        with pytest.raises(ConfigError, match=f"profile is '{text}'; it must be FIRST:LAST"):
            ExperimentConfig(profile=text)
        with pytest.raises(ConfigError, match="it must be FIRST:LAST"):
            TuningConfig(profile=text)
