"""Embedding models behind somebody else's endpoint, spoken to over HTTP."""
