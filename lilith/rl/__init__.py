"""Reinforcement learning: rollouts, what they are worth, and what goes wrong while they improve."""
