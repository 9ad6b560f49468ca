"""Programs for TPU pods, looked at without a pod: chips, topologies, compiled text, rooflines."""
