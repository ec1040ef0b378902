"""A matrix of similarities as an image."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rankings import hostile_ranking, result

from rerank import InvalidInputError, InvalidOptionsError, Result
from rerank_colbert.heatmap import draw_png


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
