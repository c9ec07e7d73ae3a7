"""Teach classes by examples: recordings with labels -> a zero-shot map that knows them, and a bundle that holds it."""
