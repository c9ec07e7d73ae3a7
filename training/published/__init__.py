"""Published weights: read their files, and start a network from them."""
