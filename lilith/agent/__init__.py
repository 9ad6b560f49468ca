"""The agent: tools that a model may call, calls that are always well formed, and how they run."""
