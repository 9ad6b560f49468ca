"""The points of weak scaling: layouts that divide, kept once, a table and a picture that stands."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import harness, pod_sides, weak_scaling
from experiments.run import load_config
from lilith.model.presets import get_model_config

GIB = 2**30


def roofline(bound, scheduled):
    return {"bound": bound, "scheduled_bound": scheduled, "limit": "compute",
            "scheduled_mfu_bound": 0.7}  # fmt: skip


def own(bound=1.0, scheduled=1.2, why=""):
    """A point as it is kept."""
    if why:
        return {"why": why, "seconds": 5.0}
    return {"why": "", "seconds": 60.0, "mesh": {"data": 1, "fsdp": 16}, "remat": "dots",
            "memory": 10 * GIB, "roofline": roofline(bound, scheduled)}  # fmt: skip


def known(*points):
    """Points by their keys: model, chips and what is kept of it."""
    return {
        weak_scaling.key_of(weak_scaling.words_of(model, chips)): kept
        for model, chips, kept in points
    }


def test_every_size_is_a_slice_that_exists():
    assert list(weak_scaling.slices()) == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    assert weak_scaling.slices()[4096] == "16x16x16"


@pytest.mark.parametrize("model", weak_scaling.LOADS)
def test_each_point_is_a_config_whose_weights_divide(model):
    for chips in weak_scaling.slices():
        config = load_config("compile_pod", weak_scaling.words_of(model, chips))
        split = chips // config.mesh.data
        assert chips % config.mesh.data == 0
        assert split <= weak_scaling.MOST_LAYOUT
        assert get_model_config(model).d_model % split == 0
        assert config.batch == weak_scaling.LOADS[model].batch
        assert config.row_length == 4096
    assert config.mesh.data == 4


def test_the_table_counts_from_the_smallest_slice():
    points = known(("7b", 16, own(1.0, 1.2)), ("7b", 64, own(1.0, 1.5)),
                   ("70b", 16, own(why="no room")), ("70b", 32, own(4.0, 5.0)))  # fmt: skip
    rows = [dict(zip(weak_scaling.COLUMNS, row)) for row in weak_scaling.table(points, 0)]
    assert [(row["model"], row["chips"]) for row in rows] == [
        ("7b", 16), ("7b", 64), ("70b", 16), ("70b", 32),
    ]  # fmt: skip
    assert [row["of the smallest slice's"] for row in rows] == [1.0, 1.25, "-", 1.0]
    assert rows[2]["GiB a chip"] == "does not fit"
    assert (rows[1]["bound, ms"], rows[1]["scheduled, ms"]) == (1000.0, 1500.0)
    assert rows[0]["mesh"] == "fsdp 16"
    assert weak_scaling.table(points, 2) == []  # points of other programs are none of these


def test_the_picture_stands_alone():
    svg = weak_scaling.plot(known(
        ("7b", 16, own(1.0, 1.2)), ("7b", 64, own(1.0, 1.5)), ("13b", 16, own(2.0, 2.2)),
        ("70b", 16, own(why="no room")),
    ))  # fmt: skip
    ElementTree.fromstring(svg)
    assert "7b, 4 x 4,096 a chip" in svg
    assert "13b, 2 x 4,096 a chip" in svg
    assert "70b" not in svg
    assert svg.count("if all overlap") == 1
    assert "prefers-color-scheme:dark" in svg
    assert [tick for tick in (">16<", ">64<") if tick not in svg] == []
    for name in ("grid", "accent", "second", "faint"):
        assert f"--{name}:" in svg or f"var(--{name})" not in svg


def test_no_picture_of_nothing():
    assert weak_scaling.plot({}) == ""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A document, a picture, results and an interpreter that are the test's own."""
    document = tmp_path / "scaling.md"
    name = "benchmarks.weak_scaling"
    document.write_text(f"<!-- {name} -->\n<!-- end of {name} -->\n")
    monkeypatch.setattr(weak_scaling, "DOCS", document)
    monkeypatch.setattr(weak_scaling, "PLOT", tmp_path / "plot.svg")
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    report = {"memory": {"weights": GIB, "used": 2 * GIB, "host": 0}, "chips": 16,
              "mesh": {"fsdp": 16}, "rows": 64, "remat": "dots", "parameters": 7,
              "overlapped_share": 0.9,
              "roofline": roofline(1.0, 1.25)}  # fmt: skip
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nwords = sys.argv[1:]\n"
        "if words[0] == '-c':\n    print('Python 3')\n    sys.exit()\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(' '.join(words) + '\\n')\n"
        "pathlib.Path(words[words.index('--workdir') + 1], 'report.json').write_text("
        f"{json.dumps(report)!r})\n"
    )
    script.chmod(0o755)
    return tmp_path


def run(places, *words):
    return weak_scaling.main(
        ["--python", str(places / "python"), "--out", str(places / "kept.jsonl"), *words]
    )


def calls(places):
    return (places / "calls").read_text().splitlines()


def test_a_selection_is_compiled_once_and_shown_with_the_rest(places):
    assert run(places, "--models", "7b", "--chips", "16,64") == 0
    assert [line.partition("topology=")[2].split()[0] for line in calls(places)] == [
        "v5p:2x2x4", "v5p:4x4x4",
    ]  # fmt: skip
    assert run(places, "--models", "7b,13b", "--chips", "64") == 0
    assert len(calls(places)) == 3
    assert run(places, "--models", "7b", "--chips", "16", "--again") == 0
    assert len(calls(places)) == 4
    assert (places / "scaling.md").read_text().count("b | 64 |") == 0
    assert run(places, "--models", "7b,13b", "--chips", "16,64") == 0
    page = (places / "scaling.md").read_text()
    assert page.count("\n| 7b |") == 2
    assert page.count("\n| 13b |") == 2
    assert "(weak_scaling.svg)" in page
    ElementTree.fromstring((places / "plot.svg").read_text())


def test_a_try_with_few_layers_leaves_the_documents_alone(places):
    before = (places / "scaling.md").read_text()
    assert run(places, "--models", "7b", "--chips", "16", "--layers", "2") == 0
    assert calls(places)[0].endswith("model.layers=2")
    assert (places / "scaling.md").read_text() == before
    assert not (places / "plot.svg").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--models", "8b"], "no point of the plot has '8b'; known: 7b, 13b, 70b"),
     (["--chips", "16,48"], "no point of the plot has '48'; known: 16, 32")],
)  # fmt: skip
def test_a_point_that_is_none_is_refused(places, capsys, words, sentence):
    assert run(places, *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_point_that_does_not_fit_is_kept_as_such(places, monkeypatch):
    compiled = pod_sides.Compiled(why="no room", seconds=3.0)
    monkeypatch.setattr(weak_scaling, "compile_ours", lambda words, python: (compiled, {}))
    assert run(places, "--models", "70b", "--chips", "16") == 0
    assert "does not fit" in (places / "scaling.md").read_text()
