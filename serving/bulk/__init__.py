"""Embed a folder of recordings into one Parquet file, in parts that survive an interruption."""
