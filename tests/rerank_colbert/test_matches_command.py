"""The command ``rerank matches``, with fake backends."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_plugins import Site

from rerank import cli as command_line
from rerank import registry as registries
from rerank.distributions import DISTRIBUTIONS

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


def test_the_command_writes_a_page_and_images(matches: Callable[..., Ran], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="images need matplotlib")
    page, image, images = tmp_path / "m.html", tmp_path / "m.png", tmp_path / "m-{rank}.png"
    page.write_text("old", encoding="utf-8")
    ran = matches("bees make", *BEES, "--html", str(page), "--png", str(image), "-k", "2")
    assert (ran.code, ran.err.splitlines()) == (0, [f"wrote {page}", f"wrote {image}"])
    assert page.read_text(encoding="utf-8").count("<table>") == 2
    assert image.read_bytes().startswith(b"\x89PNG")
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
