"""Measured, never asserted: speed by stage, as ratios, with the machine named."""
