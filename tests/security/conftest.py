"""The backends and the command, as the tests of hostile input have them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "fixtures_of_hardening"
if _NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).parents[1] / "hardening" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[_NAME])

hardening = sys.modules[_NAME]
KEY = hardening.KEY
run, run_apart = hardening.run, hardening.run_apart
onnx_folder, torch_folder = hardening.onnx_folder, hardening.torch_folder
service, chat_endpoint = hardening.service, hardening.chat_endpoint
subject_of, subject, local, reranker = hardening.subject_of, hardening.subject, hardening.local, hardening.reranker
_installed = hardening._installed
