"""The published figures agree with the trainer's, and topologies are named in words."""

import re

import pytest

from lilith.config import UserError
from lilith.pods.chips import CHIPS, get_chip
from lilith.pods.topologies import (
    SHAPES,
    compile_only_devices,
    get_topology,
    larger,
    topology_names,
)
from lilith.sharding import ShardingError
from lilith.train.metrics import bfloat16_peak

# What jax calls a device of each chip.
KINDS = {
    "v4": "TPU v4", "v5e": "TPU v5 lite", "v5p": "TPU v5", "v6e": "TPU v6 lite", "tpu7x": "TPU7x",
}  # fmt: skip


@pytest.mark.parametrize("name", CHIPS)
def test_peaks_are_those_that_the_trainer_divides_by(name):
    chip = CHIPS[name]
    assert chip.bf16_flops / chip.devices == bfloat16_peak(KINDS[name])


def test_figures_of_v5p_and_v5e():
    v5p, v5e = get_chip("v5p"), get_chip("v5e")
    assert (v5p.hbm_bytes, v5p.hbm_bandwidth) == (95 * 2**30, 2765e9)
    assert v5p.ici_bandwidth / v5p.ici_links == 100e9  # of a link, one direction
    assert (v5e.hbm_bytes, v5e.hbm_bandwidth, v5e.ici_bandwidth) == (16 * 2**30, 819e9, 200e9)


def test_unknown_chip_names_the_nearest():
    with pytest.raises(ShardingError, match=r"unknown chip 'v5' .*known: v4, v5e, v5p, v6e, tpu7x"):
        get_chip("v5")


def test_shapes_have_the_dimensions_of_their_chip_and_grow():
    for name, shapes in SHAPES.items():
        chips = [get_topology(f"{name}:{shape}").chips for shape in shapes]
        assert {shape.count("x") + 1 for shape in shapes} == {CHIPS[name].dimensions}
        assert chips == sorted(set(chips))
        assert chips[-1] <= CHIPS[name].most_chips


def test_chips_devices_and_slices():
    assert get_topology("v5p:4x4x4").devices == 64
    assert get_topology("v5p:4x4x4", 2).devices == 128
    assert get_topology("tpu7x:2x2x1").devices == 8  # two a chip
    assert str(get_topology("v5e:4x4", 2)) == "v5e:4x4 slices=2"


def test_bandwidth_counts_the_links_that_a_chip_has():
    # 4x4x4: two neighbours a dimension; 2x2x1: one, one, none.
    assert get_topology("v5p:4x4x4").ici_bandwidth == 600e9
    assert get_topology("v5p:2x2x1").ici_bandwidth == pytest.approx(200e9)
    assert get_topology("v5e:2x4").ici_bandwidth == pytest.approx(150e9)
    assert get_topology("v5e:1x1").ici_bandwidth == 0


def test_unknown_topologies_list_those_that_exist():
    with pytest.raises(ShardingError) as found:
        get_topology("v7p:4x4x4")
    for name, shapes in SHAPES.items():
        assert f"{name}: {', '.join(shapes)}" in str(found.value)
    with pytest.raises(ShardingError, match=re.escape("the shapes of v5e are 1x1, 2x2, 2x4, 4x4")):
        get_topology("v5e:3x3")
    with pytest.raises(ShardingError, match="unknown topology 'v5p'; the shapes of v5p are"):
        get_topology("v5p")
    with pytest.raises(ShardingError, match="did you mean 'v5p:4x4x4'"):
        get_topology("v5q:4x4x4")
    with pytest.raises(ShardingError, match="slices is 0; it must be at least 1"):
        get_topology("v5p:4x4x4", 0)


def test_the_next_larger_shape():
    following = larger(get_topology("v5e:2x4", 2))
    assert following is not None
    assert (following.name, following.slices) == ("v5e:4x4", 2)
    assert larger(get_topology("v6e:16x16")) is None


def test_without_libtpu_a_sentence_says_what_to_install(monkeypatch):
    from jax.experimental import topologies

    def absent(**options):
        raise RuntimeError("JAX TPU support not installed")

    monkeypatch.setattr(topologies, "get_topology_desc", absent)
    monkeypatch.setattr("lilith.pods.topologies.libtpu_is_installed", lambda: False)
    with pytest.raises(UserError, match=r"needs libtpu.*pip install 'lilith\[tpu-compile\]'"):
        compile_only_devices(get_topology("v5e:2x2"))


@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize("name", topology_names())
def test_libtpu_makes_every_topology(name):
    topology = get_topology(name)
    assert len(compile_only_devices(topology)) == topology.devices
