"""What strategies of several rounds have in common: prompts that grow, and words for decisions."""

from __future__ import annotations

from lilith.reasoning.sampler import Prompt, Sampler

LEAST_ROOM = 16  # tokens; an answer that can not even have these is not asked for
BUDGET_ENDED = "the budget of tokens or seconds ended"


def prompt_tokens(sampler: Sampler, prompt: Prompt) -> int:
    """How many tokens a prompt is."""
    return int(sampler.model.config.context) - sampler.room(prompt)


def fits(sampler: Sampler, prompt: Prompt, room: int = LEAST_ROOM) -> bool:
    """Whether the context has ``room`` tokens for an answer behind the prompt."""
    return sampler.room(prompt) >= room


def shortened(text: str, most: int) -> str:
    """A text of at most ``most`` characters: its beginning and its end, where the answer stands."""
    text = text.strip()
    if len(text) <= most:
        return text
    half = max(1, (most - 5) // 2)
    return f"{text[:half].rstrip()} ... {text[-half:].lstrip()}"


def quoted(text: str, most: int = 60) -> str:
    """A text in one line and in quotes, for a decision's reason."""
    return f'"{shortened(" ".join(text.split()), most)}"'
