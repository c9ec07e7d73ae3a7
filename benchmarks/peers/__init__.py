"""Other ways from sound files to embeddings, beside ours: what a user would pick instead, on the same recordings."""
