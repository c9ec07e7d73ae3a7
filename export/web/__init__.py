"""Write a bundle as a static web site whose page runs the model in the visitor's browser."""
