"""The command line: run, resume or look at an experiment.

python -m experiments.run --config configs/pretrain_nano.py
python -m experiments.run --config pretrain_code --set model=7b --dry-run
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import importlib
import json
import math
import os
import pathlib
import runpy
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from experiments import hosts
from experiments.agent_config import AgentConfig
from experiments.bucket import claim_bucket, code_of, place, send_files
from experiments.chat_config import ChatConfig
from experiments.compile_pod_config import CompilePodConfig
from experiments.constitutional_config import ConstitutionalConfig
from experiments.evaluate_config import EvaluateConfig
from experiments.goodput import start_clock
from experiments.instructions_config import InstructionsConfig
from experiments.pipeline_config import PipelineConfig
from experiments.preference_config import PreferenceConfig
from experiments.reason_config import ReasonConfig
from experiments.rl_config import RLConfig
from experiments.roll_call import RestartError
from experiments.tuning_config import TuningConfig
from lilith.config import ConfigError, ExperimentConfig, UserError, nearest
from lilith.config_parsing import apply_overrides, from_json

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
# The module of each stage has run(config, workdir) and dry_run(config).
STAGES = {
    "pretrain": "experiments.pretrain",
    "sft": "experiments.sft",
    "reward": "experiments.reward",
    "dpo": "experiments.dpo",
    "rl": "experiments.rl",
    "constitutional": "experiments.constitutional",
    "chat": "experiments.chat",
    "reason": "experiments.reason",
    "agent": "experiments.agent",
    "make_instructions": "experiments.make_instructions",
    "evaluate": "experiments.evaluate",
    "compile_pod": "experiments.compile_pod",
    "pipeline": "experiments.pipeline",
}
# What a file in configs/ may return; a run's config.json is of the class that has its stage.
Config = (
    ExperimentConfig | TuningConfig | PreferenceConfig | RLConfig | ChatConfig | InstructionsConfig
    | EvaluateConfig | ReasonConfig | ConstitutionalConfig | AgentConfig
    | CompilePodConfig
    | PipelineConfig
)  # fmt: skip
CONFIG_CLASSES = get_args(Config)
# What a disk refuses; anything else of the system is a fault of the program.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done, or stopped by SIGTERM with everything saved; 2: one sentence on stderr says what is
    wrong; 75: a host is lost or hangs, or a bucket fails, one sentence says which, and the same
    command goes on; 130: stopped by Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.config is None:
        parser.print_help()
        return 2
    config: Any = None
    try:
        config = load_config(options.config, options.set)
        stage = _stage(config)
        start_clock()
        config, workdir = place(config, options.workdir or f"runs/{config.name}")
        _start_jax(options, config)
        if options.dry_run:
            code = stage.dry_run(config)
        else:
            claim_bucket(config, workdir)
            code = stage.run(config, workdir)
            send_files(config, workdir)
        if (others := hosts.current()) is not None:
            others.leave()
        return code
    except RestartError as error:
        return _failed(str(error), hosts.RESTART)
    except UserError as error:
        return _failed(str(error), code_of(error, config))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            _crashed(error)
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror}; mend that and run the same command")
    except KeyboardInterrupt:
        sentence = "stopped by Ctrl-C; the same command goes on from what was saved"
        if hosts.current() is not None:
            hosts.stop(sentence, 130)
        print(sentence, file=sys.stderr)
        return 130
    except Exception as error:
        _crashed(error)


def _failed(sentence: str, code: int = 2) -> int:
    """Say what is wrong; as one of several processes, tell the others and end at once."""
    if hosts.current() is not None:
        # Leaving by the front door, jax would wait for processes that wait for this one.
        hosts.stop(sentence, code, patience=hosts.ALIKE_SECONDS)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return code


def _crashed(error: Exception) -> NoReturn:
    """Let a fault of the program through; as one of several processes, tell the others."""
    if hosts.current() is None:
        raise error
    # The collectives fail like this when another process has gone: the watch then ends this one.
    time.sleep(hosts.VERDICT_SECONDS)
    traceback.print_exc()
    hosts.stop(f"{type(error).__name__}: {error}".splitlines()[0], 1)


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """The config in file ``name`` (a path, a name in ``configs/``, or a run's config.json).

    Raises:
      ConfigError: no such file, a file that gives no config, or an override that does not fit.
    """
    from lilith.model.presets import PRESETS

    path = _find(name)
    config: object = None
    try:
        if path.suffix == ".json":
            config = _from_json(path.read_text())
        else:
            function = runpy.run_path(str(path)).get("config")
            config = function() if callable(function) else None
    except UserError as error:
        raise ConfigError(f"in the config file {path}: {error}") from None
    except Exception as error:
        raise ConfigError(
            f"the config file {path} can not be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(config, CONFIG_CLASSES):
        known = ", ".join(cls.__name__ for cls in CONFIG_CLASSES)
        raise ConfigError(f"{path} has no function config() that returns one of {known}")
    return apply_overrides(config, overrides, {"model": PRESETS})


def _from_json(text: str) -> Config:
    """The config that a run wrote, of the class that its stage belongs to."""
    with contextlib.suppress(ValueError, AttributeError):
        stage = json.loads(text).get("stage")
        own = {name: cls for cls in CONFIG_CLASSES for name in _stages_of(cls)}
        if stage in own:
            return from_json(own[stage], text)
    return from_json(ExperimentConfig, text)


def _stages_of(cls: Any) -> tuple[str, ...]:
    """The stages whose config a class is: its ``own_stages``, or what ``stage`` starts as."""
    return getattr(cls, "own_stages", (cls.stage,))


def _find(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if path.is_file():
        return path
    named = CONFIGS / f"{path.stem if path.suffix == '.py' else path.name}.py"
    if path.parent in (pathlib.Path("."), pathlib.Path("configs")) and named.is_file():
        return named
    known = sorted(_descriptions())
    raise ConfigError(f"no config {name!r}{nearest(path.stem, known)}; known: {', '.join(known)}")


def _stage(config: Config):
    if config.stage not in STAGES:
        raise ConfigError(
            f"stage is {config.stage!r}{nearest(config.stage, STAGES)}; known: {', '.join(STAGES)}"
        )
    return importlib.import_module(STAGES[config.stage])


def _start_jax(options: argparse.Namespace, config: Config) -> None:
    """Join the other processes of the run, if it has several, before jax looks for devices."""
    import jax

    from lilith.paths import use_compilation_cache

    use_compilation_cache()
    if options.processes is None:
        if options.coordinator is not None or options.process is not None:
            raise UserError("--coordinator and --process need --processes N, how many there are")
        return
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    hosts.join(
        options.coordinator,
        options.processes,
        options.process,
        config=config,
        command={"--workdir": options.workdir, "--dry-run": options.dry_run},
        start_timeout=options.start_timeout,
        host_timeout=options.host_timeout,
    )


def _seconds(text: str) -> float:
    """A number of seconds of the command line, 1 or more."""
    with contextlib.suppress(ValueError):
        if 1.0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 1 or more")


def _descriptions() -> dict[str, str]:
    """The first line of every config file, read without running it."""
    found = {}
    for path in sorted(CONFIGS.glob("*.py")):
        if path.stem != "__init__":
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[path.stem] = text.partition("\n")[0]
    return found


def _parser() -> argparse.ArgumentParser:
    descriptions = _descriptions()
    width = max((len(name) for name in descriptions), default=0)
    lines = [f"  {name:<{width}}  {text}" for name, text in descriptions.items()]
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description="Run an experiment; the same command again resumes it.",
        epilog="configs:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", metavar="NAME", help="a file in configs/, a path, or a run's config.json"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change a field: --set model.layers=4 optimizer.learning_rate=3e-4, or model=7b",
    )
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="the run's folder, or gs://BUCKET/RUN (default: runs/NAME)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, memory, FLOPs and the first batch, and train nothing",
    )
    several = parser.add_argument_group(
        "several processes", "the same command in each; Cloud TPU finds the values by itself"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--processes", metavar="N", type=int, help="how many there are")
    several.add_argument("--process", metavar="I", type=int, help="this one's number, from 0")
    several.add_argument(
        "--start-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=300.0,
        help="how long to wait for all of them to come (300)",
    )
    several.add_argument(
        "--host-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long one may be silent before the rest stop (30)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
