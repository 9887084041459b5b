"""The other side of `bench/serve.py`: sentence-transformers behind the smallest server there is.

python bench/_st_server.py MODEL_FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import orjson
import uvicorn
from sentence_transformers import SentenceTransformer
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

model = SentenceTransformer(sys.argv[1], device="cpu")


def encoded(texts: list[str]) -> Any:
    """Vectors, as people's own servers make them."""
    return model.encode(texts, show_progress_bar=False)


async def embeddings(request: Request) -> Response:
    """OpenAI's answer to a list of texts."""
    asked = orjson.loads(await request.body())
    vectors = await run_in_threadpool(encoded, asked["input"])
    data = [
        {"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    body = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


app = Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
