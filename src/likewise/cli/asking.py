"""Asking a running server over HTTP; its refusals become our errors."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from likewise.base.errors import LikewiseError, SettingsError
from likewise.base.loopback import is_loopback_url

TIMEOUT_S = 60


class Refused(LikewiseError):
    """The server answered, and the answer was no."""

    code = "refused"


def search(url: str, asked: dict[str, Any], *, key: str | None = None) -> dict[str, Any]:
    """The answer of `POST /search` at `url`, where `key` lets us in.

    Raises:
        SettingsError: nothing answers there, or it isn't a likewise server.
        Refused: the server's own words.
    """
    return ask(url, "/search", asked, has="results", key=key)


def ask(
    url: str,
    path: str,
    asked: dict[str, Any] | None = None,
    *,
    has: str,
    method: str | None = None,
    key: str | None = None,
    timeout_s: float | None = TIMEOUT_S,
) -> dict[str, Any]:
    """The answer at `path` of the server at `url`, an object with the field `has`.

    Raises:
        SettingsError: nothing answers there, or it isn't a likewise server.
        Refused: the server's own words.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url must begin with http:// or https://, not {url!r}", param="url")
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    data = None if asked is None else json.dumps(asked).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)
    try:
        with _opener(url).open(request, timeout=timeout_s) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            raise Refused(_words(refused.read(), refused.code)) from refused
    except OSError as failed:
        raise _unreached(url, failed) from failed
    except (ValueError, http.client.HTTPException) as wrong:
        raise SettingsError(f"{url} isn't a likewise server: {wrong}", param="url") from wrong
    if not isinstance(answer, dict) or has not in answer:
        raise SettingsError(f"{url} isn't a likewise server", param="url")
    return answer


def _unreached(url: str, failed: OSError) -> SettingsError:
    """Why nobody was asked: nobody is there, or nobody says for certain who it is."""
    reason = getattr(failed, "reason", failed)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return SettingsError(
            f"the certificate of {url} isn't accepted: {reason.verify_message}. Where it is one of "
            "your own, name its file in the variable SSL_CERT_FILE",
            param="url",
        )
    return SettingsError(
        f"nothing answers at {url} ({reason}); is 'likewise up', 'likewise serve' or "
        "'likewise demo' running?",
        param="url",
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: urllib would send the key on to wherever it is sent."""

    def redirect_request(self, *_: Any) -> None:
        """No request; the answer becomes an error."""


def _opener(url: str) -> urllib.request.OpenerDirector:
    """What asks at `url`: straight, but for https to another machine, which may need a proxy.

    A proxy reads all that goes through it to plain http, the key too, and can't reach this
    machine's own addresses. For https it only passes on what it can't read.
    """
    is_straight = url.startswith("http://") or is_loopback_url(url)
    proxies = urllib.request.ProxyHandler({} if is_straight else None)
    return urllib.request.build_opener(proxies, _NoRedirects)


def _words(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"
