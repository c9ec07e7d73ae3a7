"""A web page to try a bundle in the browser."""
