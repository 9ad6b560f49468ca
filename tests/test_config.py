"""Configs: overrides, JSON, and errors that name the field."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilith.config import ConfigError, DataConfig, ExperimentConfig, ModelConfig, SourceConfig
from lilith.config_parsing import apply_overrides, from_dict, from_json, to_dict, to_json
from lilith.model.presets import PRESETS

CONFIG = ExperimentConfig(name="test")


def changed(*assignments):
    return apply_overrides(CONFIG, assignments, {"model": PRESETS})


def test_overrides_take_the_type_of_their_field():
    config = changed(
        "model.layers=4", "optimizer.learning_rate=3e-4", "model.scan_layers=false", "name=other",
        "model.attention_pattern=window,global", "model.head_dim=32", "data.sources.1.weight=2",
        'train.sample_prompts=["a, b", "c"]', "optimizer.clip_norm=1",
    )  # fmt: skip
    assert config.model.layers == 4
    assert config.optimizer.learning_rate == 3e-4
    assert config.model.scan_layers is False
    assert config.name == "other"
    assert config.model.attention_pattern == ("window", "global")
    assert config.model.key_dim == 32
    assert config.data.sources[1].weight == 2.0
    assert config.train.sample_prompts == ("a, b", "c")
    assert isinstance(config.optimizer.clip_norm, float)
    assert changed("model.head_dim=32", "model.head_dim=none").model.head_dim is None
    assert CONFIG.model.layers == 2  # the original is untouched


def test_a_preset_is_a_section_that_later_overrides_change():
    config = changed("model=7b", "model.layers=2")
    assert config.model == dataclasses.replace(PRESETS["7b"], layers=2)


def test_states_between_two_overrides_are_not_checked():
    assert changed("model.heads=6", "model.d_model=96").model.key_dim == 16


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.layer=4", r"unknown key 'model.layer' \(did you mean 'layers'\?\)"),
        ("optimzer.name=lion", r"unknown key 'optimzer' \(did you mean 'optimizer'\?\)"),
        ("model.layers=four", "model.layers is 'four'; expected a whole number"),
        ("model.layers=4.5", "expected a whole number"),
        ("optimizer.learning_rate=fast", "expected a number"),
        ("model.scan_layers=1", "expected true or false"),
        ("model=7c", r"did you mean '7b'\?"),
        ("model.layers.x=1", "model.layers is a whole number and has no field 'x'"),
        ("data=3", "data is a section; set one of its fields"),
        ("data.sources.9.weight=1", "has 2 entries, numbered from 0"),
        ("train.sample_prompts=[1", "not valid JSON"),
        ("train.sample_prompts=[1]", r"train.sample_prompts.0 is 1; expected text"),
        ("layers", "not of the form key=value"),
        ("optimizer.name=adam", r"did you mean 'adamw'\?"),
        ("model.heads=3", "which model.kv_heads"),
        ("model.d_model=63", "does not divide"),
        ("model.head_dim=7", "positive even number"),
        ("data.length=1000", "longer than model.context"),
        ("mesh.data=-1", "only one can take what is left over"),
        ("mesh.data=0", "must be positive or -1"),
        ("train.accumulation=3", "does not divide"),
        ("train.steps=0", "must be positive"),
        ("optimizer.b2=1", r"must be in \[0, 1\)"),
        ("optimizer.learning_rate=nan", "must be a positive number"),
        ("data.validation_fraction=1", "between 0 and 1"),
        ("checkpoint.keep=0", "at least one must be kept"),
        ("tokenizer.kind=huggingface", "needs tokenizer.path"),
        ("model.rope_scaling.factor=0.5", "must be >= 1"),
    ],
)
def test_a_mistake_is_a_sentence(assignment, words):
    with pytest.raises(ConfigError, match=words):
        changed(assignment)


def test_sources_are_checked():
    with pytest.raises(ConfigError, match="needs a path"):
        SourceConfig(name="mine", kind="text")
    with pytest.raises(ConfigError, match="two sources of one name"):
        DataConfig(sources=(SourceConfig(), SourceConfig()))
    with pytest.raises(ConfigError, match=r"did you mean 'jsonl'"):
        SourceConfig(kind="json", path="x")


def test_json_round_trip_and_its_errors():
    config = changed("model=13b", "model.attention_pattern=window,global", "data.workers=2")
    assert from_json(ExperimentConfig, to_json(config)) == config
    assert json.loads(to_json(config)) == to_dict(config)
    with pytest.raises(ConfigError, match="not valid JSON"):
        from_json(ExperimentConfig, "{")
    with pytest.raises(ConfigError, match=r"unknown key 'model.depth'"):
        from_dict(ExperimentConfig, {"model": {"depth": 3}})
    with pytest.raises(ConfigError, match=r"model.layers is '3'; expected a whole number"):
        from_dict(ExperimentConfig, {"model": {"layers": "3"}})
    with pytest.raises(ConfigError, match="model is 3; expected a section"):
        from_dict(ExperimentConfig, {"model": 3})


@given(
    layers=st.integers(1, 100),
    rate=st.floats(1e-8, 1.0),
    prompts=st.lists(st.text(max_size=20), max_size=3),
)
def test_any_values_survive_json(layers, rate, prompts):
    config = dataclasses.replace(
        CONFIG,
        model=ModelConfig(layers=layers),
        optimizer=dataclasses.replace(CONFIG.optimizer, learning_rate=rate),
        train=dataclasses.replace(CONFIG.train, sample_prompts=tuple(prompts)),
    )
    assert from_json(ExperimentConfig, to_json(config)) == config
