"""The layout that trains fastest on a pod, found by compiling those that may fit.

One thing after another is varied around the best so far: the mesh, what is recomputed, the rows a
device, the attention kernel's block. Fastest is by the roofline of the scheduled program, so that
it is a bound and not a measured time.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from experiments.compile_pod_config import CompilePodConfig
from lilith.config import REMAT_POLICIES, ConfigError, MeshConfig
from lilith.config_parsing import to_json
from lilith.data.json_lines import JsonLines
from lilith.pods.report import GIB, PodReport, shape_words
from lilith.pods.topologies import get_topology
from lilith.sharding import ShardingError

TENSOR = (1, 2, 4, 8)
DATA = (1, 2, 4)  # copies of the weights within a slice
CONTEXT = (2, 4, 8)  # tried where a row is long
LONG = 32_768  # tokens of a row that is split over devices
BLOCKS = (256, 1024, 2048)
GAIN = 1.01  # a larger batch must be worth its memory

Compile = Callable[[CompilePodConfig], PodReport]


@dataclasses.dataclass(frozen=True)
class Tried:
    """What came of one setting.

    Attributes:
      words: as ``--set`` takes them.
      speed: tokens a second of a device that the roofline allows; 0 where it does not fit.
      used: bytes of a device, None where the compiler gave no program.
      why: what stood in the way, empty where it fits.
    """

    words: str
    speed: float = 0.0
    mfu: float = 0.0
    used: float | None = None
    why: str = ""

    def line(self) -> str:
        """As a person reads it."""
        if self.why:
            return f"{self.words:<52}  {self.why}"
        memory = f"{(self.used or 0) / GIB:7.2f} GiB"
        return f"{self.words:<52}{memory}{self.speed:12,.0f} tokens/s  MFU {self.mfu:.3f}"


class Search:
    """Settings tried and the best of them; each is kept in ``path`` and not compiled again.

    Args:
      compile: gives the report of a config, or raises what ``refusals`` names.
      refusals: errors that say that a setting does not fit or can not be.
      limit: most settings that are compiled, those of an earlier run included.
    """

    def __init__(
        self,
        config: CompilePodConfig,
        compile: Compile,
        refusals: tuple[type[Exception], ...],
        path: pathlib.Path,
        show: Callable[[str], None],
    ) -> None:
        self.compile = compile
        self.refusals: tuple[type[Exception], ...] = (*refusals, ShardingError, ConfigError)
        self.show, self.limit = show, config.search_limit
        path.parent.mkdir(parents=True, exist_ok=True)
        # How a search ends is no part of a setting: with a higher limit it goes on.
        self.best_config = dataclasses.replace(config, search=False, search_limit=1)
        self.best = Tried("")
        self.report: PodReport | None = None  # of the best, where this process has compiled it
        self.file = JsonLines(path)
        self.file.cut(len(self.file.records))  # and a line that a kill cut off is gone
        self.known = {own["config"]: Tried(**own["tried"]) for own in self.file.records}

    def run(self) -> Tried:
        """Vary one thing after another; the best that fits, with ``speed`` 0 if none does."""
        self.best_config = self._first_that_fits()
        for vary in (meshes, recomputations, more_rows, blocks):
            base = self.best_config
            if vary in (more_rows, blocks) and not self.best.speed:
                break  # nothing fits, and these need no less memory
            for candidate in vary(base):
                before = self.best.speed
                self.consider(candidate)
                # Rows are added for as long as they pay; the other things are all tried.
                if vary is more_rows and self.best.speed < GAIN * before:
                    break
        return self.best

    def _first_that_fits(self) -> CompilePodConfig:
        """The config itself, or with more recomputed and fewer rows."""
        start = self.best_config
        if not self.consider(start).why:
            return self.best_config
        least = dataclasses.replace(start, model=dataclasses.replace(start.model, remat="full"))
        for batch in (start.batch, start.batch / 2, start.batch / 4):
            if not self.consider(dataclasses.replace(least, batch=batch)).why:
                break
        return self.best_config

    def consider(self, config: CompilePodConfig) -> Tried:
        """Compile a setting, unless it is known, and take it if it is the fastest."""
        key = to_json(config)
        found, report = self.known.get(key), None
        if found is None:
            if len(self.known) >= self.limit:
                return Tried(words_of(config), why="not tried: search_limit is reached")
            found, report = self._compiled(config)
            self.known[key] = found
            self.file.append([{"config": key, "tried": dataclasses.asdict(found)}])
            self.show(f"{len(self.known):>3}  {found.line()}")
        if found.speed > self.best.speed:
            self.best_config, self.best, self.report = config, found, report
        return found

    def _compiled(self, config: CompilePodConfig) -> tuple[Tried, PodReport | None]:
        words = words_of(config)
        try:
            report = self.compile(config)
        except self.refusals as error:
            return Tried(words, why=str(error)), None
        bound = report.roofline.scheduled_bound
        speed = report.rows * report.length / bound / report.topology.devices
        mfu = report.roofline.scheduled_mfu_bound
        return Tried(words, speed, mfu, float(report.memory.used)), report


def words_of(config: CompilePodConfig) -> str:
    """What the search varies, as ``--set`` takes it."""
    mesh = dataclasses.asdict(config.mesh)
    words = [f"mesh.{name}={size}" for name, size in mesh.items() if size not in (1, -1)]
    words += [f"model.remat={config.model.remat}", f"batch={config.batch:g}"]
    if config.model.attention_block:
        words.append(f"model.attention_block={config.model.attention_block}")
    return " ".join(words)


def meshes(config: CompilePodConfig) -> Iterator[CompilePodConfig]:
    """Products of data, context and tensor that divide the devices and the heads."""
    devices = get_topology(config.topology, config.slices).devices
    heads = math.gcd(config.model.heads, config.model.kv_heads)
    contexts = (1, *CONTEXT) if config.row_length >= LONG else (1,)
    for tensor in TENSOR:
        for context in contexts:
            for copies in DATA:
                data = copies * config.slices
                if heads % tensor or devices % (data * context * tensor):
                    continue
                if devices // (data * context * tensor) == 1 and devices > 1 and tensor == 1:
                    continue  # every device would hold all weights
                sizes = MeshConfig(data=data, fsdp=-1, context=context, tensor=tensor)
                yield dataclasses.replace(config, mesh=sizes)


def recomputations(config: CompilePodConfig) -> Iterator[CompilePodConfig]:
    """What is kept of a layer, from the least to the most."""
    for policy in reversed(REMAT_POLICIES):
        yield dataclasses.replace(config, model=dataclasses.replace(config.model, remat=policy))


def more_rows(config: CompilePodConfig) -> Iterator[CompilePodConfig]:
    """Twice the rows a device, again and again."""
    for doubling in range(1, 7):
        yield dataclasses.replace(config, batch=config.batch * 2**doubling)


def blocks(config: CompilePodConfig) -> Iterator[CompilePodConfig]:
    """Blocks of the attention kernel that divide a row."""
    for block in BLOCKS:
        if config.row_length % block == 0:
            model = dataclasses.replace(config.model, attention_block=block)
            yield dataclasses.replace(config, model=model)


def summary(search: Search, report: PodReport) -> dict[str, Any]:
    """Everything that was tried, the fastest first, and the best's mesh, ready for JSON."""
    tried = sorted(search.known.values(), key=lambda own: -own.speed)
    return {
        "best": search.best.words,
        "mesh": shape_words(report.mesh),
        "tried": [dataclasses.asdict(own) for own in tried],
    }
