"""Distributions for one test each: a module of ``plugins/`` with the metadata that makes it a plugin."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

PLUGINS = Path(__file__).parent / "plugins"
ALL = sorted(path.stem for path in PLUGINS.glob("fake_*.py"))


class Site:
    """A folder for ``sys.path`` or ``PYTHONPATH`` that holds the distributions put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def install(self, *modules: str) -> Site:
        """Add modules of ``plugins/``, each as a distribution ``fake-…`` 1.0 with an entry point of its own name."""
        for module in modules:
            shutil.copy(PLUGINS / f"{module}.py", self.folder)
            self.describe(module)
        return self

    def describe(self, module: str, metadata: str | None = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n") -> None:
        """Write the metadata alone; without any the distribution is damaged."""
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        if metadata is not None:
            (info / "METADATA").write_text(metadata.format(module.replace("_", "-")), encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[rerank]\n{module} = {module}\n", encoding="utf-8")

    def forget(self) -> None:
        """Let the next import read the modules again."""
        for path in self.folder.glob("*.py"):
            sys.modules.pop(path.stem, None)
