"""The model: words that query and document share. Put yours here."""

from __future__ import annotations

import re
from collections import Counter

from rerank import Request, Scores
from {{ cookiecutter.module }}.options import {{ cookiecutter.backend.title().replace('-', '') }}Options


class WordScorer:
    """Scores a document by the query's words in it."""

    def score(self, request: Request) -> Scores:
        """One score per document, in input order; higher is better."""
        options = request.options
        assert isinstance(options, {{ cookiecutter.backend.title().replace('-', '') }}Options)
        query = set(_words(request.query))
        values = []
        for document in request.documents:
            counts = Counter(_words(document.text))
            values.append(sum(counts[word] ** options.exponent for word in query))
        return Scores(values=values, scale="similarity")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
