"""The command `python -m serving.doctor`: what is installed here, what of it works, and what to do about the rest."""
