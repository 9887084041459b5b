"""Program: llama.cpp's own server, as the wheel xllamacpp has it, on a GGUF file of embeddings.

Called with the file, the port and the key that it asks for. Runs where the servers are installed.
"""

from __future__ import annotations

import sys
import threading

import xllamacpp


def main(file: str, port: str, key: str) -> None:
    """Serve until the process is ended."""
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {"minilm"}
    params.port = int(port)
    params.api_keys = [key]
    params.embedding = True
    params.n_parallel = 4
    # A text has to fit into a batch whole.
    params.n_batch = params.n_ubatch = 512
    # Two threads wait for one another at every step, for long where other programs run as well.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main(*sys.argv[1:])
