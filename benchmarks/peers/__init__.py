"""Unheard beside other ways from sound files to embeddings, on the same recordings in the same run."""
