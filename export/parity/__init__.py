"""Compare the exported models with the trained network in PyTorch, row by row."""
