"""One protocol for every reranker.

```python
from rerank import Reranker

results = Reranker().rank("what is a panda?", ["a bear of China", "a kind of bread"])
```

`Reranker` runs a model: it takes strings or `Document`s and returns `RankedResults`, a sequence of `Result`s. A plugin
registers a `Backend` through the ``rerank_register_backends`` hook: see `rerank.hookspecs` for a complete example.
"""

from rerank.backend import PROTOCOL, Alias, Backend, Claim, Confidence
from rerank.batching import GroupScorer, group_requests, map_batches, plan_batches
from rerank.display import visible
from rerank.errors import (
    AmbiguousModelError,
    AuthenticationError,
    BackendNotFoundError,
    DocumentNotFoundError,
    InvalidInputError,
    InvalidOptionsError,
    MalformedRankingError,
    ModelLoadError,
    OutOfMemoryError,
    PluginError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RerankError,
    ScoringError,
    is_failure,
)
from rerank.forks import ForkSafeLock, no_fork, renew_in_child
from rerank.hookspecs import hookimpl
from rerank.labels import relevant_output
from rerank.model_ref import ModelRef
from rerank.model_source import ModelSource
from rerank.options import Options, Reload, find_named, is_data, read_data
from rerank.pairs import (
    PairLayout,
    PairRows,
    aggregate,
    describe_windows,
    encode_pairs,
    fit_pair,
    pair_rows,
    place_window,
    plan_parts,
    plan_windows,
)
from rerank.probes import knows_positions, may_pad, probe_limits, probe_rows
from rerank.prompts import saved_prompt
from rerank.protocols import Request, Scorer, Scores
from rerank.ranking import sigmoid
from rerank.registry import Registry, installed
from rerank.reranker import Reranker
from rerank.resolution import takes_any
from rerank.results import Document, RankedResults, Result, ScoreScale
from rerank.secrets import Secrets, shown_address, without_secrets
from rerank.streams import Streams, available_cores
from rerank.tokens import (
    FastTokens,
    TokenLimits,
    Tokens,
    find_pad_id,
    first_position,
    query_limit,
    read_tokenizer_config,
    reads_segments,
    special_token,
)

__version__ = "0.1.0"

__all__ = [
    "PROTOCOL",
    "Alias",
    "AmbiguousModelError",
    "AuthenticationError",
    "Backend",
    "BackendNotFoundError",
    "Claim",
    "Confidence",
    "Document",
    "DocumentNotFoundError",
    "FastTokens",
    "ForkSafeLock",
    "GroupScorer",
    "InvalidInputError",
    "InvalidOptionsError",
    "MalformedRankingError",
    "ModelLoadError",
    "ModelRef",
    "ModelSource",
    "Options",
    "OutOfMemoryError",
    "PairLayout",
    "PairRows",
    "PluginError",
    "ProviderError",
    "ProviderTimeoutError",
    "RankedResults",
    "RateLimitError",
    "Registry",
    "Reload",
    "Request",
    "RerankError",
    "Reranker",
    "Result",
    "ScoreScale",
    "Scorer",
    "Scores",
    "ScoringError",
    "Secrets",
    "Streams",
    "TokenLimits",
    "Tokens",
    "aggregate",
    "available_cores",
    "describe_windows",
    "encode_pairs",
    "find_named",
    "find_pad_id",
    "first_position",
    "fit_pair",
    "group_requests",
    "hookimpl",
    "installed",
    "is_data",
    "is_failure",
    "knows_positions",
    "map_batches",
    "may_pad",
    "no_fork",
    "pair_rows",
    "place_window",
    "plan_batches",
    "plan_parts",
    "plan_windows",
    "probe_limits",
    "probe_rows",
    "query_limit",
    "read_data",
    "read_tokenizer_config",
    "reads_segments",
    "relevant_output",
    "renew_in_child",
    "saved_prompt",
    "shown_address",
    "sigmoid",
    "special_token",
    "takes_any",
    "visible",
    "without_secrets",
]
