"""Kinds of sources by name, imported only when chosen."""

SOURCES = {"sqlite": "likewise.sources.sqlite:SqliteSource"}
