"""Likewise: embeddings as a property of your data."""
