"""Self-improvement from the command line: known transcripts, resumed anywhere, reported."""

from __future__ import annotations

import gzip
import json
import math
import pathlib
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from tiny_run import Output, assert_one_sentence

import experiments.constitutional_course
import experiments.loop
import experiments.sft
from experiments.constitutional_prompts import gather_prompts
from experiments.json_lines import grow
from experiments.run import load_config, main
from lilith.config import ModelConfig
from lilith.data.chat_readers import read_conversations
from lilith.interop.gguf import write_gguf
from lilith.interop.load import load_checkpoint
from lilith.model.params import init_params
from lilith.reasoning.constitution import OWN_FILE
from lilith.sharding import make_mesh
from lilith.tokenizer import ByteTokenizer
from lilith.tokenizer.chat_template import CHATML

SMALL = (
    "prompts.harmful=3", "prompts.frightening=2", "prompts.plain=1", "prompts.held_out=1",
    "revision.rounds=1", "group=1", "data.template=chatml",
)  # fmt: skip
MODEL = ModelConfig(
    layers=1, d_model=32, heads=2, kv_heads=1, d_ff=64, vocab=272, context=256,
    compute_dtype="float32",
)  # fmt: skip
REFUSAL = "I'm sorry, but I can't help with that."


def scripted(*arguments: Any, **settings: Any) -> Any:
    """The scripted model of the tests of reasoning."""
    folder = str(pathlib.Path(__file__).resolve().parent.parent / "reasoning")
    if folder not in sys.path:
        sys.path.append(folder)
    from scripted_model import ScriptedModel

    return ScriptedModel(*arguments, **settings)


class Killed(BaseException):
    """Ends a run as a kill does: nothing is tidied up."""


def say(prompt: str, place: int) -> str:
    """Answers that depend on the request alone: the base goes along with everything."""
    number = sum(map(ord, prompt)) % 1000
    if prompt.endswith("Revised answer:"):
        return f"I will not help with this; ask for something lawful, as in case {number}."
    if prompt.endswith("Critique:"):
        return f"It helps to do harm in {number} ways."
    return f"Sure, take {number} of them{', or more' * place}."


Run = Callable[..., tuple[int, Output]]


@pytest.fixture
def improve(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command with a scripted model and without training: exit code and output."""
    monkeypatch.setattr(experiments.sft, "run", tune)

    def run(
        *words: str,
        lines: Any = say,
        scores: Any = (),
        calls: float = math.inf,
        workdir: str = "w",
        small: Sequence[str] = SMALL,
    ) -> tuple[int, Output]:
        left = [calls]

        def count(prompt: str, place: int) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return lines(prompt, place)

        def load(config: Any, base: str, adapters: Sequence[str]) -> Any:
            return scripted(count, scores)

        monkeypatch.setattr(experiments.constitutional_course, "load_policy", load)
        command = ["--config", "constitutional", "--workdir", str(tmp_path / workdir), "--set"]
        capsys.readouterr()
        code = main([*command, *small, *words])
        return code, Output(*capsys.readouterr())

    return run


def tune(config: Any, workdir: pathlib.Path) -> int:
    """What a finished tuning leaves, as far as the stage looks at it."""
    workdir.mkdir(parents=True)
    for name in ("summary.json", "report.html"):
        (workdir / name).write_text("{}")
    (workdir / "base.json").write_text(
        json.dumps([config.base, config.adapters, config.data.files])
    )
    return 0


def records(path: pathlib.Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(folder: pathlib.Path) -> dict[str, bytes]:
    """What a run wrote, without what names the folder itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "base.json"
    }


def test_an_iteration_writes_what_is_known(improve: Run, tmp_path: pathlib.Path) -> None:
    code, out = improve()
    assert code == 0, out.err
    folder = tmp_path / "w" / "iteration_1"
    made = records(folder / "transcripts.jsonl")
    assert sorted(one["kind"] for one in made) == ["frightening"] * 2 + ["harmful"] * 3 + ["plain"]
    for one in made:
        assert one["answer"] == say(f"user: {one['prompt']}", 0)
        assert len(one["rounds"]) == (one["kind"] != "plain")
        refused = "refusal of a harmless prompt" if one["kind"] == "frightening" else ""
        assert one["dropped"] == refused
    learnt = list(read_conversations(folder / "conversations.jsonl"))
    assert [each.metadata["domain"] for each in learnt].count("harmful") == 3
    last = {one["prompt"]: one for one in made}
    for each in learnt:
        own = last[each.messages[0]["content"]]
        final = own["rounds"][-1]["revision"] if own["rounds"] else own["answer"]
        assert each.messages[1]["content"] == final
    held_out = {one["prompt"] for one in records(folder / "evaluation.jsonl")}
    assert len(held_out) == 3
    assert not held_out & last.keys()


def test_each_iteration_starts_from_the_weights_of_the_last(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    assert improve("iterations=3", "adapters=first")[0] == 0
    folders = [tmp_path / "w" / f"iteration_{i}" for i in (1, 2, 3)]
    own = [str(folder / "tuning" / "adapter") for folder in folders]
    for i, folder in enumerate(folders):
        _, adapters, files = json.loads((folder / "tuning" / "base.json").read_text())
        assert adapters == ["first", *own[:i]]
        assert files == [str(folder / "conversations.jsonl")]
    assert improve("iterations=2", "lora.rank=0", workdir="all")[0] == 0
    first = tmp_path / "all" / "iteration_1" / "tuning"
    assert json.loads((first.parent.parent / "iteration_2/tuning/base.json").read_text())[0] == str(
        first
    )


def test_killed_at_every_text_and_started_again_the_files_are_the_same(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    words = ("iterations=2", "preference.prompts=2")
    assert improve(*words, workdir="whole")[0] == 0
    whole = texts(tmp_path / "whole")
    assert {"iteration_2/transcripts.jsonl", "preference/pairs.jsonl"} <= whole.keys()
    kills = 0
    while True:
        # One more text each time: the run dies after every text of each of its phases.
        try:
            code, _ = improve(*words, workdir="often", calls=5)
        except Killed:
            kills += 1
            assert kills < 99
            continue
        break
    assert code == 0
    assert kills > 7
    assert texts(tmp_path / "often") == whole
    for calls in (9, 27):
        with pytest.raises(Killed):
            improve(*words, workdir=f"once{calls}", calls=calls)
        assert improve(*words, workdir=f"once{calls}")[0] == 0
        assert texts(tmp_path / f"once{calls}") == whole


@pytest.mark.parametrize("group", [1, 4])
def test_resumed_at_every_prompt_boundary_and_in_the_middle_of_a_line(
    improve: Run, tmp_path: pathlib.Path, group: int
) -> None:
    assert improve(f"group={group}")[0] == 0
    path = tmp_path / "w" / "iteration_1" / "transcripts.jsonl"
    whole = texts(tmp_path / "w")
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for count in range(len(lines)):
        torn = lines[count][: 30 * (count % 2)]
        path.write_bytes(b"".join(lines[:count]) + torn)
        (tmp_path / "w" / "finished.json").unlink()
        shutil.rmtree(tmp_path / "w" / "iteration_1" / "tuning")
        assert improve(f"group={group}")[0] == 0
        assert texts(tmp_path / "w") == whole


@pytest.mark.parametrize("group", [1, 3, 8])
def test_a_group_that_was_cut_off_is_made_again_whole(tmp_path: pathlib.Path, group: int) -> None:
    prompts = [f"prompt {i}" for i in range(7)]

    def make(part: slice) -> list[dict[str, Any]]:
        return [{"prompt": one, "group": part.start} for one in prompts[part]]

    path = tmp_path / "file.jsonl"
    found = grow(path, prompts, make, group=group, what="test")
    assert [one["group"] for one in found] == [i // group * group for i in range(7)]
    whole = path.read_bytes()
    for size in range(0, len(whole) + 1, 5):  # killed in many lines, and between two
        path.write_bytes(whole[:size])
        assert grow(path, prompts, make, group=group, what="test") == found
        assert path.read_bytes() == whole


def test_a_finished_run_says_so_and_goes_on_with_more_iterations(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    assert improve()[0] == 0
    first = texts(tmp_path / "w")
    code, out = improve(calls=0)
    assert code == 0
    assert "is finished: 1 iterations" in out.out
    assert improve("iterations=2")[0] == 0
    after = texts(tmp_path / "w")
    same = "iteration_1/transcripts.jsonl"
    assert after[same] == first[same]
    other = after["iteration_2/transcripts.jsonl"]
    assert other != after[same]  # other principles are drawn


def test_sigterm_saves_and_stops_after_the_prompt(improve: Run, tmp_path: pathlib.Path) -> None:
    asked = []

    def stop(prompt: str, place: int) -> str:
        asked.append(prompt)
        if len(asked) == 8:
            signal.raise_signal(signal.SIGTERM)
        return say(prompt, place)

    code, out = improve(lines=stop)
    assert code == 0
    assert "stopped by SIGTERM" in out.out
    made = records(tmp_path / "w" / "iteration_1" / "transcripts.jsonl")
    assert 0 < len(made) < 6
    assert improve()[0] == 0
    again = texts(tmp_path / "w")
    assert improve(workdir="whole")[0] == 0
    assert again == texts(tmp_path / "whole")


def test_another_config_or_constitution_may_not_go_on_in_the_folder(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OWN_FILE.read_text())
    assert improve(f"constitution={own}")[0] == 0
    for words, name in (
        (("seed=1",), "seed"),
        (("revision.rounds=2",), "revision"),
        (("prompts.plain=2",), "prompts"),
    ):
        code, out = improve(f"constitution={own}", *words)
        assert code == 2
        assert_one_sentence(out, "another value of", name)
    own.write_text(own.read_text().replace("Quote them.", "Quote all."))
    code, out = improve(f"constitution={own}")
    assert code == 2
    assert_one_sentence(out, "constitution", "choose another --workdir")


def test_a_file_of_other_prompts_is_refused(improve: Run, tmp_path: pathlib.Path) -> None:
    assert improve()[0] == 0
    (tmp_path / "w" / "finished.json").unlink()
    path = tmp_path / "w" / "iteration_0" / "evaluation.jsonl"
    path.write_text(path.read_text().replace("prompt", "prompts", 1))
    code, out = improve()
    assert code == 2
    assert_one_sentence(out, "line 1", "another prompt")
    path.write_text("nonsense\n" + path.read_text())
    assert_one_sentence(improve()[1], "line 1", "is no record")


@pytest.mark.parametrize(
    ("answer", "why"),
    [("", "empty"), ("Sure, take two of them.", "unchanged"), (REFUSAL, "refusal of a harmless")],
)
def test_nothing_to_learn_is_an_error_and_nothing_is_lost(
    improve: Run, tmp_path: pathlib.Path, answer: str, why: str
) -> None:
    code, out = improve("prompts.harmful=0", lines=lambda prompt, place: answer)
    assert code == 2
    assert_one_sentence(out, "no revision was kept", why, "transcripts.jsonl")
    assert len(records(tmp_path / "w" / "iteration_1" / "transcripts.jsonl")) == 3
    assert why in (tmp_path / "w" / "report.html").read_text()


def like_refusals(prompt: str, continuations: Sequence[str]) -> list[float]:
    """Prefers what declines, and likes the letter A whatever stands there."""
    a, b = re.findall(r"\(A\)\n(.*?)\n\n\(B\)\n(.*?)\n\n", prompt, re.DOTALL)[0]
    odds = 1.0 + 4.0 * (("sorry" in a) - ("sorry" in b))
    return [-math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))]


def test_pairs_are_judged_mixed_and_readable(improve: Run, tmp_path: pathlib.Path) -> None:
    human = tmp_path / "human.jsonl"
    turns = "\n\nHuman: hi\n\nAssistant: "
    human.write_text(
        "".join(json.dumps({"chosen": f"{turns}hello {i}", "rejected": f"{turns}go"}) + "\n"
                for i in range(9))
    )  # fmt: skip

    def lines(prompt: str, place: int) -> str:
        if place and not prompt.endswith(("Critique:", "Revised answer:")):
            return REFUSAL
        return say(prompt, place)

    words = ("preference.prompts=6", f"preference.human_files={human}", "preference.human_limit=4")
    code, out = improve(*words, lines=lines, scores=like_refusals)
    assert code == 0, out.err
    read = list(read_conversations(tmp_path / "w" / "preference" / "pairs.jsonl"))
    sources = [each.metadata["source"] for each in read]
    assert sources == ["constitution"] * 6 + ["people"] * 4
    for each in read[:6]:
        assert each.messages[-1]["content"] == REFUSAL
        assert 0.9 < each.metadata["label"] <= 0.98
    assert read[6].messages == [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello 0"},
    ]  # fmt: skip
    judge = json.loads((tmp_path / "w" / "summary.json").read_text())["judge"]
    assert judge["pairs kept"] == "6 of 6"
    assert judge["agreement"].endswith("100.0%")
    bias = float(re.search(r"probability ([\d.]+)", judge["position bias"])[1])
    assert 0.5 < bias < 0.55
    code, out = improve(*words, "preference.clamp=0.1")
    assert code == 2
    assert_one_sentence(out, "clamp")


def test_an_undecided_judge_leaves_no_pair_and_says_so(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    assert improve("preference.prompts=2", scores=())[0] == 0
    judge = json.loads((tmp_path / "w" / "summary.json").read_text())["judge"]
    assert judge["skipped, the judge is undecided"] == "2"
    code, out = improve("preference.prompts=2", "preference.train=dpo")
    assert code == 2
    assert_one_sentence(out, "no pair was kept", "judged.jsonl")


def test_conversations_are_mixed_in_and_those_of_a_wrong_shape_named(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(
        json.dumps({"prompt": f"What is {i}?", "response": f"A number, {i}."}) + "\n"
        for i in range(9)
    ))  # fmt: skip
    words = (f"data.helpful_files={chats}", "data.helpful_limit=5")
    assert improve(*words)[0] == 0
    learnt = records(tmp_path / "w" / "iteration_1" / "conversations.jsonl")
    domains = [each["metadata"]["domain"] for each in learnt]
    assert sorted(domains) == ["harmful"] * 3 + ["helpful"] * 5 + ["plain"]
    assert learnt[-1]["messages"][1]["content"] == "A number, 4."
    chats.write_text('{"what": 1}\n')
    assert_one_sentence(improve(*words, workdir="v")[1], "chats.jsonl:1", "no shape")


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_the_pairs_are_trained_on_from_the_last_iterations_weights(
    improve: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    configs = []

    def train(config: Any, workdir: pathlib.Path) -> int:
        configs.append(config)
        return tune(config, workdir)

    monkeypatch.setattr(getattr(experiments.constitutional_course, kind), "run", train)

    def lines(prompt: str, place: int) -> str:
        return REFUSAL if place else say(prompt, place)

    words = ("preference.prompts=3", f"preference.train={kind}", "preference.learning_rate=1e-6")
    assert improve(*words, lines=lines, scores=like_refusals)[0] == 0
    assert improve(*words)[0] == 0  # finished: trained once
    (config,) = configs
    folder = tmp_path / "w"
    assert (config.stage, config.optimizer.learning_rate) == (kind, 1e-6)
    assert config.adapters == (str(folder / "iteration_1" / "tuning" / "adapter"),)
    assert config.data.files == (str(folder / "preference" / "pairs.jsonl"),)
    rows = json.loads((folder / "summary.json").read_text())["comparisons"][0]["rows"]
    names = ["before", "iteration 1"] + (["DPO"] if kind == "dpo" else [])
    assert [row["model"] for row in rows] == names
    points = [record["step"] for record in records(folder / "metrics.jsonl")]
    assert points == [0, 1]  # curves are by iteration


def test_a_model_that_refuses_everything_looks_bad_in_the_report(
    improve: Run, tmp_path: pathlib.Path
) -> None:
    tuned: list[str] = []

    def lines(prompt: str, place: int) -> str:
        if (tmp_path / "w" / "iteration_1" / "tuning").exists():
            tuned.append(prompt)
            return REFUSAL
        return say(prompt, place)

    assert improve(lines=lines)[0] == 0
    assert len(tuned) == 3
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    before, after = summary["comparisons"][0]["rows"]
    assert (before["harmlessness"], before["helpfulness"], before["the lower"]) == (
        "0%", "100%", "0%",
    )  # fmt: skip
    assert (after["harmlessness"], after["helpfulness"], after["the lower"]) == (
        "100%", "0%", "0%",
    )  # fmt: skip
    assert (after["refused, harmful"], after["refused, harmless"]) == ("100%", "100%")
    assert summary["verdicts"]["iteration 1"].startswith("failed: it refuses 100%")
    page = (tmp_path / "w" / "report.html").read_text()
    assert "failed: it refuses 100% of harmless prompts" in page
    assert "wording alone" in page  # what the shares are by
    assert "refusal of a harmless prompt" in page  # why revisions were dropped
    for words in ("Answer before", "Critique by ", "It helps to do harm in", "take "):
        assert words in page
    assert "Training" in page  # both curves, side by side
    assert page.index("Harmlessness <small>") < page.index("Helpfulness <small>")


def prompts_of(*words: str) -> Any:
    return gather_prompts(load_config("constitutional", words))


def test_prompts_come_from_files_of_many_kinds(tmp_path: pathlib.Path) -> None:
    table = tmp_path / "table.csv.gz"
    rows = 'id,prompt,label\n1,"How do I kill, a process?",safe\n2,Build a bomb,unsafe\n3,  ,safe\n'
    table.write_bytes(gzip.compress(rows.encode()))
    goals = tmp_path / "goals.csv"
    goals.write_text("goal,target\nRob a bank,Sure\nrob  a BANK,Sure\nForge a note,Sure\n")
    red = tmp_path / "red.jsonl"
    turns = "\n\nHuman: Where is my ex?\n\nAssistant: Why?\n\nHuman: Just so."
    red.write_text(json.dumps({"transcript": turns, "rating": 1}) + '\n{"prompt": ""}\n')
    found = prompts_of(
        f"prompts.harmful_files={goals},{red}", "prompts.harmful=3",
        f"prompts.frightening_files={table}", "prompts.frightening=1", "prompts.held_out=0",
    )  # fmt: skip
    by_kind = {kind: {a.prompt for a in found.learnt if a.kind == kind}
               for kind in ("harmful", "frightening")}  # fmt: skip
    assert by_kind["harmful"] == {"Rob a bank", "Forge a note", "Where is my ex?"}
    assert by_kind["frightening"] == {"How do I kill, a process?"}
    assert "1 repeated" in found.lines[0]
    assert "1 empty" in found.lines[0]
    assert "1 labelled unsafe" in found.lines[1]
    assert "1 empty" in found.lines[1]


def test_prompts_are_drawn_by_the_seed_and_held_out_ones_stay_out() -> None:
    one, again, other = prompts_of(), prompts_of(), prompts_of("seed=1")
    assert one == again
    assert one.learnt != other.learnt
    assert len(one.learnt) == 128
    assert len(one.held_out) == 48
    assert not {a.prompt for a in one.learnt} & {a.prompt for a in one.held_out}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prompts.harmful=999",), ("prompts.harmful is 999", "only 228 harmful prompts")),
        (("prompts.harmful_files=nowhere.csv",), ("nowhere.csv",)),
        (("prompts.harmful=0", "prompts.frightening=0"), ("nothing to revise",)),
        (("iterations=0",), ("iterations is 0",)),
        (("group=0",), ("group is 0",)),
        (("data.files=x.jsonl",), ("data.helpful_files",)),
        (("preference.train=dppo",), ("did you mean 'dpo'?",)),
        (("preference.train=dpo",), ("preference.prompts is 0",)),
        (("preference.clamp=0.7",), ("clamp is 0.7",)),
        (("revision.rounds=0",), ("rounds is 0",)),
        (("constitution=nowhere.toml",), ("no constitution at nowhere.toml",)),
    ],
)
def test_a_mistake_is_one_sentence(improve: Run, words: tuple[str, ...], said: Any) -> None:
    code, out = improve(*words, small=())
    assert code == 2
    assert_one_sentence(out, *said)


def test_a_table_without_prompts_is_one_sentence(improve: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    code, out = improve(f"prompts.plain_files={path}")
    assert code == 2
    assert_one_sentence(out, "has no column")


def test_the_dry_run_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "constitutional", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "512 texts of 128 prompts" in out
    assert "helpfulness, harmlessness" in out


def test_a_small_model_is_tuned_stopped_and_goes_on_with_what_it_learnt(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script answers as long as nothing is learnt; after that, the tuned model itself."""
    base = tmp_path / "base.gguf"
    params = jax.device_get(init_params(0, MODEL))
    write_gguf(base, params, MODEL, ByteTokenizer(), chat_template=CHATML)
    course = experiments.constitutional_course
    one = partial(make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(experiments.sft, "make_mesh", one)
    loaded: list[tuple[str, ...]] = []
    load_policy = course.load_policy

    def load(config: Any, base: str, adapters: tuple[str, ...]) -> Any:
        loaded.append(adapters)
        return load_policy(config, base, adapters) if adapters else scripted(say)

    monkeypatch.setattr(course, "load_policy", load)
    workdir = tmp_path / "w"
    command = ["--config", "constitutional", "--workdir", str(workdir), "--set", *SMALL]
    command += [
        f"base={base}", "prompts.harmful=12", "prompts.plain=4", "revision.answer_tokens=4",
        "group=4", "lora.rank=4", "data.length=240", "data.epochs=0", "train.steps=6",
        "train.batch=2", "checkpoint.every=2", "optimizer.learning_rate=0.02", "remat=none",
    ]  # fmt: skip
    note = experiments.loop._Loop.note

    def stop(loop: Any, at: int, figures: Any) -> None:
        if at == 4:
            signal.raise_signal(signal.SIGTERM)
        note(loop, at, figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.loop._Loop, "note", stop)
        assert main(command) == 0
    assert "stopped by SIGTERM: saved step" in capsys.readouterr().out
    assert not (workdir / "iteration_1" / "evaluation.jsonl").exists()
    assert main(command) == 0
    adapter = str(workdir / "iteration_1" / "tuning" / "adapter")
    assert loaded == [(), (adapter,)]  # not once more for what was there
    out = capsys.readouterr().out
    assert "resumed from the checkpoint of step" in out
    assert f"model: {base} + {adapter}" in out
    tuned = json.loads((workdir / "iteration_1" / "tuning" / "summary.json").read_text())
    assert tuned["after"]["validation_loss"] < tuned["before"]["validation_loss"]
    assert len(records(workdir / "iteration_1" / "evaluation.jsonl")) == 3
    model, _, _ = load_checkpoint(workdir / "iteration_1" / "tuning")
    own = load_policy(load_config("constitutional"), str(base), (adapter,))
    for one, other in zip(jax.tree.leaves(own.params), jax.tree.leaves(model.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
