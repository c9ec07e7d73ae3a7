"""Runtimes. Each is a callable: waveforms [batch, samples] -> embeddings [batch, 128]."""
