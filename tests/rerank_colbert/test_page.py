"""Token matches as a page, read by a parser that wants each element closed."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

import pytest
from rankings import HOSTILE, hostile_ranking, match, ranking, result

from rerank import Result
from rerank_colbert.heatmap import COLUMNS
from rerank_colbert.labels import ROWS
from rerank_colbert.page import CHARACTERS, MARKS, as_html


class Page(HTMLParser):
    """The elements and the text of a page, with each element closed where it must be."""

    VOID = ("meta",)

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_shades_tokens_and_explains_them() -> None:
    matches = [
        match("bee", "bees", 0, 4, 0.8),
        match("food", "honey", 10, 15, 1.0),
        match("[MASK]", "honey", 10, 15, 0.6),
        match("is", "[CLS]", None, None, 0.5),
    ]
    shown = Result(doc_id="d7", text="bees make honey", score=2.9, rank=1, details={"matches": matches})
    page = Page(as_html(ranking(shown)))
    assert page.texts["mark"] == ["bees", "honey"]
    assert [mark["title"] for mark in page.all_of("mark")] == [
        "bee → bees 0.800",
        "food → honey 1.000\n[MASK] → honey 0.600",
    ]
    assert [mark["style"] for mark in page.all_of("mark")] == ["--w:58%", "--w:100%"]
    assert "Outside the text: is → [CLS] 0.500" in page.texts["p"]
    assert page.all_of("table") == []


def test_the_page_has_the_matrix_with_headings() -> None:
    shown = result("bees make honey", ["bee", "food"])
    page = Page(as_html(ranking(shown)))
    assert page.texts["th"] == ["[CLS]", "bees", "make", "honey", "bee", "food"]
    titles = [cell["title"] for cell in page.all_of("td") if "title" in cell]
    assert titles[:2] == ["bee → [CLS] -0.100", "bee → bees 0.600"]
    best = [cell["title"] for cell in page.all_of("td") if cell.get("class") == "best"]
    assert best == [f"{m['query']} → {m['document']} {m['score']:.3f}" for m in shown.details["matches"]]
    shades = [int(re.findall(r"\d+", cell["style"] or "")[0]) for cell in page.all_of("td") if "title" in cell]
    assert (min(shades), max(shades)) == (0, 100)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_of_hostile_texts_is_well_formed_and_loads_nothing(name: str) -> None:
    markup = as_html(hostile_ranking(name))
    page = Page(markup)
    assert {tag for tag, _ in page.elements} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "h1",
            "h2",
            "p",
            "article",
            "span",
            "div",
            "mark",
        ),
        *("details", "summary", "table", "tr", "th", "td"),
    }
    attributes = {attribute for _, own in page.elements for attribute in own}
    assert not {name for name in attributes if name.startswith(("on", "src", "href"))}
    assert not re.search(r"url\(|@import", "".join(page.texts["style"]))
    assert all(point in "\t\n\r" or unicodedata.category(point) not in ("Cc", "Cs") for point in markup)
    markup.encode()


def test_the_page_keeps_the_text() -> None:
    text = HOSTILE["right to left"] + HOSTILE["markup"]
    shown = Result(doc_id=1, text=text, score=1.0, rank=1, details={"matches": [match("q", "?", 3, 9, 1.0)]})
    page = as_html(ranking(shown))
    (inside,) = re.findall(r'<div class="text" dir="auto">(.*)</div>', page, re.DOTALL)
    reader = HTMLParser()
    found: list[str] = []
    reader.handle_data = found.append  # type: ignore[method-assign]
    reader.feed(inside)
    reader.close()
    assert "".join(found) == text


@pytest.mark.parametrize("count", [0, 1, 3, 2000, MARKS + 5])
def test_a_long_text_is_bounded(count: int) -> None:
    text = "honey " * 200_000
    starts = range(0, len(text), len(text) // (count or 1))[:count]
    matches = [match("q", "honey", start, start + 5, 1.0) for start in starts]
    shown = Result(doc_id=1, text=text, score=1.0, rank=1, details={"matches": matches})
    page = Page(as_html(ranking(shown)))
    parts = [*page.texts["div"], *page.texts.get("mark", [])]
    assert CHARACTERS / 4 < sum(map(len, parts)) <= CHARACTERS
    assert len(page.all_of("mark")) == min(count, MARKS)


def test_a_long_text_is_shown_around_its_matches() -> None:
    text = " ".join(f"{number:06}" for number in range(100_000))
    start = text.index("040000")
    found = [match("q", "040000", start, start + 6, 1.0)]
    shown = Result(doc_id=1, text=text, score=1.0, rank=1, details={"matches": found})
    before, after = Page(as_html(ranking(shown))).texts["div"]
    assert before.startswith("…")
    assert before.endswith("039998 039999 ")
    assert after.startswith(" 040001 040002")
    assert after.endswith("…")


def test_a_text_at_the_bound_is_shown_whole() -> None:
    text = "x" * CHARACTERS
    shown = Result(doc_id=1, text=text, score=1.0, rank=1, details={"matches": [match("q", "?", 3, 9, 1.0)]})
    texts = Page(as_html(ranking(shown, query=text))).texts
    assert "".join([texts["div"][0], *texts["mark"], *texts["div"][1:]]) == text
    assert texts["h1"] == [text]


def test_a_long_query_and_the_name_of_a_model_are_bounded() -> None:
    named = ranking(query="bees " * 1_000_000).model_copy(update={"model": "m" * 1_000_000})
    markup = as_html(named)
    assert len(markup) < 3 * CHARACTERS
    assert Page(markup).texts["h1"][0].endswith("bees …")


def test_a_matrix_of_many_tokens_is_bounded() -> None:
    shown = result(" ".join(f"w{n}" for n in range(150)), ["q"] * 100)
    page = Page(as_html(ranking(shown)))
    assert len([cell for cell in page.all_of("td") if "title" in cell]) == ROWS * COLUMNS
    assert len([cell for cell in page.all_of("td") if cell.get("class") == "best"]) == ROWS
    (note,) = [text for text in page.texts["p"] if "faintest" in text]
    assert f"{ROWS} of 100 query tokens" in note
    assert f"{COLUMNS} of 151 document tokens" in note


def test_a_row_keeps_its_best_match_among_many_better_columns() -> None:
    columns = 300
    strong = [1.0] * columns
    weak = [0.0] * (columns - 1) + [0.1]
    names = [f"w{n}" for n in range(columns)]
    strong[-1] = 0.0
    matrix = {"query": ["strong", "weak"], "document": names, "spans": [None] * columns, "scores": [strong, weak]}
    shown = Result(doc_id=1, text="", score=1.1, rank=1, details={"matches": [], "matrix": matrix})
    assert 'class=best style="--w:10%" title="weak → w299 0.100"' in as_html(ranking(shown))


def test_an_empty_ranking_and_an_empty_matrix_make_a_page() -> None:
    Page(as_html(ranking()))
    matrix = {"query": ["q"], "document": [], "spans": [], "scores": [[]]}
    shown = Result(doc_id=1, text="", score=None, rank=1, details={"matches": [], "matrix": matrix})
    assert Page(as_html(ranking(shown))).all_of("table") == []
