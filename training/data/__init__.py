"""Recordings: data sets, splits, cached log-mels, synthesised sounds."""
