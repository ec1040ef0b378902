"""``import rerank`` and listing backends import nothing heavy and no network library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "onnxruntime",
    "tokenizers",
    "cohere",
    "httpx",
    "httpx2",
    "requests",
    "huggingface_hub",
    "numpy",
    "tqdm",
    "pytest",
)

STORIES = {
    "import": "import rerank",
    "rank with a fake": (
        "from rerank import Reranker\n"
        "from rerank.testing.fake import fake_registry\n"
        "Reranker('fake', registry=fake_registry()).rank('a', ['a', 'b'])"
    ),
    "list-backends": "from rerank.cli import main\ntry:\n    main(['list-backends'])\nexcept SystemExit as e:\n    assert not e.code",
    "list-backends --json": (
        "from rerank.cli import main\ntry:\n    main(['list-backends', '--json'])\nexcept SystemExit as e:\n    assert not e.code"
    ),
    "--help": "from rerank.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code",
    "describe every plugin": "from rerank.registry import installed\nassert installed().backends is not None",
}


@pytest.mark.parametrize("story", STORIES)
def test_nothing_heavy_is_imported(story: str) -> None:
    code = f"import sys\n{STORIES[story]}\nprint('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "heavy: []"


def test_the_command_line_is_not_imported_with_the_library() -> None:
    code = (
        "import sys, rerank; print([name for name in sys.modules if name == 'click' or name.startswith('rerank.cli')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_library_configures_no_logging() -> None:
    code = "import logging, rerank; print(logging.getLogger().handlers, logging.getLogger('rerank').level)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[] 0\n"
