"""A plugin whose model never returns."""

import sys
import time

from rerank import Claim, Confidence, Scores, hookimpl
from rerank.testing.fake import fake_backend


class Sleeper:
    def score(self, request):
        print("scoring", file=sys.stderr, flush=True)
        for _ in range(600):
            time.sleep(0.1)  # an interrupt that comes just before a sleep is seen after it
        return Scores(values=[0.0] * len(request.documents), scale="logit")


@hookimpl
def rerank_register_backends():
    yield fake_backend("slow", load=lambda model, options: Sleeper())
    yield fake_backend(
        "failing",
        load=lambda model, options: 1 / 0,
        claim=lambda model: Claim(Confidence.CERTAIN if model.name == "failing" else Confidence.NONE, "by name"),
    )
