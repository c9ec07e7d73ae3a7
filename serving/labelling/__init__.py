"""Name the sounds of recordings: embeddings of their windows -> times and labels -> tables for other programs."""
