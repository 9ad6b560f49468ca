"""The agent: a model that calls tools, checks what it says, and remembers the conversation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lilith.agent import roles, saving
from lilith.agent.dialect import Dialect
from lilith.agent.history import History
from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.tool_calls import TOOL_SECONDS, ToolRunner
from lilith.agent.turn import AgentTurn, Done, Event
from lilith.agent.turn_run import TurnLimits, TurnRun
from lilith.config import UserError
from lilith.data.instructions.tool_text import system_message
from lilith.quant.tool import Tool
from lilith.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lilith.reasoning.reasoner import AdvancedReasoner

MOST_CHARACTERS = 200_000  # of a message; more than any context holds
TOOLS_HEADING = "You have these tools:"


class AgentModel(Protocol):
    """What an agent needs of a model, as ``lilith.inference.language_model.LanguageModel`` has.

    ``config.context`` is how many tokens it can hold, ``chat_template`` None where it has none.
    """

    config: Any
    tokenizer: Any
    chat_template: Any

    def encode(self, prompt: Any) -> list[int]: ...
    def stream(self, prompt: Any, **settings: Any) -> Iterator[str]: ...


class LILITHAgent:
    """A conversation with a model that may call tools.

    A turn is the user's message, any number of steps (the model calls tools and reads what came of
    it) and the answer. Errors of tools are given to the model, with what to do about them. An agent
    holds one conversation and runs one turn at a time; agents in other threads are apart from it,
    and take turns at a model that they share.

    With a reasoner, a question that no tool was called for and that
    :func:`lilith.agent.turn_run.is_hard` calls hard is answered by the reasoner, and every other
    answer that ended by itself goes through the reasoner's constitution; text is then shown when it
    is final and not as it is written.

    Args:
      model: a :class:`lilith.inference.language_model.LanguageModel`, or what has its ``stream``,
        ``encode``, ``config.context`` and ``chat_template``.
      tokenizer: None takes the model's.
      tools: a registry, or tools; none may be called where none are given.
      system_prompt: what the model is; None takes that of the role.
      role: a name in :data:`lilith.agent.roles.SYSTEM_PROMPTS`.
      reasoner: of :func:`lilith.reasoning.reasoner.create_advanced_reasoner`.
      limits: of each turn.
      temperature: None chooses it by the kind of work that a message asks for.
      tool_seconds: how long a tool may take; tool_limits: of single tools, by name.
      grammar: whether calls are held to the declarations of the tools as they are written.

    Attributes:
      notes: what is not as one would expect of this model, in words.

    Raises:
      UserError: an argument can not be used; the message names it.
    """

    def __init__(
        self,
        model: AgentModel,
        tokenizer: Any = None,
        tools: ToolRegistry | Iterable[Tool] = (),
        system_prompt: str | None = None,
        *,
        role: str | None = None,
        reasoner: AdvancedReasoner | None = None,
        limits: TurnLimits | None = None,
        temperature: float | None = None,
        top_p: float = 0.95,
        seed: int = 0,
        tool_seconds: float = TOOL_SECONDS,
        tool_limits: Mapping[str, float] | None = None,
        grammar: bool = True,
    ) -> None:
        if not hasattr(model, "stream"):
            raise UserError(
                f"the model is a {type(model).__name__}; give a LanguageModel, such as "
                "the first of what lilith.load_checkpoint returns"
            )
        if temperature is not None and not 0 <= temperature <= 2:
            raise UserError(f"temperature is {temperature}; it must be from 0 to 2")
        self.model = model
        self.tokenizer = model.tokenizer if tokenizer is None else tokenizer
        self.registry = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)
        self.reasoner, self.limits = reasoner, limits or TurnLimits()
        self.temperature, self.top_p, self.seed = temperature, top_p, seed
        self.dialect = Dialect(model, self.tokenizer)
        self.history = History(self.dialect.count)
        self._tool_settings: dict[str, Any] = {"seconds": tool_seconds, "limits": tool_limits}
        self._use_grammar = grammar
        self._grammar: tuple[Any, Any] = (None, None)  # what it was made for, and it
        self._owned: ToolRegistry | None = None
        self._busy = threading.Lock()
        self.runner = self._made_runner()
        self.role: str | None = None
        self.system_prompt = ""
        if system_prompt is not None and not isinstance(system_prompt, str):
            raise UserError(f"system_prompt is a {type(system_prompt).__name__}; give a text")
        if role is not None or system_prompt is None:
            self.set_role(role or "quant_dev")
        if system_prompt is not None:
            self.system_prompt = system_prompt

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as one would expect of this model, in words."""
        return self.dialect.notes

    @property
    def turns(self) -> tuple[AgentTurn, ...]:
        """The conversation, oldest turn first."""
        return tuple(self.history.turns)

    @property
    def system_message(self) -> str:
        """What stands before the conversation: the system prompt and the tools."""
        return agent_system_message(self.system_prompt, self.registry)

    def chat(self, message: str) -> str:
        """The answer to a message.

        Raises:
          UserError: the message is empty, no text, or too long, or the model can not be asked; the
            conversation stays as it was.
        """
        return self.run(message).answer

    def run(self, message: str) -> AgentTurn:
        """The turn that a message leads to, with every step. Raises as :meth:`chat`."""
        done: AgentTurn | None = None
        with contextlib.closing(self.stream(message)) as events:
            for event in events:
                if isinstance(event, Done):
                    done = event.turn
        assert done is not None  # a turn that is not closed ends in Done
        return done

    def stream(self, message: str) -> Generator[Event, None, None]:
        """The events of a turn as they come, the last one :class:`lilith.agent.turn.Done`.

        Closing the iterator stops the turn: what was shown and the steps that were finished stay
        in the conversation. Raises as :meth:`chat`, at once for a message that can not be used.
        """
        text = _checked(message)
        kind = roles.kind_of_work(text, self.role)
        chosen = roles.temperature_for(kind) if self.temperature is None else self.temperature
        return self._events(text, kind, chosen)

    def _events(self, text: str, kind: str, temperature: float) -> Generator[Event, None, None]:
        if not self._busy.acquire(blocking=False):
            raise UserError(
                "the agent is answering already; wait for its answer, close its stream, or make "
                "another agent"
            )
        try:
            yield from TurnRun(self, text, kind, temperature, self.limits).events()
        finally:
            self._busy.release()

    def set_role(self, role: str) -> None:
        """Take another role. The conversation stays.

        Raises:
          UserError: there is no such role, or a turn is running.
        """
        with self._between_turns():
            self.system_prompt, self.role = roles.system_prompt(role), role

    def reset(self) -> None:
        """Forget the conversation, what was kept by reference, and what tools hold.

        Raises:
          UserError: a turn is running.
        """
        with self._between_turns():
            self.registry.restart()
            self.history.replace(())
            self.runner = self._made_runner()

    def save(self, path: str | Path) -> Path:
        """Write the conversation to a file, whole or not at all; returns where.

        Raises:
          UserError: the file can not be written, or is something else than a conversation.
        """
        with self._between_turns():
            saved = saving.Saved(
                self.role, self.system_prompt, self.registry.names, self.turns,
                self.runner.references.to_json(),
            )  # fmt: skip
            return saving.save(Path(path), saved)

    def load(self, path: str | Path) -> None:
        """Go on with the conversation of a file: its role, system prompt, turns and references.

        The tools stay those that this agent was granted, and what Python had defined is not in it.

        Raises:
          UserError: the file can not be read, is no conversation, or one of another version; this
            conversation then stays as it is.
        """
        with self._between_turns():
            saved = saving.load(Path(path))
            runner = self._made_runner()
            runner.references = saved.kept()
            self.registry.restart()
            self.role, self.system_prompt = saved.role, saved.system_prompt
            self.history.replace(saved.turns)
            self.runner = runner

    def transcript_html(self) -> str:
        """The conversation as one self-contained page: calls, results, plots and checks."""
        from lilith.agent.transcript import transcript_page

        return transcript_page(self.turns, system_prompt=self.system_prompt, role=self.role)

    def grammar(self) -> Any:
        """The grammar of the tools' calls; None where the tokenizer can not be held to one."""
        if not (self._use_grammar and len(self.registry) and isinstance(self.tokenizer, Tokenizer)):
            return None
        key = (self.runner, self.registry.names, self.runner.references.names())
        if self._grammar[0] != key:
            from lilith.agent.grammar import CallGrammar

            made = CallGrammar(self.tokenizer, self.registry, references=self.runner.references)
            self._grammar = (key, made)
        return self._grammar[1]

    def close(self) -> None:
        """End what the tools hold, where the agent made them itself. Closing twice does nothing."""
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> LILITHAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made_runner(self) -> ToolRunner:
        return ToolRunner(self.registry, **self._tool_settings)

    @contextlib.contextmanager
    def _between_turns(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise UserError("the agent is answering; wait for its answer, or close its stream")
        try:
            yield
        finally:
            self._busy.release()


def agent_system_message(system_prompt: str, registry: ToolRegistry) -> str:
    """What stands before an agent's conversation: the system prompt and the tools."""
    if not len(registry):
        return system_prompt
    lead = f"{system_prompt}\n{TOOLS_HEADING}" if system_prompt else TOOLS_HEADING
    return system_message(list(registry), lambda headings: lead)


def create_quant_agent(
    model: AgentModel,
    tokenizer: Any = None,
    role: str = "quant_dev",
    *,
    tools: ToolRegistry | Iterable[Tool] | None = None,
    reasoner: AdvancedReasoner | None = None,
    **settings: Any,
) -> LILITHAgent:
    """An agent of a role with the tools of :func:`lilith.agent.registry.create_quant_tools`.

    Args:
      tools: others in their place; those that are made here end with :meth:`LILITHAgent.close`.
      settings: those of :class:`LILITHAgent`.

    Raises:
      UserError: there is no such role, or an argument can not be used.
    """
    roles.system_prompt(role)  # before tools are made for it
    registry = create_quant_tools() if tools is None else tools
    agent = LILITHAgent(model, tokenizer, registry, role=role, reasoner=reasoner, **settings)
    if tools is None:
        agent._owned = agent.registry
    return agent


def _checked(message: Any) -> str:
    if not isinstance(message, str):
        raise UserError(f"the message is a {type(message).__name__}; give a text")
    if not message.strip():
        raise UserError("the message is empty; ask something")
    if len(message) > MOST_CHARACTERS:
        raise UserError(
            f"the message has {len(message):,} characters and may have {MOST_CHARACTERS:,}; "
            "shorten it, or give the part that matters"
        )
    return message
