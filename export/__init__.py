"""Turn a run folder into a bundle, with proof that it is the same model."""
