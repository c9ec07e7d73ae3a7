"""Synthesised sounds: a data set for users without recordings, and the acoustic vocabulary for pretraining."""
