"""The agent stage: an agent in the terminal, one answer, or an answer for every line of a pipe."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

from experiments.agent_config import AgentConfig
from experiments.agent_console import Terminal, answer_lines, answer_once
from experiments.chat import model_facts
from experiments.config_kinds import require_kind
from experiments.terminal import conversing, printable
from lilith.agent import saving
from lilith.agent.agent import LILITHAgent, create_quant_agent
from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.turn_run import TurnLimits
from lilith.train.lora import read_description


def run(config: AgentConfig, workdir: pathlib.Path) -> int:
    """Talk, and return the exit code; commands put files without a name into ``workdir``."""
    config = require_kind(config, AgentConfig, "agent_smollm2")
    return conversing(lambda: _converse(config, workdir))


def dry_run(config: AgentConfig) -> int:
    """Say what would be loaded, and which role, tools, limits and temperature an agent has."""
    config = require_kind(config, AgentConfig, "agent_smollm2")
    _check_files(config)
    print(f"{config.name}: stage {config.stage}")
    for title, fact in model_facts(config.model).items():
        print(f"{title:<12}{fact}")
    for folder in config.adapters:
        print(f"adapter     {folder}")
    print(f"role        {config.role}")
    with granted_tools(config) as registry:
        print(f"tools       {', '.join(registry.names)}")
    print(
        f"limits      {config.steps} steps, {config.max_tokens:,} tokens a turn, "
        f"{config.message_tokens:,} a message, {config.seconds:g} s a turn, "
        f"{config.tool_seconds:g} s a tool"
    )
    chosen = "by the kind of work" if config.temperature is None else f"{config.temperature:g}"
    print(f"temperature {chosen}, top_p {config.top_p:g}, seed {config.seed}")
    print(f"grammar     {'holds calls to their declarations' if config.grammar else 'off'}")
    print(f"reasoner    {'takes hard questions' if config.reasoner else 'off'}")
    if config.history:
        saved = saving.load(pathlib.Path(config.history))
        print(f"history     {len(saved.turns)} turns from {config.history}")
    return 0


def granted_tools(config: AgentConfig) -> ToolRegistry:
    """The tools that the config grants, with what they hold."""
    library = create_quant_tools()
    if not config.tools:
        return library
    granted = ToolRegistry()
    for name in config.tools:
        in_order = library.runs_in_order(name)
        granted.add(library[name], in_order=in_order, close=library.restart if in_order else None)
    return granted


def load_agent(config: AgentConfig) -> tuple[LILITHAgent, str]:
    """The agent of a config, and a line about its model."""
    import lilith.interop

    registry = granted_tools(config)  # a wrong name is said before a long load
    model, tokenizer, info = lilith.interop.load_checkpoint(config.model, adapters=config.adapters)
    limits = TurnLimits(config.steps, config.max_tokens, config.message_tokens, config.seconds)
    reasoner = None
    if config.reasoner:
        from lilith.reasoning.reasoner import create_advanced_reasoner
        from lilith.reasoning.sampler import Budget

        budget = Budget(config.max_tokens, config.seconds)
        reasoner = create_advanced_reasoner(model, tokenizer, budget=budget, seed=config.seed)
    agent = create_quant_agent(
        model, tokenizer, config.role, tools=registry, reasoner=reasoner, limits=limits,
        temperature=config.temperature, top_p=config.top_p, seed=config.seed,
        tool_seconds=config.tool_seconds, grammar=config.grammar,
    )  # fmt: skip
    if config.history:
        agent.load(config.history)
    return agent, str(info)


def _converse(config: AgentConfig, workdir: pathlib.Path) -> int:
    asks = config.prompt is None and not config.json and sys.stdin.isatty()
    _check_files(config)
    if asks:
        print(f"loading {config.model} ...", flush=True)
    agent, title = load_agent(config)
    try:
        if asks:
            terminal = Terminal(agent, workdir)
            wrapped = terminal.look.wrapped
            greeting = [line for part in _greeting(agent, title) for line in wrapped(part)]
            terminal.run("\n".join(greeting))
            return 0
        out, errors = printable(sys.stdout), printable(sys.stderr)
        for note in _notes(agent):
            print(f"note: {note}", file=errors)
        if config.prompt is not None:
            answer_once(agent, config.prompt, out, errors, as_json=config.json)
            return 0
        return answer_lines(agent, sys.stdin.buffer, workdir, out, errors, as_json=config.json)
    finally:
        agent.registry.close()


def _check_files(config: AgentConfig) -> None:
    """Say what is wrong with a file before a long load."""
    for folder in config.adapters:
        read_description(pathlib.Path(folder).expanduser())
    if config.history:
        saving.load(pathlib.Path(config.history))


def _greeting(agent: LILITHAgent, title: str) -> Iterator[str]:
    """What is said before the first question."""
    yield title
    yield f"{agent.role or 'a role of its own'}; {len(agent.registry)} tools, see /tools and /role"
    for note in _notes(agent):
        yield f"note: {note}"
    if agent.turns:
        yield f"going on after {len(agent.turns)} turns"
    yield "/help lists the commands, Ctrl-C stops an answer"


def _notes(agent: LILITHAgent) -> Iterator[str]:
    """What is not as one would expect of the model and what it is given."""
    yield from agent.notes
    context = int(agent.model.config.context)
    system = agent.dialect.count([{"role": "system", "content": agent.system_message}])
    if system >= context:
        yield (
            f"the role and {len(agent.registry)} tools take {system:,} tokens, and the model's "
            f"context is {context:,}, so it can answer nothing; grant fewer tools, such as "
            "--set tools=black_scholes,calculator"
        )
