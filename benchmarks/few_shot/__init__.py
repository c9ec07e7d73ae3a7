"""How well classes are recognised after a few examples, and whether reviewed windows teach more than random ones."""
