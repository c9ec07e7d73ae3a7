"""Scores of a run: supervised, zero-shot (ZSL) and generalised zero-shot (GZSL), with controls, plots and reports."""
