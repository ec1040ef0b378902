"""What a plugin describes: a backend, cheap to import, that knows which models it can run and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from rerank.model_ref import ModelRef
from rerank.options import Options
from rerank.protocols import Scorer

PROTOCOL: Final = 1
"""The version of the plugin protocol that this core speaks."""


class Confidence(IntEnum):
    """How sure a backend is that it should run a model. The highest claim wins; a tie is an error."""

    NONE = 0
    POSSIBLE = 1
    """Could be made to work; never wins without ``backend=``."""
    LIKELY = 2
    """The architecture matches."""
    CERTAIN = 3
    """A family's recipe or head matches, or the name is in the backend's own table."""


class Claim(NamedTuple):
    """A backend's claim on one model, and its reason, which ``rerank explain`` shows."""

    confidence: Confidence
    reason: str


@dataclass(frozen=True, slots=True)
class Alias:
    """What a short name stands for.

    Args:
        model: The model's full name.
        options: Defaults that come with the name.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The description of a way to run models.

    Args:
        name: Unique among the installed plugins.
        summary: One line for ``rerank list-backends``.
        load: Reads the checkpoint and returns a scorer; heavy imports belong inside it.
        claim: Says whether this backend should run a model, by its name first, then by its files.
        options: The class of the backend's options; importing it must not import heavy libraries.
        aliases: Short names, each with a model per language: ``{"t5": {"en": Alias("castorini/…")}}``.
            A language is looked up exactly, then as ``other``, then as ``en`` with a warning.
        remote: Whether remote services run its models; only such backends are asked about ``api_provider=``.
        protocol: The version of the plugin protocol that the backend was written for.
        notes: Lines about this machine for ``rerank list-backends``, such as which keys are set; never a secret.
        devices: The devices that its models can run on, by name, for ``rerank doctor``; may import heavy libraries.
        caches: Its cache folders besides the hub's, by what they contain, for ``rerank doctor``.
        describe: Takes a model and its options and returns lines for ``rerank explain``, such as its prompt. Reads the
            checkpoint's small files, and loads nothing.
    """

    name: str
    summary: str
    load: Callable[[ModelRef, Any], Scorer]
    claim: Callable[[ModelRef], Claim]
    options: type[Options] = Options
    aliases: Mapping[str, Mapping[str, Alias]] = field(default_factory=dict)
    remote: bool = False
    protocol: int = PROTOCOL
    notes: Callable[[], Iterable[str]] | None = None
    devices: Callable[[], Mapping[str, str]] | None = None
    caches: Callable[[], Mapping[str, Path]] | None = None
    describe: Callable[[ModelRef, Any], Iterable[str]] | None = None

    def read_notes(self) -> list[str]:
        """What ``notes`` returns, or why it failed."""
        try:
            return [] if self.notes is None else [str(note) for note in self.notes()]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit, and the panics of extensions
            return [f"its notes cannot be read: {type(error).__name__}: {error}"]
