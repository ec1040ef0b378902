"""Tests for plugin authors: a contract that every backend must pass, and a fake backend.

`rerank.testing.fake` needs nothing; `rerank.testing.contract` needs pytest (``pip install 'rerank-core[test]'``).
"""

import sys

if "pytest" in sys.modules:  # so that a failing contract test shows its values, like any other test
    sys.modules["pytest"].register_assert_rewrite("rerank.testing.contract")
