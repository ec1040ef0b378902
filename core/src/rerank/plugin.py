"""One installed plugin and its status."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rerank.errors import PluginError

logger = logging.getLogger(__name__)

_HEAVY: Final = ("torch", "transformers", "onnxruntime", "tensorflow", "cohere", "httpx", "huggingface_hub")

_SLOW: Final = 1.0
"""Seconds to describe backends, beyond which a plugin gets a warning: every start of the command waits for that."""


@dataclass(kw_only=True)
class Plugin:
    """One entry point.

    Args:
        name: The entry point's name.
        distribution: The distribution that it comes from.
        version: That distribution's version.
        status: ``ok``, ``failed`` or ``disabled``.
        reason: Why it is not ok, or a warning; empty otherwise.
        module: The module that the entry point names, once imported.
        backends: The names of the backends that it registered.
        seconds: How long importing and describing took.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "disabled"] = "ok"
    reason: str = ""
    module: Any = field(default=None, repr=False)
    backends: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """Its unique identifier."""
        return f"{self.distribution}:{self.name}"

    @contextmanager
    def failures_noted(self, doing: str = "") -> Iterator[None]:
        """Run the plugin's code: any exception except Ctrl-C marks the plugin as failed, with the reason."""
        try:
            with redirect_stdout(sys.stderr):  # standard output belongs to the command
                yield
        except KeyboardInterrupt:
            logger.warning(
                "interrupted while the plugin %s of %s was at work: if it hangs, set RERANK_DISABLE_PLUGINS=%s",
                self.name,
                self.distribution,
                self.distribution,
            )
            raise
        except BaseException as error:  # also SystemExit, and the panics of extensions
            message = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            self.status, self.reason = "failed", f"{doing}{' '.join(message.split())}"  # one line of a table
            logger.info("plugin %s of %s cannot be used: %s", self.name, self.distribution, self.reason)

    @contextmanager
    def cost_noted(self) -> Iterator[None]:
        """Measure the time, and warn about a plugin that is slow or imports heavy libraries too early."""
        light = {name for name in _HEAVY if name not in sys.modules}
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
        if self.status != "ok" or self.reason:
            return
        if heavy := sorted(name for name in light if name in sys.modules):
            self.reason = f"imports {', '.join(heavy)} to describe its backends; its authors should import them in load"
        elif self.seconds > _SLOW:
            self.reason = f"took {self.seconds:.1f} s to describe its backends; its authors should do that work in load"
