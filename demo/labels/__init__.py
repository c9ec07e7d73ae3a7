"""The labels that a visitor types or chooses, and their ranking."""
