"""Reasoning over a language model: traces, steps, answers, and what can be checked by a tool."""
