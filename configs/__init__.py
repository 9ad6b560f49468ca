"""One Python file an experiment; each has config(), which returns an ExperimentConfig."""
