"""Addresses are joined as a user means them, and messages show no query."""

from __future__ import annotations

import pytest

from rerank import shown_address
from rerank_http.address import join, sibling


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [
        ("http://h", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1/rerank", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/gateway/v1/", "/v1/rerank", "http://h/gateway/v1/rerank"),
        ("http://h/v1/gateway", "/v1/rerank", "http://h/v1/gateway/v1/rerank"),
        ("http://h/rank?tenant=a#top", "/rank", "http://h/rank?tenant=a"),
        ("http://h/rank/", "", "http://h/rank/"),
        ("http://h", "", "http://h/"),
    ],
)
def test_a_path_is_added_where_it_is_missing(base: str, path: str, joined: str) -> None:
    assert join(base, path) == joined


def test_a_sibling_replaces_the_path_at_the_end() -> None:
    assert sibling("http://h/gateway/rerank?a=b", "/rerank", "/info") == "http://h/gateway/info?a=b"


def test_a_query_is_not_shown_address() -> None:
    assert shown_address("https://h/v1/rerank?key=secret") == "https://h/v1/rerank"
    assert shown_address("http://user:secret@h:1/v1#secret") == "http://h:1/v1"
    assert shown_address("//u:se@cret@[bad/x@y") == "//[bad/x@y"
    assert shown_address("javascript:1") == "javascript:1"
