"""Fixtures that every folder of tests shares: the real model, the repository, the shared data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from likewise.models.locate import DEFAULT_MODEL, locate

pytest_plugins = ("tests.hygiene", "tests.postgres_kit")

REPO = Path(__file__).resolve().parents[1]

# What other programs fetched for this user decides nothing here. The hub's client reads it once,
# when it is imported, which nothing has done yet.
os.environ["HF_HUB_CACHE"] = str(REPO / ".pytest_cache" / "no-hub-cache")


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """A model cache that outlives the run, so that the model is downloaded once a checkout."""
    return REPO / ".pytest_cache" / "likewise"


@pytest.fixture(scope="session")
def model_folder(model_cache: Path) -> Path:
    """The real all-MiniLM-L6-v2. Not having it is a failure, never a skip."""
    return locate(DEFAULT_MODEL, cache=model_cache).folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Evaluation sets that lie beside the checkout; they aren't part of it."""
    for place in (REPO / "shared" / "data", REPO.parent / "shared" / "data"):
        if place.is_dir():
            return place
    pytest.skip("no evaluation sets: there is no folder shared/data beside the checkout")
