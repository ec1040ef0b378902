"""What a plugin's authors test with: a contract that every backend keeps, and a fake to test around.

`rerank.testing.fake` needs nothing; `rerank.testing.contract` needs pytest (``pip install 'rerank-core[test]'``).
"""
