"""Kinds of stores by name, imported only when chosen."""

STORES = {
    "memory": "likewise.stores.memory:MemoryTable",
    "sqlite": "likewise.stores.sqlite:SqliteTable",
}
