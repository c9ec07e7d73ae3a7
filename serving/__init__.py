"""Audio to embeddings to ranked labels, from a bundle. The ground: imports nothing else of ours, and no torch."""
