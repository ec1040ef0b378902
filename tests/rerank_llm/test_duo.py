"""duoT5's probabilities equal the softmax over two tokens of a bare forward pass, one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from language_models import TEXTS
from tokenizers import Tokenizer

from rerank import Confidence, InvalidOptionsError, ModelRef, ScoringError
from rerank.testing.contract import QUERY
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.pairwise import all_pairs
from rerank_listwise.questions import Asked, Question, Tally
from rerank_listwise.rounds import run
from rerank_llm.generators.duo import DUO, GENERATOR, DuoT5
from rerank_llm.generators.fid_options import EncoderDecoderOptions
from rerank_llm.prompt import Prompt

torch.set_num_threads(1)  # models this small only wait for each other's threads


class DuoOptions(ListwiseOptions, EncoderDecoderOptions):
    """The options of the backend and of the generator together."""


@pytest.fixture(scope="module")
def load(t5: Path) -> Iterator[Callable[..., DuoT5]]:
    """Loads the model, once per set of options."""
    loaded: dict[Any, DuoT5] = {}

    def build(**options: Any) -> DuoT5:
        key = tuple(sorted(options.items()))
        if key not in loaded:
            loaded[key] = DuoT5(ModelRef(str(t5)), DuoOptions(**options))
        return loaded[key]

    yield build
    for answerer in loaded.values():
        answerer.close()


class Naive:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.network = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
        self.verdicts = self.tokenizer.convert_tokens_to_ids(["▁true", "▁false"])

    def ids(self, query: str, first: str, second: str) -> list[int]:
        text = f"Query: {query} Document0: {first} Document1: {second} Relevant:"
        ids: list[int] = self.tokenizer(text)["input_ids"]
        assert ids[-1] == self.tokenizer.eos_token_id
        return ids

    @torch.no_grad()
    def probability(self, ids: Sequence[int]) -> float:
        logits = self.network(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
        return float(logits[self.verdicts].softmax(dim=-1)[0])


@pytest.fixture(scope="module")
def naive(t5: Path) -> Naive:
    return Naive(t5)


def ask(query: str, texts: Sequence[str], passages: tuple[int, int], tally: Tally, **options: Any) -> Asked:
    return Asked(Question("compare", passages), query, [texts[n] for n in passages], tally, DuoOptions(**options))


def pairs(query: str, texts: Sequence[str], **options: Any) -> list[Asked]:
    """All ordered pairs of a request."""
    tally = Tally()
    return [ask(query, texts, pair, tally, **options) for pair in permutations(range(len(texts)), 2)]


def test_probabilities(load: Callable[..., DuoT5], naive: Naive) -> None:
    asked = [*pairs(QUERY, [*TEXTS[:4], ""]), *pairs("Why do shares fall?", TEXTS[:3])]
    read = 0
    for one, answer in zip(asked, load().answer(asked)):
        ids = naive.ids(one.query, *one.texts)
        expected = naive.probability(ids)
        first, second = one.question.passages
        assert answer.scores == pytest.approx({first: expected, second: 1 - expected}, abs=1e-5)
        assert answer.order == ((first, second) if expected >= 0.5 else (second, first))
        read += len(ids)
    tallies = [asked[0].tally, asked[-1].tally]
    assert [tally.calls for tally in tallies] == [20, 6]
    assert sum(tally.prompt_tokens for tally in tallies) == read
    assert all(tally.notes == {} for tally in tallies)


def test_published_sums_of_all_ordered_pairs(load: Callable[..., DuoT5], naive: Naive) -> None:
    texts, tally = TEXTS[:4], Tally()
    asked = run(
        all_pairs(range(4)),
        lambda questions: load().answer([ask(QUERY, texts, q.passages, tally) for q in questions]),
    )
    for n in range(4):
        won = [naive.probability(naive.ids(QUERY, texts[n], texts[other])) for other in range(4) if other != n]
        lost = [naive.probability(naive.ids(QUERY, texts[other], texts[n])) for other in range(4) if other != n]
        assert asked[n] == pytest.approx(sum(won + [1 - p for p in lost]) / 2, abs=1e-5)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"max_batch_tokens": 50}, {"threads": 2}])
def test_batched_equals_one_at_a_time(load: Callable[..., DuoT5], options: dict[str, Any]) -> None:
    together = pairs(QUERY, TEXTS[:4], **options)
    reload = {name: value for name, value in options.items() if name == "threads"}
    for one, answer in zip(together, load(**reload).answer(together)):
        alone = Asked(one.question, one.query, one.texts, Tally(), DuoOptions())
        (expected,) = load().answer([alone])
        assert answer.scores == pytest.approx(expected.scores, abs=1e-5)


def test_both_are_cut_alike_so_that_the_question_survives(load: Callable[..., DuoT5], naive: Naive) -> None:
    texts = ["pollen " * 100, "nectar " * 80]
    (one,) = pairs(QUERY, texts, max_length=200)[:1]
    (row,) = load()._rows([one], one.options)
    first, second = (
        naive.tokenizer(f" Document{n}: {text}", add_special_tokens=False)["input_ids"] for n, text in enumerate(texts)
    )
    before = naive.tokenizer(f"Query: {QUERY}", add_special_tokens=False)["input_ids"]
    after = naive.tokenizer(" Relevant:")["input_ids"]
    over = len(before) + len(first) + len(second) + len(after) - 200
    lost = (over + 1) // 2
    assert over > 0
    assert list(row.ids) == [*before, *first[:-lost], *second[:-lost], *after]
    assert one.tally.notes == {"truncated": 2}


def test_a_short_passage_is_not_lost(load: Callable[..., DuoT5], naive: Naive) -> None:
    (one,) = pairs(QUERY, ["bees", "nectar " * 300], max_length=100)[:1]
    (row,) = load()._rows([one], one.options)
    before, mark, first = (
        naive.tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (f"Query: {QUERY}", " Document0:", " Document0: bees")
    )
    start = [*before, *first[: len(mark) + 1]]
    assert len(row.ids) == 100
    assert list(row.ids[: len(start)]) == start
    assert "Document1: nectar nectar" in naive.tokenizer.decode(row.ids)
    with pytest.raises(InvalidOptionsError, match="raise max_length"):
        load().answer(pairs(QUERY * 30, TEXTS[:2], max_length=30))


def test_limits_of_the_users_own(load: Callable[..., DuoT5], naive: Naive) -> None:
    (one,) = pairs(QUERY, ["bees", "nectar " * 300], max_passage_tokens=2)[:1]
    (row,) = load()._rows([one], one.options)
    (tokens,) = load().first.tokens(["nectar " * 300])
    assert list(row.ids) == naive.ids(QUERY, "bees", naive.tokenizer.decode(tokens[:2]))
    assert one.tally.notes == {"truncated": 1}


def test_passages_cannot_end_themselves(load: Callable[..., DuoT5], naive: Naive) -> None:
    (one,) = pairs(QUERY, ["bees </s> dance", "bees"])[:1]
    (row,) = load()._rows([one], one.options)
    assert row.ids.count(naive.tokenizer.eos_token_id) == 1
    assert one.tally.notes == {"defused": 1}


@pytest.mark.parametrize("option", [{"temperature": 0.5}, {"max_new_tokens": 5}, {"recipe": "prp"}])
def test_options_without_meaning_are_errors(load: Callable[..., DuoT5], option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError, match=f"leave {next(iter(option))} out"):
        load().answer(pairs(QUERY, TEXTS[:2], **option))


def test_a_value_that_is_no_number_is_an_error(load: Callable[..., DuoT5]) -> None:
    with pytest.raises(ScoringError, match="dtype='bf16'"):
        load()._read(float("nan"), pairs(QUERY, TEXTS[:2])[0])


def test_what_it_says_of_itself(load: Callable[..., DuoT5]) -> None:
    answerer = load()
    assert answerer.kinds == {"compare"}
    assert answerer.most_passages(QUERY, TEXTS, DuoOptions()) == 2
    assert answerer.answer([]) == []
    for name, confidence in (
        ("castorini/duot5-base-msmarco", Confidence.CERTAIN),
        ("castorini/duot5-3b-med-msmarco", Confidence.CERTAIN),
        ("castorini/monot5-base-msmarco", Confidence.NONE),
    ):
        assert GENERATOR.claim(ModelRef(name), DuoOptions()).confidence == confidence


def test_real_tokens(shared: Path, load: Callable[..., DuoT5]) -> None:
    """The parts are the tokens of the whole text, and the verdicts have their published ids."""
    folder = shared / "data" / "tokenizers" / "t5-small"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    prompt = Prompt.load(DUO, ModelRef(str(folder)), DuoOptions(), {"pad_token_id": 0, "eos_token_id": 1})
    assert prompt.verdicts == (1176, 6136)
    limits: dict[str, Any] = {"instruction": None, "max_length": 512, "query_max_length": 384}
    for text in TEXTS:
        (row,) = prompt.encode(QUERY, [text], DuoOptions(), **limits).pairs.rows
        assert row == tokenizer.encode(f"Query: {QUERY} Document0: {text} Relevant:").ids
