"""A run's ``report.html``: one self-contained file made from nothing but the run's folder.

``config.json``, ``metrics.jsonl``, ``samples.json`` and ``summary.json`` are read where they exist;
what is missing or unreadable is named on the page. ``summary.json`` may hold anything; these keys
have a place of their own: ``parameters``, ``tokens``, ``wall_seconds``, ``packing_waste`` (a
share), ``baselines`` ({"model": bits per byte, "xz -9": ...}), ``corpus`` (a list of {"source",
"documents", "bytes", "tokens", "share"}), ``description`` (a text), ``comparisons`` (tables, each
{"title", "note", "rows"}), ``transcripts`` (a list of {"title", "parts": [[name, text], ...]}),
``verdicts``, ``judge``, ``tokenizer`` and ``versions``.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.curves import CURVES, reward_sources
from experiments.plots import ACCENT, FAINT, SECOND, Series, bar_chart, line_chart, smooth
from experiments.progress import format_duration, visible_text
from lilith.config import UserError
from lilith.train.metrics import read_metrics, write_atomically

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
FREE_TABLES = (
    "verdicts",
    "judge",
    "losses",
    "answers",
    "preferences",
    "calibration",
    "tokenizer",
    "versions",
)


class ReportError(UserError):
    """The report or the samples can not be written."""


def write_report(run_dir: Path) -> Path:
    """Build ``run_dir/report.html`` from the files beside it, atomically; returns its path.

    Raises:
      ReportError: the folder does not exist or can not be written.
    """
    notes: list[str] = []
    config = _read_json(run_dir / "config.json", dict, notes)
    samples = _read_json(run_dir / "samples.json", list, notes)
    summary = _read_json(run_dir / "summary.json", dict, notes)
    metrics: list[dict[str, Any]] = []
    try:
        metrics = read_metrics(run_dir / "metrics.jsonl")
        if not metrics:
            notes.append("metrics.jsonl: no step has been logged yet")
    except (UserError, OSError) as error:
        notes.append(str(error))
    return _write(run_dir / "report.html", render_report(config, metrics, samples, summary, notes))


def write_samples(run_dir: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    """Write all samples ({"step", "prompt", "text"}) as samples.json and, to read, samples.md.

    Raises:
      ReportError: the folder does not exist or can not be written.
    """
    _write(run_dir / "samples.json", json.dumps(list(samples), indent=1) + "\n")
    lines = ["# Samples by step", ""]
    for step, texts in _by_step(samples):
        lines += [f"## Step {step:,}", ""]
        for sample in texts:
            text = visible_text(sample["prompt"] + sample["text"])
            longest = max(map(len, re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)  # longer than any within, so that none closes it
            lines += [f"{fence}text", text, fence, ""]
    return _write(run_dir / "samples.md", "\n".join(lines))


def render_report(
    config: Mapping[str, Any] | None,
    metrics: Sequence[Mapping[str, Any]],
    samples: Sequence[Mapping[str, Any]] | None,
    summary: Mapping[str, Any] | None,
    missing: Sequence[str] = (),
) -> str:
    """The page, as HTML. Every text is escaped; ``missing`` are sentences on what is absent."""
    config, summary, samples = config or {}, summary or {}, samples or []
    baselines = {
        str(name): float(value)
        for name, value in _mapping(summary.get("baselines")).items()
        if _is_finite(value)
    }
    if "model" not in baselines and (known := _points(metrics, "validation_bits_per_byte")):
        baselines["model"] = known[-1][1]
    return page_template("report.html.jinja").render(
        title=config.get("name", "A run without a name"),
        stage=config.get("stage", "run"),
        description=_description(config, summary),
        facts=_facts(config, metrics, summary),
        missing=missing,
        bits=_bits(baselines),
        charts=charts(metrics),
        samples=_by_step(samples),
        corpus=table_of(summary.get("corpus")),
        comparisons=_comparisons(summary.get("comparisons")),
        transcripts=_transcripts(summary.get("transcripts")),
        tables=_tables(summary),
        config=json.dumps(config, indent=2, ensure_ascii=False) if config else "",
    )


@functools.cache
def page_template(name: str) -> jinja2.Template:
    """A template of the folder, in which every text that is not a chart is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # Only the charts are Markup; any other text may hold control characters or surrogates.
        finalize=lambda value: visible_text(value) if type(value) is str else value,
    )
    return environment.get_template(name)


def _read_json(path: Path, kind: type, notes: list[str]) -> Any:
    """The file's content if it is of that kind; else None, and a note that says why."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append(f"{path.name}: the run has not written it yet")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} can not be read: {error}")
    else:
        if isinstance(content, kind):
            return content
        notes.append(f"{path.name} holds a {type(content).__name__}; expected a {kind.__name__}")
    return None


def _write(path: Path, text: str) -> Path:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, value) of the records that hold a finite ``key``, by step."""
    found = {record["step"]: record[key] for record in metrics if _is_finite(record.get(key))}
    return sorted(found.items())


def _count(value: float) -> str:
    """A count in three digits: 812, 4.21 million."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"


def _description(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What the run is, in a sentence or two, as far as it is known."""
    if isinstance(summary.get("description"), str):
        return str(summary["description"])
    model = _mapping(config.get("model"))
    data = _mapping(config.get("data"))
    sentences = []
    if {"layers", "d_model", "heads", "kv_heads", "vocab"} <= model.keys():
        sentences.append(
            f"A decoder-only transformer of {model['layers']} layers, width {model['d_model']}, "
            f"{model['heads']} query and {model['kv_heads']} key/value heads, with a vocabulary of "
            f"{model['vocab']:,} tokens"
        )
        sources = [str(_mapping(s).get("name")) for s in data.get("sources") or ()]
        if sources:
            sentences[0] += f", trained on {_list_in_words(sources)}"
        if "length" in data:
            sentences[0] += f" in rows of {data['length']:,} tokens"
    if _is_finite(summary.get("packing_waste")):
        waste = 100 * summary["packing_waste"]
        sentences.append(f"Packing documents into rows wastes {waste:.2g}% of the tokens")
    return ". ".join(sentences) + "." if sentences else "Nothing is known of this run yet."


def _list_in_words(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _facts(
    config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for key in ("parameters", "tokens"):
        if _is_finite(summary.get(key)):
            facts.append(
                (key if key == "parameters" else "tokens trained on", _count(summary[key]))
            )
    if metrics:
        step = max(record["step"] for record in metrics)
        total = config.get("iterations") or _mapping(config.get("train")).get("steps")
        name = "iterations" if "iterations" in config else "steps"
        facts.append((name, f"{step:,}/{total:,}" if total else f"{step:,}"))
    if _is_finite(summary.get("wall_seconds")):
        facts.append(("time", format_duration(summary["wall_seconds"])))
    for key, label in (("loss", "training loss"), ("validation_loss", "validation loss")):
        if points := _points(metrics, key):
            facts.append((label, f"{points[-1][1]:.3f}"))
    if speeds := sorted(value for _, value in _points(metrics, "tokens_per_second")):
        facts.append(("median tokens/s", f"{speeds[len(speeds) // 2]:,.0f}"))
    if goodput := _points(metrics, "goodput"):
        facts.append(("goodput (time in steps kept)", f"{goodput[-1][1]:.0%}"))
    return facts


def _bits(baselines: Mapping[str, float]) -> dict[str, Any] | None:
    """The comparison in bits per byte, lowest first; nothing without the model's own figure."""
    if "model" not in baselines:
        return None
    model = baselines["model"]
    labelled = {"this model" if name == "model" else name: v for name, v in baselines.items()}
    ordered = dict(sorted(labelled.items(), key=lambda item: item[1]))
    words = [
        f"{abs(1 - model / value):.1%} {'fewer' if model < value else 'more'} than {name}"
        for name, value in baselines.items()
        if name != "model" and value > 0
    ]
    figures = ", ".join(f"{name} {value:.3f}" for name, value in ordered.items())
    return {
        "model": model,
        "sentence": f": {_list_in_words(words)}" if words else "",
        "rows": [{"name": k, "value": v, "best": k == "this model"} for k, v in ordered.items()],
        "chart": _markup(
            bar_chart("bits", f"Bits per byte: {figures}", ordered, highlight="this model")
        ),
    }


def charts(metrics: Sequence[Mapping[str, Any]], run: str = "") -> list[dict[str, Any]]:
    """The training curves of which there is at least one point.

    Args:
      run: keeps the ids of a run's charts apart from others' on the same page.
    """
    found = []
    train, validation = _points(metrics, "loss"), _points(metrics, "validation_loss")
    if train or validation:
        steps, losses = [x for x, _ in train], [y for _, y in train]
        held_out = [y for _, y in validation]
        smoothed = smooth(losses)
        lines = [
            Series("", steps, losses, FAINT),
            Series("training, running median", steps, list(smoothed), ACCENT),
            Series("validation", [x for x, _ in validation], held_out, SECOND, dots=True),
        ]
        # One bad batch must not flatten the curve: the faint line may leave the picture.
        top = 1.05 * max([*smoothed, *held_out])
        lines = [line for line in lines if line.x]
        svg = line_chart(f"{run}loss", "Loss", lines, y_top=top)
        found.append(_chart("loss", "Loss", "nats per token", svg))
    for key, title, unit, from_zero in (*CURVES, *reward_sources(metrics)):
        if points := _points(metrics, key):
            line = Series("", [x for x, _ in points], [y for _, y in points])
            svg = line_chart(f"{run}{key}", f"{title}, {unit}", [line], from_zero=from_zero)
            found.append(_chart(key, title, unit, svg))
    return found


def _chart(name: str, title: str, unit: str, svg: str) -> dict[str, Any]:
    return {"name": name, "title": title, "unit": unit, "svg": _markup(svg)}


def _markup(svg: str) -> Any:
    """Our own SVG, which needs no escaping."""
    import markupsafe

    return markupsafe.Markup(svg)


def _by_step(samples: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[dict[str, str]]]]:
    """Samples grouped by step, latest first; ``text`` is what follows the prompt."""
    steps: dict[int, list[dict[str, str]]] = {}
    for sample in samples:
        if {"step", "prompt", "text"} <= _mapping(sample).keys():
            prompt, text = str(sample["prompt"]), str(sample["text"])
            entry = {"prompt": prompt, "text": text.removeprefix(prompt)}
            steps.setdefault(int(sample["step"]), []).append(entry)
    return sorted(steps.items(), reverse=True)


def _comparisons(tables: Any) -> list[dict[str, Any]]:
    """Tables with a title and a note; what is none is left out."""
    found = []
    for one in tables if isinstance(tables, list) else []:
        if table := table_of(_mapping(one).get("rows")):
            found.append(table | {"title": str(one.get("title")), "note": str(one.get("note"))})
    return found


def _transcripts(items: Any) -> list[dict[str, Any]]:
    """Titles, and the parts below them as pairs of text."""
    return [
        {"title": str(one.get("title")), "parts": [(str(a), str(b)) for a, b in one["parts"]]}
        for one in map(_mapping, items if isinstance(items, list) else [])
        if isinstance(one.get("parts"), list)
    ]


def table_of(rows: Any) -> dict[str, Any] | None:
    """A table of records: cells as text, numbers with thousands, shares in percent."""
    if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(key: str, value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.1%}" if key == "share" and _is_finite(value) else _plain(value)

    return {"columns": columns, "rows": [[cell(k, row.get(k)) for k in columns] for row in rows]}


def _tables(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tokenizer, versions, and whatever else the summary holds, as pairs of text."""
    tables = []
    placed = {
        "parameters", "tokens", "wall_seconds", "packing_waste", "baselines", "corpus",
        "conversations", "before", "after", "comparisons", "transcripts",
        "description",
    }  # fmt: skip
    for name in FREE_TABLES:
        if pairs := _mapping(summary.get(name)):
            placed.add(name)
            tables.append((name.capitalize(), [(str(k), _plain(v)) for k, v in pairs.items()]))
    rest = [(k.replace("_", " "), _plain(v)) for k, v in summary.items() if k not in placed]
    return [("More about this run", rest), *tables] if rest else tables


def _plain(value: Any) -> str:
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
