"""Pure losses and steps, optimizers, checkpoints, metrics."""
