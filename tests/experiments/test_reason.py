"""The stage reason: a trace that grows on the screen, two files, mistakes in one sentence."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tiny_run import Output, assert_one_sentence

import experiments.run
from experiments.reason_config import ADVANCED, MOST_SHOTS, STRATEGIES, ReasonConfig
from experiments.reason_console import Console, Watched, trace_lines
from lilith.config import ConfigError
from lilith.inference.engine import CALL_TOKENS
from lilith.inference.language_model import LanguageModel
from lilith.model.params import init_params
from lilith.model.presets import PRESETS
from lilith.reasoning.calibration import Calibrator
from lilith.reasoning.metacognition import MetacognitiveMonitor
from lilith.reasoning.prompting import SHOTS
from lilith.reasoning.trace import Alternative, Decision, ReasoningStrategy, ReasoningTrace
from lilith.tokenizer import ByteTokenizer

PROBLEM = "How many pens are 3 boxes of 4 pens?"
GOOD = "Step 1: There are 3 * 4 = 12 pens.\nAnswer: 12"
WRONG = "Step 1: There are 3 * 4 = 13 pens.\nAnswer: 13"
PROGRAM = "```python\nprint(3 * 4)\n```"


def scripted(*arguments: Any, **settings: Any) -> Any:
    """The scripted model of the tests of reasoning."""
    folder = str(pathlib.Path(__file__).resolve().parent.parent / "reasoning")
    if folder not in sys.path:
        sys.path.append(folder)
    from scripted_model import ScriptedModel

    return ScriptedModel(*arguments, **settings)


Reason = Callable[..., tuple[int, Output]]


@pytest.fixture
def reason(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Reason:
    """The command with a model in place of what it would load: its exit code and output."""

    def run(*words: str, model: Any = None, dry: bool = False) -> tuple[int, Output]:
        def load(where: str) -> tuple[Any, None, str]:
            assert model is not None, "the mistake should be found before the model is loaded"
            return model, None, f"the model {where}"

        monkeypatch.setattr("lilith.interop.load_checkpoint", load, raising=False)
        more = ["--dry-run"] if dry else []
        code = experiments.run.main(
            ["--config", "reason", "--workdir", str(tmp_path / "w"), "--set", *words, *more]
        )
        return code, Output(*capsys.readouterr())

    return run


def trace_in(folder: pathlib.Path) -> ReasoningTrace:
    return ReasoningTrace.from_json((folder / "w" / "trace.json").read_text())


def asked(*words: str) -> list[str]:
    return [f"prompt={PROBLEM}", *words]


def test_a_text_grows_with_its_arithmetic_marked(reason: Reason, tmp_path: pathlib.Path) -> None:
    text = "Step 1: There are 3 * 4 = 13 pens.\nStep 2: 10 + 2 = 12.\nAnswer: 12"
    code, out = reason(
        *asked("strategy=chain_of_thought", "checkpoint=some"), model=scripted([text])
    )
    assert (code, out.err) == (0, "")
    lines = out.out.splitlines()
    assert lines[:3] == ["the model some", f"problem: {PROBLEM}", "strategy: chain_of_thought"]
    assert "text | Step 1: There are 3 * 4 = 13 [wrong: it is 12] pens." in lines
    assert "text | Step 2: 10 + 2 = 12 [right]." in lines
    assert "Step 1: There are 3 * 4 = 13 [wrong: it is 12] pens." in lines  # the trace's own
    assert "answer      12" in lines
    (confidence,) = [line for line in lines if line.startswith("confidence")]
    assert confidence.endswith("% (not calibrated)")
    assert any(line.startswith("cost        ") and "tokens written" in line for line in lines)
    folder = tmp_path / "w"
    assert lines[-2:] == [f"trace: {folder / 'trace.json'}", f"page: {folder / 'trace.html'}"]
    trace = trace_in(tmp_path)
    assert (trace.final_answer, trace.calibrated) == ("12", False)
    assert (folder / "trace.html").read_text() == trace.to_html()


def test_settings_reach_the_strategy(reason: Reason, tmp_path: pathlib.Path) -> None:
    model = scripted([GOOD, WRONG, GOOD])
    code, out = reason(
        *asked("strategy=self_consistency", "samples=3", "max_tokens=40", "temperature=0.9",
               "seed=7", "shots=1", "ask_p_true=false", "top_p=0.8"),
        model=model,
    )  # fmt: skip
    assert code == 0
    (settings,) = model.settings
    found = {name: settings[name] for name in ("n", "max_tokens", "temperature", "top_p", "seed")}
    assert found == {"n": 3, "max_tokens": 40, "temperature": 0.9, "top_p": 0.8, "seed": 7}
    assert SHOTS[0].problem in model.prompts[0]
    assert SHOTS[1].problem not in model.prompts[0]
    assert model.scored == []  # P(True) was not asked for
    assert "text 1 of 3 | Step 1: There are 3 * 4 = 12 [right] pens." in out.out
    assert "text 2 of 3: 12 tokens, ends: Answer: 13" in out.out
    assert "  12: 2 votes\n  13: 1 votes\n" in out.out
    assert trace_in(tmp_path).signals["vote_share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("strategy", [own.value for own in ReasoningStrategy])
def test_every_strategy_runs(reason: Reason, tmp_path: pathlib.Path, strategy: str) -> None:
    text = PROGRAM if strategy == "program" else GOOD
    model = scripted(lambda prompt, place: text)
    code, _ = reason(*asked(f"strategy={strategy}", "depth=2", "samples=2"), model=model)
    assert code == 0
    trace = trace_in(tmp_path)
    assert (trace.strategy.value, trace.final_answer) == (strategy, "12")


def test_the_advanced_reasoner_says_its_decisions_with_their_cost(
    reason: Reason, tmp_path: pathlib.Path
) -> None:
    said = iter([WRONG, PROGRAM])
    model = scripted(lambda prompt, place: next(said, GOOD), chat=True)
    code, out = reason(*asked("samples=3"), model=model)
    assert code == 0
    trace = trace_in(tmp_path)
    assert trace.final_answer == "12"
    lines = out.out.splitlines()
    (think,) = [line for line in lines if line.startswith("think: ")]
    assert "13" in think
    assert " tokens, " in think
    for decision in trace.decisions:
        assert sum(f"{decision.action}: {decision.reason} (" in line for line in lines) == 1
    wrong = lines.index("Step 1: There are 3 * 4 = 13 [wrong: it is 12] pens.")
    assert wrong < lines.index(think)  # as it grew, not at the end
    assert "decisions:" not in lines


def test_what_is_against_the_constitution_is_not_shown(reason: Reason) -> None:
    text = "Step 1: Write to jane.doe@example.com about 3 * 4 = 12.\nAnswer: 12"
    _, out = reason(*asked(), model=scripted(lambda prompt, place: text))
    assert "3 * 4 = 12" in out.out
    assert "jane.doe@example.com" not in out.out
    _, plain = reason(*asked("constitutional=false"), model=scripted(lambda prompt, place: text))
    assert "jane.doe@example.com" in plain.out
    code, out = reason("prompt=Write me a phishing e-mail that steals passwords.",
                       model=scripted([]))  # fmt: skip
    assert code == 0
    assert "safety      what the constitution objects to:" in out.out
    assert "principle: " in out.out


def test_a_calibrator_makes_the_confidence_measured(reason: Reason, tmp_path: pathlib.Path) -> None:
    rows = [{"truncated": float(i % 2)} for i in range(40)]
    fitted = Calibrator.fit(rows, [1 - i % 2 if i > 3 else i % 2 for i in range(40)])
    fitted.save(tmp_path / "calibrator.json")
    MetacognitiveMonitor(0.4, fitted).save(tmp_path / "monitor.json")
    for name in ("calibrator", "monitor"):
        code, out = reason(
            *asked("strategy=chain_of_thought", f"calibrator={tmp_path / name}.json",
                   "ask_p_true=false"),
            model=scripted([GOOD]),
        )  # fmt: skip
        assert code == 0, out.err
        expected = fitted.predict([{"truncated": 0.0}])[0]
        assert f"confidence  {expected:.0%}\n" in out.out
        assert trace_in(tmp_path).calibrated
    code, out = reason(*asked(f"calibrator={tmp_path / 'monitor'}.json"),
                       model=scripted(lambda prompt, place: GOOD))  # fmt: skip
    assert "(not calibrated)" not in out.out
    MetacognitiveMonitor().save(tmp_path / "monitor.json")
    code, out = reason(*asked(f"calibrator={tmp_path / 'monitor'}.json"))
    assert code == 2
    assert_one_sentence(out, "before it was calibrated")


def test_a_budget_ends_the_work(reason: Reason, tmp_path: pathlib.Path) -> None:
    endless = scripted(lambda prompt, place: "no end <never ends>")
    code, out = reason(*asked("strategy=self_consistency", "budget.tokens=4"), model=endless)
    assert code == 0
    assert "answer      none" in out.out
    assert "error       the budget" in out.out
    assert trace_in(tmp_path).final_answer is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=self_consistncy", "prompt=x"], ["did you mean 'self_consistency'", "advanced"]),
        (["prompt= "], ["prompt is", "give a problem"]),
        (["strategy=direct"], ["there is no problem", "--set prompt="]),
        (["prompt=x", "calibrator=/no/such.json"], ["/no/such.json", "can not be read"]),
        (["prompt=x", "constitution=/no/such.toml"], ["no constitution at /no/such.toml"]),
        (["prompt=x", "constitution=a.toml", "strategy=direct"], ["only strategy=advanced"]),
        (["prompt=x", "constitution=a.toml", "constitutional=false"], ["applies none"]),
        (["prompt=x", "max_tokens=0"], ["max_tokens is 0"]),
        (["prompt=x", "samples=0"], ["samples is 0"]),
        (["prompt=x", "answer_kind=word"], ["answer_kind is 'word'"]),
        (["prompt=x", "temperature=-1"], ["temperature is -1"]),
        (["prompt=x", "temperature=nan"], ["temperature is nan"]),
        (["prompt=x", "top_p=0"], ["top_p is 0"]),
        (["prompt=x", "shots=4"], ["shots is 4", "0 to 3"]),
        (["prompt=x", "threshold=1.5"], ["threshold is 1.5"]),
        (["prompt=x", "seed=-1"], ["seed is -1"]),
        (["prompt=x", "budget.tokens=0"], ["budget.tokens is 0"]),
        (["prompt=x", "budget.seconds=0"], ["budget.seconds is 0"]),
        (["prompt=x", "checkpoint="], ["checkpoint is ''"]),
        (["prompt=x", "template=mine"], ["template is 'mine'", "chatml"]),
        (["prompt=x", "stage=sft"], ["a ReasonConfig has stage 'reason'"]),
        (["prompt=x", "promt=y"], ["promt", "did you mean 'prompt'"]),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_loaded(
    reason: Reason, words: list[str], said: list[str]
) -> None:
    code, out = reason(*words)
    assert code == 2
    assert_one_sentence(out, *said)


def test_a_problem_longer_than_the_context(reason: Reason) -> None:
    code, out = reason(*asked("strategy=direct"), model=scripted([GOOD], context=8))
    assert code == 2
    assert_one_sentence(out, "longer than the context")


def test_a_workdir_that_is_a_file(reason: Reason, tmp_path: pathlib.Path) -> None:
    (tmp_path / "w").write_text("mine")
    code, out = reason(*asked())
    assert code == 2
    assert_one_sentence(out, "is a file")
    assert (tmp_path / "w").read_text() == "mine"


def test_ctrl_c_and_a_reader_that_has_gone(
    reason: Reason, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(prompt: str, place: int) -> str:
        raise KeyboardInterrupt

    code, out = reason(*asked("strategy=direct"), model=scripted(stopped))
    assert (code, out.err) == (130, "stopped by Ctrl-C\n")
    assert not (tmp_path / "w").exists()
    printed = print

    def broken(*words: object, **more: Any) -> None:
        if more.get("file") is None:
            raise BrokenPipeError
        printed(*words, **more)

    monkeypatch.setattr("builtins.print", broken)
    monkeypatch.setattr("os.dup2", lambda one, other: None)
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1)
    code, _ = reason(*asked("strategy=direct"), model=scripted([GOOD]))
    assert code == 0
    assert trace_in(tmp_path).final_answer == "12"  # the work is not lost


def test_a_dry_run_loads_nothing(reason: Reason, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "model.gguf"
    place.write_bytes(b"x" * 2_000_000)
    code, out = reason(*asked(f"checkpoint={place}", "budget.seconds=none"), dry=True)
    assert (code, out.err) == (0, "")
    for words in (
        "strategy advanced",
        "2.0 MB",
        "8,192 tokens, any time",
        "samples     8",
        PROBLEM,
    ):
        assert words in out.out
    assert not (tmp_path / "w").exists()
    assert reason("prompt=x", "calibrator=/no/such.json", f"checkpoint={place}", dry=True)[0] == 2


def test_the_config_knows_what_reasoning_knows() -> None:
    assert set(STRATEGIES) == {own.value for own in ReasoningStrategy} | {ADVANCED}
    assert len(SHOTS) == MOST_SHOTS
    assert ReasonConfig().strategy == ADVANCED
    with pytest.raises(ConfigError, match="name is ''"):
        ReasonConfig(name="")
    assert experiments.run.load_config("reason") == ReasonConfig()


def test_what_a_finished_trace_says() -> None:
    trace = ReasoningTrace(
        PROBLEM, final_answer="12", confidence=0.25, verified=False, truncated=True, looped=True,
        calibrated=True, decisions=(Decision("vote", "two of three", 1_234, 75.0),),
        alternatives=(Alternative("12", 2, 1.5), Alternative(None, 1, 0.25)),
        violations=("a sentence", {"principle": "privacy", "evidence": ""}), is_safe=False,
        tokens=2_000, seconds=90.0,
    )  # fmt: skip
    assert list(trace_lines(trace)) == [
        "decisions:", "  vote: two of three (1,234 tokens, 1m15s)",
        "answers that were found:", "  12: 2 votes, score 1.5", "  none: 1 votes, score 0.25",
        "warning     the text was cut off at a limit",
        "warning     the text says the same again and again",
        "answer      12", "confidence  25%", "verified    a verifier rejects it",
        "safety      what the constitution objects to:", "  a sentence", "  principle: privacy",
        "cost        2,000 tokens written, 1m30s",
    ]  # fmt: skip


# With a model of its own


def test_a_real_model_is_watched(capsys: pytest.CaptureFixture[str]) -> None:
    config = dataclasses.replace(
        PRESETS["tiny"], layers=1, compute_dtype="float32", context=CALL_TOKENS * 4
    )
    model = LanguageModel(init_params(0, config), config, ByteTokenizer())
    prompts, pieces = ["One", "Two"], []
    settings = {"max_tokens": CALL_TOKENS + 6, "temperature": 1.0, "seed": 3}
    found = model.generate_batch(prompts, on_text=pieces.append, **settings)
    assert len(pieces) > 1  # it grew
    assert ["".join(own) for own in zip(*pieces, strict=True)] == [own.text for own in found]
    watched = Watched(model, Console())
    assert list(watched.generate_batch(prompts, **settings)) == found
    out = capsys.readouterr().out
    assert "text 1 of 2 | " in out
    assert f"text 2 of 2: {len(found[1].tokens)} tokens, ends: " in out
    assert "\x1b" not in out  # what a terminal would take for a command is written out
