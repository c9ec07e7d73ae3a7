"""Train the embedding networks: recordings -> run folder."""
