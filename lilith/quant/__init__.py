"""Quantitative finance in JAX: options, portfolios, performance, statistics.

Pure cores compute in float64 by scope, and go through jit, vmap and grad; tools validate, call a
core, and answer in JSON-ready dicts. Knows nothing of language models.
"""
