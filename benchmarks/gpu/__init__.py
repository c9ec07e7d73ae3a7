"""What a GPU gives: inference, bulk embedding and training, measured by one command on whatever is installed."""
