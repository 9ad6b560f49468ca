"""Logits of every model family against numbers that Hugging Face transformers computed.

``tests/peers/make_golden_logits.py`` makes the file; this test needs neither torch nor it.
"""

import dataclasses

import numpy as np
import pytest
from golden_cases import CASES, GOLDEN, LENGTH, ROWS, lilith_logits, random_params, random_tokens


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_transformers(name):
    with np.load(GOLDEN) as golden:
        expected = golden[name]
    config = CASES[name]
    params, tokens = random_params(config), random_tokens(config, ROWS, LENGTH)
    assert expected.shape == (ROWS, LENGTH, config.vocab)
    for implementation in ("auto", "reference"):
        chosen = dataclasses.replace(config, attention=implementation)
        found = lilith_logits(params, tokens, chosen)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=implementation)


def test_the_file_holds_these_cases_and_the_versions_that_made_it():
    with np.load(GOLDEN) as golden:
        assert set(golden) == {*CASES, "versions"}
        assert [line.split()[0] for line in golden["versions"]] == ["torch", "transformers"]
    assert GOLDEN.stat().st_size < 100_000
