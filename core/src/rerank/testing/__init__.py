"""What a plugin's authors test with: a contract that every backend keeps, and a fake to test around.

`rerank.testing.fake` needs nothing; `rerank.testing.contract` needs pytest (``pip install 'rerank-core[test]'``).
"""

import sys

if "pytest" in sys.modules:  # so that a failing contract shows its values, as tests of one's own do
    sys.modules["pytest"].register_assert_rewrite("rerank.testing.contract")
