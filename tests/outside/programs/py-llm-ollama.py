"""llm with llm-ollama."""

import json
import os
import subprocess
import sys
import tempfile

from report import EMBEDDER, TEXTS, URL, value, vectors

environment = {**os.environ, "OLLAMA_HOST": URL, "LLM_USER_PATH": tempfile.mkdtemp()}


def llm(*arguments):
    command = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


value("embed-models", EMBEDDER in llm("embed-models"))
rows = [json.loads(llm("embed", "-m", f"ollama/{EMBEDDER}", "-c", each)) for each in TEXTS]
vectors("embed", rows)
