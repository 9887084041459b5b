"""Every error of ours has a place in the outward table, and the answers have one shape."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base import errors as base_errors
from likewise.base.errors import LikewiseError
from likewise.server.app import build
from likewise.server.errors import STATUS, refusal_of
from tests.unit.server.fakes import FakeModel


def every_error() -> list[type[LikewiseError]]:
    return [
        value
        for value in vars(base_errors).values()
        if isinstance(value, type) and issubclass(value, LikewiseError)
    ]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_each_error_has_a_status(kind: type[LikewiseError]) -> None:
    refusal = refusal_of(kind("words", param="p"))
    assert 400 <= refusal.status < 600
    assert (refusal.message, refusal.param, refusal.code) == ("words", "p", kind.code)
    is_callers = refusal.type == "invalid_request_error"
    assert is_callers == (refusal.status in (400, 401, 403, 404, 409)) or refusal.status == 409
    # A client retries these by itself: only what can succeed later may say so.
    assert (refusal.status in (429, 503, 507)) == kind.retryable


def test_the_table_has_nothing_else() -> None:
    assert set(STATUS) == {kind.code for kind in every_error()}


def test_paths_and_methods_that_nothing_takes() -> None:
    with TestClient(build({"m": FakeModel()})) as client:
        missing = client.get("/nothing/here")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "there is nothing at /nothing/here"
        assert missing.json()["error"]["code"] == "not_found"
        wrong = client.get("/v1/embeddings")
        assert wrong.status_code == 405
        assert wrong.json()["error"]["message"] == "/v1/embeddings takes POST, not GET"
        assert wrong.headers["allow"] == "POST"


def test_a_bug_is_answered_logged_and_not_told_outside(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel()
    model.submit = None  # type: ignore[method-assign,assignment]
    with TestClient(build({"m": model})) as client:
        answer = client.post("/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert error["code"] == "internal_error"
        assert "callable" not in error["message"]
        # Where it happened, and not the message: one may repeat what the client sent.
        assert "builtins.TypeError" in caplog.text
        assert "in computed" in caplog.text
        assert "must be callable" not in caplog.text
        assert 'route="/v1/embeddings",status="500"} 1.0' in client.get("/metrics").text


class _Broken(FakeModel):
    def submit(self, inputs: Any, **options: Any) -> Any:
        try:
            raise KeyError(inputs[0])
        except KeyError as inner:
            raise RuntimeError(f"what was wrong with {inputs[0]}") from inner


def test_a_bugs_log_says_where_and_not_what_the_text_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    client = TestClient(build({"m": _Broken()}))
    answer = client.post("/v1/embeddings?q=sentinel", json={"input": "sentinel"})
    assert answer.status_code == 500
    assert "builtins.KeyError" in caplog.text
    assert "builtins.RuntimeError" in caplog.text
    assert "in submit" in caplog.text
    assert "sentinel" not in caplog.text.replace("q=sentinel", "") + answer.text
