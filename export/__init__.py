"""Export a run folder as a bundle, and check that the exported models equal the trained one."""
