"""Drafts are what followed the latest earlier occurrence of the last three tokens."""

import numpy as np

from lilith.inference.prompt_lookup import MATCH, look_up


def by_hand(row, drafts):
    last = row[-MATCH:]
    for end in range(len(row) - 2, MATCH - 2, -1):
        if row[end - MATCH + 1 : end + 1] == last:
            return row[end + 1 : end + 1 + drafts]
    return []


def test_against_the_definition():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 3, rng.integers(1, 40)).tolist() for _ in range(60)]
    history = np.full((60, 48), 1, np.int32)  # what lies after a row must not count
    for own, row in zip(history, rows):
        own[: len(row)] = row
    held = np.array([len(row) for row in rows], np.int32)
    proposed, meant = look_up(history, held, 5)
    found = [np.asarray(own)[:count].tolist() for own, count in zip(proposed, meant)]
    assert found == [by_hand(row, 5) for row in rows]
    assert sum(map(bool, found)) > 20
