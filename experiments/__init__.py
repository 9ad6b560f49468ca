"""Files, clocks and loops around the pure functions of lilith."""
