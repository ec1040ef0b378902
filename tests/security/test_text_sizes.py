"""Texts of any size: what a model does not read of a text is not tokenized, and no score notices."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from rerank import FastTokens, Options, PairLayout, Reranker, Tokens, encode_pairs

TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
KINDS = ("bert-base-uncased", "bert-multilingual-uncased", "phi-3", "roberta-base", "t5-small")


@cache
def read_tokens(kind: str) -> FastTokens:
    file = TOKENIZERS / kind / "tokenizer.json"
    if not file.is_file():
        pytest.skip(f"needs the tokenizer of {kind}")
    return FastTokens(Tokenizer.from_file(str(file)))


def repeat(text: str, characters: int) -> str:
    return (text * (characters // len(text) + 1))[:characters]


def mix(alphabet: Sequence[str], characters: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=characters))


SIZE = 60_000
KANA = [chr(code) for code in range(0x30A1, 0x30FF)]
HAN = [chr(code) for code in range(0x4E00, 0x4E80)]
TEXTS = {
    "English": repeat("Foragers dance to tell where flowers are; 1,234 others follow them, and fly. ", SIZE),
    "random words": " ".join(mix("abcdefghij", 7, seed) for seed in range(SIZE // 8)),
    "letters without space": mix("etaoinshrdlu", SIZE),
    "one letter": "a" * SIZE,
    "digits": mix("0123456789", SIZE),
    "Chinese": mix([*HAN, "。", "，"], SIZE),
    "Chinese without marks": mix(HAN, SIZE),
    "Japanese": repeat("ミツバチは花の場所をダンスで仲間に伝える。東京タワーでーーーす！", SIZE),
    "kana without marks": mix(KANA, SIZE),
    "Thai": repeat("ผึ้งงานเต้นรำเพื่อบอกตำแหน่งของดอกไม้", SIZE),
    "emoji": mix(["😂", "👩\u200d🔬", "❤️", "🇩🇪"], SIZE),
    "accents apart": mix(["e\u0301", "a\u0308\u0323", "한", "ㅎ"], SIZE),
    "one accented letter": "a" + mix(["\u0301", "\u0323", "\u0308"], SIZE),
    "Hangul in parts": mix(["\u1112\u1161\u11ab", "\u1100\u1173\u11af"], SIZE),
    "zero-width characters": mix(["\u200b", "\u200d", "x"], SIZE),
    "spaces": " " * SIZE + "the end",
    "newlines": "the start" + "\n" * SIZE + "the end",
    "spaces and newlines": mix(" \n\t", SIZE) + "the end",
    "a word per screen": repeat("word" + " " * 3000, SIZE),
    "words of 100 and 101": " ".join("b" * (100 + n % 2) for n in range(SIZE // 100)),
    "words of 99 and a sign that is unknown": mix(["x" * 99, "\u2603", "-", "y"], SIZE // 20),
    "lines of signs": mix(["=" * 70, "-" * 70, "\n", "_" * 33], SIZE // 40),
    "special tokens": mix(["[MASK]", "<mask>", "<s>", "</s>", "[SEP]", "<|end|>", "<extra_id_0>", "a"], SIZE // 5),
    "sigmas": mix(["ΟΔΟΣ", "Σ", "İ", "ẞ", "ﬁ", "½"], SIZE // 2),
    "base64": mix("ABCDEFGHabcdefgh0123456789+/", SIZE),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEXTS)
def test_the_first_tokens_are_those_of_the_whole_text(kind: str, name: str) -> None:
    tokens, text = read_tokens(kind), TEXTS[name]
    whole = list(tokens([text])[0])
    for wanted in (8, 200):
        short = tokens.shorten(text, wanted)
        assert text.startswith(short)
        if short == text:
            continue
        for ids in tokens([short + more for more in ("", "s", "\u0301", " x", "\n", "\u200d🔬")]):  # whatever follows
            assert ids[:wanted] == whole[:wanted]
            assert len(ids) > wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_of_a_cut_keeps_the_tokens(kind: str) -> None:
    """The same text is moved by one character at a time, so that the cut falls everywhere."""
    tokens = read_tokens(kind)
    for name in ("English", "words of 100 and 101", "Japanese", "accents apart", "special tokens"):
        for moved in range(0, 110, 9):
            text = TEXTS[name][moved : moved + 12_000]
            assert tokens([tokens.shorten(text, 4)])[0][:4] == tokens([text])[0][:4], (name, moved)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["English", "random words", "Japanese", "Chinese"])
def test_little_of_a_long_text_is_read(kind: str, name: str) -> None:
    """Also where there are no spaces; a token may have 128 characters in RoBERTa's vocabulary, and all of them are tried."""
    if kind == "t5-small" and name in ("Japanese", "Chinese"):
        pytest.skip("T5 knows no such characters: a text of them is one token")
    text = TEXTS[name] * (10 if kind == "roberta-base" else 4)
    assert len(read_tokens(kind).shorten(text, 512)) < 6000


def test_a_token_that_reaches_over_words_is_noticed() -> None:
    """SuperBPE's kind: where a token may hold a word and the next space, another way to cut is taken."""
    from tokenizers import models

    vocabulary = {"a": 0, " ": 1, "b": 2, "a ": 3, "a b": 4}
    tokens = FastTokens(Tokenizer(models.BPE(vocabulary, [("a", " "), ("a ", "b")])))
    text = repeat("a b ", 9000)
    assert tokens.shorten(text, 16) != text
    for moved in range(8):
        assert tokens([tokens.shorten(text[moved:], 16)])[0][:16] == tokens([text[moved:]])[0][:16]
    assert len(tokens._places_to_cut(text, 500)) > 1


def test_counts_from_the_right_are_read_whole() -> None:
    """Digits in groups of three from the right depend on the end of the number, which no beginning shows."""
    from tokenizers import Regex, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({**{str(n): n for n in range(10)}, "12": 10}, [("1", "2")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(\d{3})*$)"), "isolated")
    tokens = FastTokens(tokenizer)
    for length in (9000, 9001, 9002):
        text = repeat("12", length)
        assert tokens([tokens.shorten(text, 16)])[0][:16] == tokens([text])[0][:16]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_pairs_and_what_they_report(kind: str) -> None:
    """Query and document, each shorter, just as long, and longer than what is read."""
    tokens = read_tokens(kind)
    layout, options = PairLayout(before=(1,), between=(2,), after=(3,)), Options()
    texts = [
        (query, [TEXTS["English"], TEXTS["Japanese"], TEXTS["spaces"], "short", *(TEXTS["English"][:n] for n in near)])
        for query in ("how do bees find flowers?", TEXTS["English"], TEXTS["spaces"])
        for near in [range(13_000, 13_010)]
    ]

    def lay_out(of: Callable[[Sequence[str]], list[list[int]]]) -> list[Any]:
        pairs = encode_pairs(texts, of, layout, options, max_length=64, query_max_length=48)
        return [(one.rows, one.query_len, one.truncated, one.query_truncated, one.windows) for one in pairs]

    assert lay_out(tokens) == lay_out(tokens.__call__)  # a function, which cannot shorten


@pytest.mark.parametrize("kind", KINDS)
def test_windows_read_all_of_a_document(kind: str) -> None:
    tokens = read_tokens(kind)
    text = TEXTS["English"][:40_000]
    (pairs,) = encode_pairs(
        [("query", [text])], tokens, PairLayout(), Options(long_documents="chunk"), max_length=64, query_max_length=48
    )
    assert pairs.windows[-1][1] == len(tokens([text])[0])
    assert not pairs.truncated


def test_a_tokenizer_written_in_python_reads_all() -> None:
    class Words(Tokens):
        def __call__(self, texts: Sequence[str]) -> list[list[int]]:
            return [[len(word) for word in text.split()] for text in texts]

        def join(self, text: str, other: str | None = None) -> tuple[list[int], list[int]]:
            raise NotImplementedError

        def find(self, token: str) -> int | None:
            return None

        def name(self, token_id: int) -> str:
            return ""

        def spans(self, text: str) -> None:
            return None

        @property
        def pad_id(self) -> int | None:
            return None

    assert Words().shorten(TEXTS["English"], 8) == TEXTS["English"]


@pytest.mark.parametrize("kind", KINDS)
def test_passages_are_cut_where_they_would_be(kind: str) -> None:
    """``max_passage_tokens`` of listwise models."""
    tokens = read_tokens(kind)
    for name in ("English", "Japanese", "emoji", "spaces"):
        text = TEXTS[name]
        (offsets,) = [tokens.tokenizer.encode(text, add_special_tokens=False).offsets]
        kept = 100
        while kept and len(offsets) > kept and offsets[kept][0] < offsets[kept - 1][1]:
            kept -= 1
        assert tokens.cut(text, 100) == (text if len(offsets) <= 100 else text[: offsets[kept - 1][1]]), name


# The same of whole rerankers: once as they are, and once as if no text were ever shortened


@pytest.fixture
def whole_texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, every text is tokenized whole."""
    return lambda: monkeypatch.setattr(FastTokens, "shorten", Tokens.shorten)


def rank_with(reranker: Reranker, query: str, documents: Sequence[str], **options: Any) -> tuple[Any, Any]:
    ranked = reranker.rank(query, documents, **options)
    return [(result.index, result.score, result.details) for result in ranked], ranked.diagnostics


LONG = [TEXTS["English"], TEXTS["random words"], TEXTS["Japanese"], TEXTS["spaces"], "bees dance", ""]


@pytest.mark.parametrize("query", ["how do bees find flowers?", TEXTS["English"]], ids=["short", "long"])
def test_scores_and_reports_are_those_of_whole_texts(local: Any, whole_texts: Callable[[], None], query: str) -> None:
    with local.build() as reranker:
        shortened = rank_with(reranker, query, LONG)
        assert shortened[1]["truncated"] >= 3
        assert shortened[1]["query_truncated"] == (len(query) > 1000)
        whole_texts()
        assert rank_with(reranker, query, LONG) == shortened


def test_late_interaction_and_its_matches_are_those_of_whole_texts(
    tmp_path: Path, whole_texts: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rerank_colbert")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "rerank_colbert"))
    from checkpoints import save_stanford

    with Reranker(save_stanford(tmp_path / "model"), device="cpu") as reranker:
        shortened = rank_with(reranker, TEXTS["English"], LONG, matches="matrix")
        assert shortened[1]["truncated"] >= 3
        whole_texts()
        assert rank_with(reranker, TEXTS["English"], LONG, matches="matrix") == shortened


@pytest.mark.parametrize(("kind", "recipe"), [("t5-small", "monot5"), ("phi-3", "qwen3"), ("roberta-base", "ctxl-v2")])
def test_prompts_are_those_of_whole_texts(kind: str, recipe: str, whole_texts: Callable[[], None]) -> None:
    """What stands behind a document may be joined with its last token, so that its end counts as well."""
    pytest.importorskip("rerank_llm")
    from rerank_llm.prompt import Prompt
    from rerank_llm.recipes import find

    prompt = Prompt(find(recipe), read_tokens(kind), {}, {"eos_token": "</s>"})
    documents = [*LONG, *(TEXTS["English"] + end for end in (".", "?!", " ", "\n\n", "<|end|>", "東京"))]
    limits = {"instruction": None, "max_length": 400, "query_max_length": 60}
    shortened = [prompt.encode(query, documents, Options(), **limits) for query in ("bees?", *LONG[:3])]
    assert all(one.pairs.truncated >= 6 for one in shortened)
    assert [one.pairs.query_truncated for one in shortened] == [False, True, True, True]
    whole_texts()
    for one, query in zip(shortened, ("bees?", *LONG[:3])):
        whole = prompt.encode(query, documents, Options(), **limits)
        assert one.pairs.rows == whole.pairs.rows
        assert (one.pairs.truncated, one.pairs.query_truncated) == (whole.pairs.truncated, whole.pairs.query_truncated)


# Time and memory


def test_a_document_of_50_mb_takes_no_time_and_no_memory() -> None:
    """Measured in what is tokenized, which took 26 s and 5 GB."""
    tokens = read_tokens("bert-base-uncased")
    seen: list[int] = []

    class Counting(FastTokens):
        def __call__(self, texts: Sequence[str]) -> list[list[int]]:
            seen.append(sum(map(len, texts)))
            return super().__call__(texts)

    counting = Counting(tokens.tokenizer)
    text = repeat("Foragers dance to tell where flowers are. ", 50_000_000)
    (pairs,) = encode_pairs([(text, [text])], counting, PairLayout(), Options(), max_length=512, query_max_length=384)
    assert (pairs.truncated, pairs.query_truncated) == (1, True)
    assert sum(seen) < 25_000


def test_removed_tokens_that_come_together_again_take_no_time() -> None:
    """jina-reranker-v3: removed until none is left, 100,000 nested ones took a pass each."""
    pytest.importorskip("rerank_llm")
    from rerank_llm.generators.jina import EMBED, Cleaner

    cleaner = Cleaner(read_tokens("phi-3"))
    nested = EMBED[:4] * 100_000 + EMBED[4:] * 100_000
    started = time.monotonic()
    (text,) = cleaner.prepare([nested], 16)
    assert time.monotonic() - started < 5
    assert text.truncated
