"""The command line: run, resume or look at an experiment.

python -m experiments.run --config configs/pretrain_nano.py
python -m experiments.run --config pretrain_code --set model=7b --dry-run
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import os
import pathlib
import runpy
import sys
from collections.abc import Sequence

from lilith.config import ConfigError, ExperimentConfig, UserError, nearest
from lilith.config_parsing import apply_overrides, from_json

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
# The module of each stage has run(config, workdir) and dry_run(config).
STAGES = {"pretrain": "experiments.pretrain"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 with one sentence on stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.config is None:
        parser.print_help()
        return 2
    try:
        config = load_config(options.config, options.set)
        stage = _stage(config)
        _start_jax(options)
        with _one_line_interrupt():
            if options.dry_run:
                return stage.dry_run(config)
            workdir = pathlib.Path(options.workdir or pathlib.Path("runs") / config.name)
            return stage.run(config, workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def load_config(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The config in file ``name`` (a path, a name in ``configs/``, or a run's config.json).

    Raises:
      ConfigError: no such file, a file that gives no config, or an override that does not fit.
    """
    from lilith.model.presets import PRESETS

    path = _find(name)
    config: object = None
    if path.suffix == ".json":
        config = from_json(ExperimentConfig, path.read_text())
    else:
        try:
            function = runpy.run_path(str(path)).get("config")
        except UserError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the config file {path} can not be read: {type(error).__name__}: {error}"
            ) from error
        config = function() if callable(function) else None
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"{path} has no function config() that returns an ExperimentConfig")
    return apply_overrides(config, overrides, {"model": PRESETS})


def _find(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if path.is_file():
        return path
    named = CONFIGS / f"{path.stem if path.suffix == '.py' else path.name}.py"
    if path.parent in (pathlib.Path("."), pathlib.Path("configs")) and named.is_file():
        return named
    known = sorted(_descriptions())
    raise ConfigError(f"no config {name!r}{nearest(path.stem, known)}; known: {', '.join(known)}")


def _stage(config: ExperimentConfig):
    if config.stage not in STAGES:
        raise ConfigError(
            f"stage is {config.stage!r}{nearest(config.stage, STAGES)}; known: {', '.join(STAGES)}"
        )
    return importlib.import_module(STAGES[config.stage])


def _start_jax(options: argparse.Namespace) -> None:
    """Join the other processes of the run, if it has several, before jax looks for devices."""
    import jax

    from lilith.paths import use_compilation_cache

    use_compilation_cache()
    if options.processes == 1:
        return
    if options.coordinator is None and options.process is not None:
        raise UserError("--process needs --coordinator HOST:PORT and --processes N")
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run could not find each other: {error}") from None


@contextlib.contextmanager
def _one_line_interrupt():
    try:
        yield
    except KeyboardInterrupt:
        raise UserError("stopped by Ctrl-C before training began; nothing was saved") from None


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
    parser.add_argument("--workdir", metavar="DIR", help="the run's folder (default: runs/NAME)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print parameters, memory, FLOPs and the first batch, and train nothing",
    )
    several = parser.add_argument_group(
        "several processes", "the same command in each; Cloud TPU finds the values by itself"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--processes", metavar="N", type=int, help="how many there are", default=1)
    several.add_argument("--process", metavar="I", type=int, help="this one's number, from 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
