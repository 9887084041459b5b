"""A running server with the real model, for the clients that people use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.listen import address_of, listen
from likewise.server.run import server

NAME = "sentence-transformers/all-MiniLM-L6-v2"


@contextlib.contextmanager
def serving(models: Mapping[str, Service]) -> Iterator[str]:
    """The address, such as `http://127.0.0.1:5000`, of a server of `models` while it runs."""
    listener = listen("127.0.0.1", 0)
    running = server(build(models, allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def model_name() -> str:
    """What the model is called here."""
    return NAME


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Service]:
    """The real model, in this process."""
    loaded = service.load(model_folder, name=NAME, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def base_url(model: Service) -> Iterator[str]:
    """The address of a running server with the real model."""
    with serving({NAME: model}) as address:
        yield address
