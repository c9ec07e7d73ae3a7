"""A page to hear and see what a bundle does."""
