"""How a server shows that it is the one that wrote down where it listens.

What it wrote down holds a secret that only its user can read. Whoever asks sends something random
and gets its HMAC by that secret back; a stranger on the same port can't make it.
"""

from __future__ import annotations

import hashlib
import hmac

CHALLENGE = "x-likewise-challenge"
PROOF = "x-likewise-proof"
LONGEST_CHALLENGE = 128


def proof(secret: str, challenge: str) -> str:
    """What answers `challenge`, in hexadecimal."""
    return hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()
