"""Measurements: how fast, how exact and how large, on the machine that runs them."""
