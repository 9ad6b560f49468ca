"""The table beside MaxText: what each side writes is read, kept, and measured only once."""

import dataclasses
import json
import pathlib
import sys

import pytest

from benchmarks import harness, pod_sides, pods
from benchmarks.pod_rows import ROWS, Row
from benchmarks.pod_sides import Compiled, Measurements
from experiments import compile_pod
from experiments.compile_pod import DoesNotFit
from experiments.compile_pod_config import CompilePodConfig
from lilith.config import UserError
from lilith.model.presets import get_model_config

GIB = 2**30
ROW = ROWS[0]  # 7b on 256 v5e chips
# The end of what train_compile of MaxText 0.2.5 wrote for two layers of 7b on eight v5e chips.
RECORDED = """Jitting and compiling train step...
Jitting and compilation complete!
Finished train_compile.py successfully!
Cost analysis: {'utilization44{}': 5.0, 'bytes accessed': 25287985152.0}
Memory analysis: CompiledMemoryStats(generated_code_size_in_bytes=47282176, \
argument_size_in_bytes=1000422400, output_size_in_bytes=1000387584, \
alias_size_in_bytes=1000381440, temp_size_in_bytes=1183186944, \
host_generated_code_size_in_bytes=0, host_argument_size_in_bytes=0, \
host_output_size_in_bytes=0, host_alias_size_in_bytes=0, host_temp_size_in_bytes=0)
"""
TOO_LARGE = (
    "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.10G of 15.75G "
    "hbm. Exceeded hbm capacity by 4.35G.",
    "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory "
    "on HBM, the total memory required for HLO temporaries (18.88G) exceeds available HBM "
    "(15.75G). HLO module: jit_train_step.",
    "RESOURCE_EXHAUSTED: Allocation (size=229280907264) would exceed memory (size=17179869184)",
)
NO_VMEM = "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 20.1M of 16.0M vmem"
REPORT = {
    "memory": {"weights": 1 * GIB, "optimizer": 2 * GIB, "inputs": GIB // 4, "activations": 4 * GIB,
               "temporaries": 8 * GIB, "program": 5, "used": 15 * GIB, "capacity": 16 * GIB,
               "host": 0},
}  # fmt: skip


@pytest.fixture
def interpreter(tmp_path):
    """Make a program that stands for an interpreter: it runs ``body`` and logs its arguments."""

    def make(name, body):
        path = tmp_path / name
        head = f"#!{sys.executable}\nimport json, os, pathlib, sys, time\nwords = sys.argv[1:]\n"
        log = f"open({str(tmp_path / 'calls')!r}, 'a').write({name!r} + ' ' + words[1] + '\\n')\n"
        asked = "if words[0] == '-c':\n    print('Python 3, maxtext 0.2.5')\n    sys.exit()\n"
        path.write_text(head + asked + log + body)
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def ours(interpreter):
    """Writes a report where compile_pod would."""
    write = "pathlib.Path(words[words.index('--workdir') + 1], 'report.json').write_text("
    return interpreter("ours", f"{write}{json.dumps(REPORT)!r})\n")


@pytest.fixture
def maxtext(interpreter):
    return interpreter("maxtext", f"print({RECORDED!r})\n")


def sides(tmp_path, ours="", maxtext="", layers=0):
    return pods.Sides(ours, maxtext, Measurements(tmp_path / "kept.jsonl"), layers)


def test_memory_of_both_sides_is_read():
    theirs = pod_sides.maxtext_memory("noise (x=1)\n" + RECORDED)
    assert (theirs.arguments, theirs.temporaries, theirs.host) == (1000422400, 1183186944, 0)
    assert pod_sides.our_memory(REPORT).arguments == 3.25 * GIB
    assert pod_sides.our_memory(REPORT).temporaries == 12 * GIB
    offloaded = {"memory": REPORT["memory"] | {"host": 6 * GIB}}
    assert pod_sides.our_memory(offloaded).host == 6 * GIB
    assert theirs.memory() == "0.93 + 1.10"
    offloads = RECORDED.replace("host_temp_size_in_bytes=0", f"host_temp_size_in_bytes={GIB}")
    assert pod_sides.maxtext_memory(offloads).memory() == "0.93 + 1.10 (+ 1.00 on the host)"
    with pytest.raises(UserError, match="no memory analysis; its last line: half of it"):
        pod_sides.maxtext_memory("half of it\n\n")


@pytest.mark.parametrize(
    ("topology", "name"),
    [("v5e:16x16", "v5e-256"), ("v6e:16x16", "v6e-256"), ("v5p:4x4x4", "v5p-128"),
     ("v4:4x4x4", "v4-128"), ("tpu7x:4x4x4", "tpu7x-128")],
)  # fmt: skip
def test_maxtext_is_asked_for_the_same_step(topology, name):
    row = dataclasses.replace(ROW, topology=topology, batch=6, length=2048)
    words = pod_sides.maxtext_words(row)
    expected = [f"compile_topology={name}", "per_device_batch_size=6", "max_target_length=2048",
                "remat_policy=save_qkv_proj", "model_name=llama2-7b"]  # fmt: skip
    assert set(expected) <= set(words)
    assert not any("layers" in word for word in words)
    assert "base_num_decoder_layers=2" in pod_sides.maxtext_words(row, 2)
    with pytest.raises(UserError, match="MaxText has no preset for 1b"):
        pod_sides.maxtext_words(dataclasses.replace(row, model="1b"))


def test_our_process_gives_its_report(ours):
    compiled, report = pod_sides.compile_ours(ROW.words, ours)
    assert report == REPORT
    assert compiled.used == 15.25 * GIB
    assert compiled.seconds > 0
    assert compiled.why == ""


def test_our_process_is_stopped_once_it_says_that_nothing_fits(interpreter):
    said = "the train step does not fit on v5e:16x16: a device needs 20.10 GiB"
    body = f"print({said + pod_sides.LOOKS_ON!r}, flush=True)\ntime.sleep(60)\n"
    compiled, report = pod_sides.compile_ours(ROW.words, interpreter("full", body))
    assert (compiled.why, report) == (said, {})
    assert compiled.memory() == "does not fit"
    assert compiled.seconds < 50


def test_what_is_waited_for_is_what_the_stage_says(monkeypatch, capsys):
    def never(config):
        raise DoesNotFit(20 * GIB, 15 * GIB)

    monkeypatch.setattr(compile_pod, "compile_step", never)
    config = CompilePodConfig(model=get_model_config("1b"), batch=4)
    compile_pod._does_not_fit(config, DoesNotFit(20 * GIB, 15 * GIB))
    assert pod_sides.LOOKS_ON in capsys.readouterr().out


def test_other_ends_are_errors_and_not_kept(tmp_path, interpreter):
    broken = interpreter("broken", "print('no libtpu')\nsys.exit(2)\n")
    own = sides(tmp_path, broken, broken)
    with pytest.raises(UserError, match="compile_pod ended with 2: no libtpu"):
        own.lilith(ROW)
    with pytest.raises(UserError, match="MaxText ended with 2: no libtpu"):
        own.peer(ROW)
    assert own.kept.known == {}


@pytest.mark.parametrize("said", TOO_LARGE)
def test_maxtext_that_does_not_fit(interpreter, said):
    full = interpreter("full", f"print('Jitting\\n' + {said!r} + '\\n')\nsys.exit(1)\n")
    compiled = pod_sides.compile_maxtext(["model_name=llama2-7b"], full)
    assert compiled.why == said


def test_a_kernel_without_room_is_no_answer(interpreter):
    full = interpreter("full", f"print({NO_VMEM!r})\nsys.exit(1)\n")
    with pytest.raises(UserError, match="MaxText ended with 1: RESOURCE_EXHAUSTED"):
        pod_sides.compile_maxtext(["model_name=llama2-7b"], full)


def test_maxtext_has_its_own_compiler_and_no_cache(monkeypatch, interpreter):
    monkeypatch.setenv("TPU_LIBRARY_PATH", "/ours/libtpu.so")
    names = ("TPU_LIBRARY_PATH", "JAX_ENABLE_COMPILATION_CACHE", "JAX_PLATFORMS")
    body = f"print([os.environ.get(name) for name in {names}])\nsys.exit(1)\n"
    with pytest.raises(UserError, match=r"\[None, '0', 'cpu'\]"):
        pod_sides.compile_maxtext([], interpreter("looks", body))


def test_a_measurement_is_made_once_and_survives_a_kill(tmp_path):
    path = tmp_path / "kept.jsonl"
    made = []

    def make(value):
        return lambda: made.append(value) or {"value": value}

    kept = Measurements(path)
    assert kept.get("a", make(1))["value"] == 1
    assert kept.get("b", make(2))["value"] == 2
    assert kept.get("a", make(3))["value"] == 1
    path.write_bytes(path.read_bytes()[:-4])  # the last line is cut off
    again = Measurements(path)
    assert again.get("a", make(4))["value"] == 1
    assert again.get("b", make(5))["value"] == 5
    assert made == [1, 2, 5]
    assert Measurements(path).known == again.known


def test_sides_take_turns_and_the_median_counts(tmp_path, ours, maxtext, monkeypatch):
    row = dataclasses.replace(ROW, batch=8)
    times = iter([1.0, 10.0, 2.0, 20.0, 9.0, 30.0, 8.0, 40.0, 2.0, 50.0, 3.0, 60.0])

    def timed(found, ended):
        return dataclasses.replace(found, seconds=next(times))

    monkeypatch.setattr(pod_sides, "_with_times", timed)
    table = pods.compare([ROW, row], sides(tmp_path, ours, maxtext), 3)
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == ["ours", "maxtext"] * 6
    seconds = [[line[pods.COLUMNS.index(name)] for name in ("s", "MaxText s")] for line in table]
    assert seconds == [[2.0, 30.0], [3.0, 40.0]]


def test_a_line_of_the_table():
    ours, theirs = Compiled(GIB, 3 * GIB, seconds=30.0), Compiled(2 * GIB, 6 * GIB, seconds=60.0)
    line = dict(zip(pods.COLUMNS, pods.cells(ROW, ours, theirs)))
    assert line["model, topology, batch x length"] == "7b v5e:16x16 4 x 2,048"
    assert (line["LILITH GiB"], line["MaxText GiB"]) == ("1.00 + 3.00", "2.00 + 6.00")
    assert (line["memory ratio"], line["time ratio"]) == (0.5, 0.5)
    line = dict(zip(pods.COLUMNS, pods.cells(ROW, ours, Compiled(why="too large", seconds=9.0))))
    assert (line["MaxText GiB"], line["memory ratio"]) == ("does not fit", "-")


def test_published_figures_stand_for_maxtext_and_are_marked(tmp_path):
    cells = [sides(tmp_path).peer(row).memory() for row in ROWS]
    assert cells[0] == "0.29 + 9.82 *"
    assert "0.57 + 8.25 (+ 14.06 on the host) *" in cells
    assert [sides(tmp_path).peer(row).seconds for row in ROWS] == [71, 115, 68, 84, 139, 77]


class Fake:
    """Sides that have room for so many tokens a device."""

    def __init__(self, here, there):
        self.here, self.there, self.asked = here, there, []

    def answer(self, row, most):
        tokens = row.batch * row.length
        why = "too large" if tokens > most else ""
        return Compiled(GIB, tokens * 2**20, why=why, seconds=1.0)

    def lilith(self, row):
        return self.answer(row, self.here)

    def peer(self, row):
        self.asked.append((row.batch, row.length))
        return self.answer(row, self.there)


def test_the_smallest_batch_and_length_without_room_there():
    row = Row("7b", "v5e:16x16", 4, 2048, maxtext_remat="full")
    fake = Fake(20_000, 17_000)  # 15 GiB are 15,360 tokens of a MiB
    found = pods.larger([row], fake)
    names = [line[0] for line in found]
    assert names == ["7b v5e:16x16 9 x 2,048", "7b v5e:16x16 4 x 5,120"]
    assert [line[3] for line in found] == ["1.00 + 18.00", "does not fit"]
    assert (5, 2048) not in fake.asked  # which should fit: its temporaries leave room


def test_no_larger_row_where_all_fits_there(capsys):
    row = Row("7b", "v5e:16x16", 4, 2048, maxtext_remat="full")
    fake = Fake(10**9, 10**9)
    assert pods.larger([row], fake) == []
    assert "all that was tried fits MaxText too" in capsys.readouterr().out
    assert len(fake.asked) == 2 * (1 + pods.TRIES)


def test_a_longer_row_lengthens_the_context_too():
    longer = next(pods.larger_lengths(ROW))
    assert longer.config().row_length == longer.length == 3072


def test_a_section_of_a_document_is_replaced(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    for content in ("one\n", "two\n"):
        pods.write_section(document, "table", content)
    expected = "before\n<!-- table -->\n\ntwo\n\n<!-- end of table -->\nafter\n"
    assert document.read_text() == expected
    with pytest.raises(UserError, match="has no place for other"):
        pods.write_section(document, "other", "")
    assert document.read_text() == expected


def test_the_documents_have_the_places():
    text = pods.DOCS.read_text()
    for name in ("benchmarks.pods", "benchmarks.weak_scaling"):
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- end of {name} -->\n") == 1


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A document and a folder of results that are the test's own."""
    document = tmp_path / "scaling.md"
    document.write_text("<!-- benchmarks.pods -->\n<!-- end of benchmarks.pods -->\n")
    monkeypatch.setattr(pods, "DOCS", document)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return document


def test_the_command_goes_on_where_it_was_stopped(tmp_path, places, ours, maxtext, capsys):
    words = ["--python", ours, "--maxtext", maxtext, "--out", str(tmp_path / "kept.jsonl")]
    assert pods.main([*words, "--rows", ROW.name]) == 0
    assert "<!-- end" in places.read_text().splitlines()[1]  # a part of the rows is no table
    works = pathlib.Path(maxtext).read_text()
    pathlib.Path(maxtext).write_text(works + "sys.exit(3)\n")
    assert pods.main(words) == 2  # at the second row's other side
    assert "MaxText ended with 3" in capsys.readouterr().err
    pathlib.Path(maxtext).write_text(works)
    assert pods.main(words) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2 * len(ROWS) + 1
    assert sum(line.startswith("ours") for line in calls) == len(ROWS)
    assert places.read_text().count("3.25 + 12.00 | ") == len(ROWS)
    assert pods.main([*words, "--again", "lilith"]) == 0
    calls = (tmp_path / "calls").read_text().splitlines()[len(calls) :]
    assert [line.split()[0] for line in calls] == ["ours"] * len(ROWS)
    results = json.loads((tmp_path / "pods.json").read_text())
    assert len(results["rows"]) == len(ROWS)
    assert "maxtext 0.2.5" in results["facts"]["MaxText"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--larger"], "name its interpreter with --maxtext"),
     (["--layers", "2"], "nothing is published for --layers")],
)  # fmt: skip
def test_what_needs_maxtext_says_so(tmp_path, places, capsys, words, sentence):
    assert pods.main([*words, "--out", str(tmp_path / "kept.jsonl")]) == 2
    assert sentence in capsys.readouterr().err


def test_another_version_of_maxtext_is_refused(tmp_path, places, interpreter, capsys):
    other = pathlib.Path(interpreter("other", ""))
    other.write_text(other.read_text().replace("maxtext 0.2.5", "maxtext 0.3.0"))
    words = ["--maxtext", str(other), "--python", str(other), "--out", str(tmp_path / "k.jsonl")]
    assert pods.main(words) == 2
    assert "the table is of maxtext 0.2.5" in capsys.readouterr().err


def test_an_interpreter_that_is_none_is_one_sentence(tmp_path, places, capsys):
    words = ["--maxtext", "/no/such/python", "--out", str(tmp_path / "kept.jsonl")]
    assert pods.main(words) == 2
    assert "/no/such/python is no Python interpreter that runs" in capsys.readouterr().err
