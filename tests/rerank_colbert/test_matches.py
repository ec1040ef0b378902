"""Token matches: the text in pieces, the pictures in a terminal, a page and an image, and the command ``rerank matches``."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from fake_plugins import Site

from rerank import InvalidInputError, InvalidOptionsError, RankedResults, Result
from rerank import cli as command_line
from rerank import registry as registries
from rerank.distributions import DISTRIBUTIONS
from rerank_colbert.heatmap import COLUMNS, draw_png
from rerank_colbert.highlight import Piece, highlight, outside, shorten
from rerank_colbert.labels import ROWS
from rerank_colbert.page import as_html
from rerank_colbert.terminal import as_terminal

HOSTILE = {
    "markup": "<script>alert(1)</script> &amp; \"quoted\" 'single' </style></title>--> <img src=x onerror=alert(1)>",
    "escape sequences": "\x1b[2J\x1b]0;owned\x07 red \x1b[31m \x9b1m",
    "nulls and controls": "a\x00b\x08\x7f\x80\r\nnext\tline\x0b\x0c",
    "bidirectional controls": "user\u202egnp.exe\u202c \u2066isolated\u2069 \u200f",
    "lone surrogates": "a\ud800b\udfff",
    "emoji and combining marks": "e\u0301tude 👩‍👩‍👧 👍🏽 z" + "\u0301\u0323" * 500,
    "right to left": "النحل يصنع العسل דבורים",
    "Chinese and Japanese": "蜜蜂能酿蜜。ミツバチは蜂蜜を作る",
    "mathematics": "$x^2$ and $\\frac$ {braces} %s %(x)s",
    "white space": " \u2028\u2029\u3000\xa0 " * 3,
    "long": "honey " * 17_000,
}


def match(query: str, document: str, start: int | None, end: int | None, score: float) -> dict[str, Any]:
    return {"query": query, "document": document, "start": start, "end": end, "score": score, "window": 0}


def result(text: str, queries: list[str], rank: int = 1, doc_id: str | int = "d1") -> Result:
    """A result whose document tokens are a special token and the words of the text, with made-up scores."""
    spans = [found.span() for found in re.finditer(r"\S+", text)][:200]
    names = ["[CLS]", *(text[start:end] for start, end in spans)]
    all_spans = [None, *spans]
    scores = [[((3 * row + 7 * column) % 11) / 10 - 0.1 for column in range(len(names))] for row in range(len(queries))]
    best = [max(range(len(names)), key=row.__getitem__) for row in scores]
    return Result(
        doc_id=doc_id,
        text=text,
        score=sum(map(max, scores)),
        rank=rank,
        details={
            "matches": [
                match(query, names[column], *(all_spans[column] or (None, None)), row[column])
                for query, column, row in zip(queries, best, scores)
            ],
            "matrix": {"query": queries, "document": names, "spans": all_spans, "scores": scores},
        },
    )


def ranking(*results: Result, query: str = "what do bees make?") -> RankedResults:
    return RankedResults(
        results=list(results), query=query, has_scores=True, model="fake", backend="colbert", scale="similarity"
    )


def hostile_ranking(name: str) -> RankedResults:
    text = HOSTILE[name]
    return ranking(result(f"start {text} end", [text, "make", "[MASK]"], doc_id=text), query=text)


# The text in pieces


def weights(text: str, *matches: dict[str, Any]) -> list[tuple[str, float]]:
    pieces = highlight(text, matches)
    assert "".join(piece.text for piece in pieces) == text
    return [(piece.text, pytest.approx(piece.weight)) for piece in pieces]


def test_a_token_weighs_the_sum_of_its_matches_relative_to_the_largest() -> None:
    assert weights(
        "bees make honey",
        match("bees", "bees", 0, 4, 0.8),
        match("[MASK]", "honey", 10, 15, 0.5),
        match("food", "honey", 10, 15, 0.5),
        match("[MASK]", "honey", 10, 15, -0.3),
    ) == [("bees", 0.8), (" make ", 0.0), ("honey", 1.0)]


def test_a_piece_knows_its_matches() -> None:
    (first, rest) = highlight("bees fly", [match("bee", "bees", 0, 4, 0.8), match("fly", "bees", 0, 4, -0.1)])
    assert [own["query"] for own in first.matches] == ["bee", "fly"]
    assert rest == Piece(" fly", 0.0, ())


def test_parts_of_one_word_are_neighbours() -> None:
    assert weights("beekeeping", match("a", "bee", 0, 3, 1), match("b", "##keeping", 3, 10, 0.5)) == [
        ("bee", 1.0),
        ("keeping", 0.5),
    ]


def test_where_spans_overlap_the_heaviest_counts() -> None:
    assert weights("abcdef", match("q", "abcd", 0, 4, 0.5), match("r", "cdef", 2, 6, 1.0)) == [
        ("ab", 0.5),
        ("cd", 1.0),
        ("ef", 1.0),
    ]


@pytest.mark.parametrize("span", [(None, None), (7, 9), (4, 4), (3, 1), (-5, 0)])
def test_a_span_without_text_is_outside(span: tuple[int | None, int | None]) -> None:
    matches = [match("q", "[CLS]", *span, 0.9)]
    assert highlight("bees", matches) == [Piece("bees", 0.0, ())]
    assert outside("bees", matches) == matches


def test_a_span_beyond_the_text_is_cut() -> None:
    assert weights("bees", match("q", "es", 2, 99, 0.9)) == [("be", 0.0), ("es", 1.0)]
    assert weights("", match("q", "es", 2, 99, 0.9)) == []


def test_negative_scores_alone_have_no_weight() -> None:
    assert weights("bees fly", match("q", "bees", 0, 4, -0.2)) == [("bees", 0.0), (" fly", 0.0)]


@pytest.mark.parametrize("character", ["e\u0301", "👍🏽", "👩\u200d👩\u200d👧", "षि", "❤\ufe0f"])
def test_characters_of_several_code_points_stay_whole(character: str) -> None:
    text = f"a{character}z"
    for position in range(1, 1 + len(character)):
        assert weights(text, match("q", "?", position, position + 1, 1.0)) == [("a", 0.0), (character, 1.0), ("z", 0.0)]


def test_piled_up_marks_are_cut_somewhere() -> None:
    text = "z" + "\u0301" * 100_000
    pieces = highlight(text, [match("q", "?", n, n + 1, 1.0) for n in range(500)])
    assert "".join(piece.text for piece in pieces) == text


def test_shorten_keeps_whole_words_around_matches() -> None:
    text = "one two three four five bees six seven eight nine ten honey eleven twelve"
    pieces = highlight(text, [match("q", "bees", 24, 28, 1.0), match("r", "honey", 54, 59, 1.0)])
    assert "|".join(piece.text for piece in shorten(pieces, 10)) == "… five |bees| six … nine ten |honey| eleven …"
    assert shorten(pieces, 1000) == pieces


def test_shorten_without_matches_keeps_the_beginning() -> None:
    assert shorten(highlight("蜜" * 500, []), 10) == [Piece("蜜" * 10 + "…", 0.0, ())]


# In a terminal


def test_the_terminal_shows_each_match_in_a_line() -> None:
    text = "bees make honey"
    matches = [
        match("bee", "bees", 0, 4, 0.875),
        match("##s", "bees", 0, 4, -0.25),
        match("[MASK]", "[CLS]", None, None, 0.5),
    ]
    shown = Result(doc_id="d7", text=text, score=1.125, rank=2, details={"matches": matches})
    assert click.unstyle(as_terminal(ranking(shown))).splitlines() == [
        "2  1.1250  d7",
        "    bees make honey",
        "",
        "    bee    → bees    0.875",
        "    ##s    → bees   -0.250",
        "    [MASK] → [CLS]   0.500",
    ]


def test_the_terminal_colours_by_weight() -> None:
    text = "one two three four five"
    spans = [(0, 3), (4, 7), (8, 13), (14, 18)]
    matches = [match("q", "?", *span, score) for span, score in zip(spans, (0.1, 0.4, 0.7, 1.0))]
    line = as_terminal(
        ranking(Result(doc_id=1, text=text, score=None, rank=1, details={"matches": matches}))
    ).splitlines()[1]
    styles = re.findall(r"((?:\x1b\[[\d;]+m)+)(\w+)\x1b\[0m", line)
    assert [word for _, word in styles] == ["one", "two", "three", "four"]
    assert len({style for style, _ in styles}) == 4
    assert line.endswith(" five")


def test_wide_characters_are_aligned_and_wrapped() -> None:
    text = HOSTILE["Chinese and Japanese"] * 10
    shown = Result(
        doc_id=1,
        text=text,
        score=1.0,
        rank=1,
        details={"matches": [match("蜜蜂", "蜜蜂", 0, 2, 0.9), match("bee", "蜜", 0, 1, 0.8)]},
    )
    lines = click.unstyle(as_terminal(ranking(shown), width=60)).splitlines()
    assert all(cells(line) <= 60 for line in lines)
    assert [cells(line) for line in lines[-2:]] == [cells(lines[-1])] * 2


def cells(line: str) -> int:
    """Columns in a terminal, counted another way: by the widths of the Unicode standard."""
    return sum(
        0
        if unicodedata.combining(point) or point in "\u200d\ufe0f"
        else 2
        if unicodedata.east_asian_width(point) in "WF"
        else 1
        for point in line
    )


@pytest.mark.parametrize("width", [10, 40, 100])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_reaches_the_terminal(name: str, width: int) -> None:
    coloured = as_terminal(hostile_ranking(name), width)
    plain = re.sub(r"\x1b\[(?:0|1|4|38;5;16|48;5;\d+)m", "", coloured)
    assert all(character.isprintable() or character in "\n\u200d" for character in plain)
    assert all(cells(line) <= max(width, 40) for line in plain.splitlines())
    assert len(plain.splitlines()) < 40
    coloured.encode()


def test_a_query_of_many_tokens_is_bounded() -> None:
    shown = click.unstyle(as_terminal(ranking(result("bees make honey", ["bee"] * 1000))))
    assert shown.count(" → ") == ROWS
    assert "more matches" in shown


# As a page


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


def test_a_long_document_is_bounded() -> None:
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


# As an image


@pytest.fixture
def size() -> Callable[[bytes], tuple[int, int]]:
    """Draws with matplotlib; reads the size of a PNG."""
    pytest.importorskip("matplotlib", reason="images need matplotlib")

    def read(image: bytes) -> tuple[int, int]:
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")

    return read


def draw(shown: Result, query: str = "what do bees make?") -> bytes:
    image = io.BytesIO()
    draw_png(shown, query, image)
    return image.getvalue()


def test_an_image_grows_with_its_tokens_up_to_a_bound(size: Callable[[bytes], tuple[int, int]]) -> None:
    small = size(draw(result("bees make honey", ["bee", "food"])))
    wide = size(draw(result(" ".join(["bee"] * 60), ["bee", "food"])))
    huge = size(draw(result(" ".join(["bee"] * 200), ["bee"] * 500)))
    assert small[0] < wide[0] < huge[0] < 4000
    assert small[1] < huge[1] < 4000


@pytest.mark.parametrize(
    "name", ["markup", "nulls and controls", "lone surrogates", "mathematics", "right to left", "long"]
)
def test_an_image_of_hostile_texts(name: str, size: Callable[[bytes], tuple[int, int]]) -> None:
    shown = hostile_ranking(name)
    assert max(size(draw(shown[0], shown.query))) < 4000  # and no warning: they are errors here


def test_characters_without_a_glyph_warn_of_nothing(size: Callable[[bytes], tuple[int, int]]) -> None:
    size(draw(result("蜜蜂 \U0001f41d", ["蜂蜜"]), "ミツバチ"))


def test_a_single_cell_is_drawn(size: Callable[[bytes], tuple[int, int]]) -> None:
    matrix = {"query": ["bee"], "document": ["bee"], "spans": [[0, 3]], "scores": [[1.0]]}
    size(draw(Result(doc_id=1, text="bee", score=1.0, rank=1, details={"matches": [], "matrix": matrix})))


def test_an_image_goes_to_a_file_and_leaves_no_trace(tmp_path: Path, size: Callable[[bytes], tuple[int, int]]) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw_png(result("bees make honey", ["bee"]), "bees?", tmp_path / "matches.png")
    size((tmp_path / "matches.png").read_bytes())
    assert dict(mpl.rcParams) == before


def test_a_result_without_a_matrix_cannot_be_drawn(size: Callable[[bytes], tuple[int, int]]) -> None:
    with pytest.raises(InvalidInputError, match="document 'd1' has no matrix to draw: rank with matches='matrix'"):
        draw(Result(doc_id="d1", text="", score=1.0, rank=1, details={"matches": []}))


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidOptionsError, match=r"pip install 'rerank-colbert\[drawing\]'"):
        draw(result("bees make honey", ["bee"]))


# The command

PLUGIN = '''
"""A backend that matches words with themselves, one that knows the option and reports nothing, and the command."""

import re
from typing import Any

from rerank import Backend, Claim, Confidence, Options, Scores, hookimpl
from rerank.testing.fake import fake_backend
from rerank_colbert.command import command


class Matching(Options):
    matches: Any = False


class Words:
    def score(self, request):
        queries = re.findall(r"\\w+", request.query)
        details = []
        for document in request.documents:
            words = list(re.finditer(r"\\w+", document.text))
            names = [word[0] for word in words]
            scores = [[float(query == name) for name in names] for query in queries]
            own = {"matches": [
                {"query": query, "document": words[n][0], "start": words[n].start(), "end": words[n].end(),
                 "score": row[n], "window": 0}
                for query, row in zip(queries, scores) for n in [row.index(max(row))]
            ]}
            if request.options.matches == "matrix":
                spans = [[*word.span()] for word in words]
                own["matrix"] = {"query": queries, "document": names, "spans": spans, "scores": scores}
            details.append(own)
        values = [sum(match["score"] for match in own["matches"]) for own in details]
        return Scores(values=values, scale="similarity", details=details)


class Silent:
    def score(self, request):
        return Scores(values=[0.0] * len(request.documents), scale="similarity")


def backend(name, scorer):
    return Backend(
        name=name,
        summary="a fake",
        options=Matching,
        load=lambda model, options: scorer(),
        claim=lambda model: Claim(Confidence.CERTAIN if model.name == name else Confidence.NONE, "by name"),
    )


@hookimpl
def rerank_register_backends():
    return [backend("colbert", Words), backend("silent", Silent), fake_backend("plain")]


@hookimpl
def rerank_register_commands(cli):
    cli.add_command(command)
'''


class Ran(NamedTuple):
    """What the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """``rerank matches`` with the fake backends alone."""
    site = Site(tmp_path / "site")
    (site.folder / "fake_matches.py").write_text(PLUGIN, encoding="utf-8")
    site.describe("fake_matches")
    monkeypatch.syspath_prepend(str(site.folder))
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", ",".join({*DISTRIBUTIONS.values(), "rerank-colbert"}))
    monkeypatch.setattr(command_line.cli, "commands", {})
    registries._discovered.cache_clear()

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        with pytest.raises(SystemExit) as left:
            command_line.main(["matches", *arguments])
        return Ran(int(left.value.code or 0), *capsys.readouterr())

    yield run
    registries._discovered.cache_clear()
    site.forget()


BEES = ("bees make honey", "wasps make nests", "cows make milk", "birds make noise")


def test_the_command_shows_the_best_documents(matches: Callable[..., Ran]) -> None:
    ran = matches("what do bees make", *BEES)
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    lines = ran.out.splitlines()
    assert lines[0].split() == ["1", "2.0000", "0"]
    assert "    bees → bees   1.000" in lines
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == ["1", "2", "3"]
    assert "noise" not in ran.out
    assert "noise" in matches("what do bees make", *BEES, "-k", "4").out


def test_the_command_reads_files_and_pipes(matches: Callable[..., Ran], tmp_path: Path) -> None:
    path = tmp_path / "bees.jsonl"
    path.write_text("\n".join([*(json.dumps({"id": t[:4], "text": t}) for t in BEES), "{"]), encoding="utf-8")
    ran = matches("bees", str(path), "--skip-bad-lines")
    assert ran.out.startswith("1  1.0000  bees\n")
    assert ran.err.startswith("skipped: ")
    assert matches("bees", str(path)).code == 2
    assert matches("bees", "-", stdin="wasps\nbees\n").out.startswith("1  1.0000  1\n")


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_a_terminal_is_coloured_unless_it_asks_for_none(
    matches: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, no_color: str, is_coloured: bool
) -> None:
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda stream, color=None: color is False)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[1m1  2.0000" in matches("bees make", *BEES).out) == is_coloured


def test_the_command_writes_a_page_and_images(
    matches: Callable[..., Ran], tmp_path: Path, size: Callable[[bytes], tuple[int, int]]
) -> None:
    page, image, images = tmp_path / "m.html", tmp_path / "m.png", tmp_path / "m-{rank}.png"
    page.write_text("old", encoding="utf-8")
    ran = matches("bees make", *BEES, "--html", str(page), "--png", str(image), "-k", "2")
    assert (ran.code, ran.err.splitlines()) == (0, [f"wrote {page}", f"wrote {image}"])
    assert len(Page(page.read_text(encoding="utf-8")).all_of("table")) == 2
    size(image.read_bytes())
    assert matches("bees make", *BEES, "--png", str(images), "-k", "2").code == 0
    assert sorted(path.name for path in tmp_path.glob("m-*")) == ["m-1.png", "m-2.png"]


@pytest.mark.parametrize("model", ["plain", "silent"])
def test_a_backend_without_matches_is_named(matches: Callable[..., Ran], model: str) -> None:
    ran = matches("bees", *BEES, "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert f"backend '{model}' does not report which tokens match" in ran.err
    assert "--backend colbert" in ran.err


@pytest.mark.parametrize(
    ("name", "problem"),
    [("absent/m.html", "there is no folder"), (".", "is a directory"), ("m" * 300, "cannot be written")],
)
def test_a_file_that_cannot_be_written_is_reported(
    matches: Callable[..., Ran], tmp_path: Path, name: str, problem: str
) -> None:
    ran = matches("bees", *BEES, "--html", str(tmp_path / name))
    assert ran.code == 2
    assert problem in ran.err


def test_without_matplotlib_no_model_is_loaded(matches: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = matches("bees", *BEES, "--model", "absent", "--png", "m.png")
    assert ran.code == 2
    assert "pip install 'rerank-colbert[drawing]'" in ran.err


def test_no_documents_are_an_error(matches: Callable[..., Ran]) -> None:
    ran = matches("bees", "-")
    assert ran.code == 2
    assert "there are no documents" in ran.err


def test_the_help_shows_an_example(matches: Callable[..., Ran]) -> None:
    assert 'rerank matches "what is a panda?" passages.jsonl' in matches("--help").out


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import sys, rerank_colbert.command; print({'torch', 'matplotlib', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
