"""``rerank encode``: what it keeps is what ranking finds, and an interrupt keeps what is written."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rerank import Backend, Claim, Confidence, Reranker, Scores, installed
from rerank import cli as command_line
from rerank_vectors import EncodesDocuments, VectorOptions
from rerank_vectors.folder import list_segments

pytest.importorskip("rerank_nano")

TEXTS = ["Bees dance.", "Shares rose.", "Bees dance."]
LONG = "nectar and pollen " * 200


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """The command ``rerank`` in this process, with a folder for caches of its own."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))

    def run_here(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            command_line.main(list(arguments))
        captured = capsys.readouterr()
        return Ran(int(left.value.code or 0), captured.out, captured.err)

    return run_here


def test_help_explains_it_with_an_example(run: Callable[..., Ran]) -> None:
    ran = run("encode", "--help")
    assert (ran.code, ran.err) == (0, "")
    for message in ("rerank encode passages.jsonl", "--vectors DIR", "--option K=V", "--skip-bad-lines", "--lang"):
        assert message in ran.out
    assert "encode " in run("--help").out


def test_what_is_encoded_is_found_when_it_is_ranked(run: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "caches" / "rerank" / "vectors"
    ran = run("encode", *TEXTS, LONG)
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(
        rf"encoded 3 documents, of which 1 lost tokens; 0 were there already; {re.escape(str(folder))} holds 0\.\d MB\n",
        ran.out,
    )
    assert run("encode", *TEXTS, LONG, "A new one.").out.startswith(
        "encoded 1 document, of which 0 lost tokens; 3 were there already; "
    )
    with Reranker(vectors="disk") as reranker:
        ranked = reranker.rank("bees", [*TEXTS, LONG, "A new one."])
        scorer = reranker.scorer
        assert isinstance(scorer, EncodesDocuments)
        assert scorer.encode_documents([*TEXTS, LONG, "A new one."], reranker.options).encoded == 0
    assert ranked.diagnostics["truncated"] == 1
    assert ranked.has_scores


def test_documents_come_from_files_and_pipes(run: Callable[..., Ran], tmp_path: Path) -> None:
    (file := tmp_path / "passages.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    kept = str(tmp_path / "kept")
    assert run("encode", str(file), "--vectors", kept).out.startswith("encoded 2 documents")
    assert run("encode", "-", "--vectors", kept, stdin="one\nthree\n").out.startswith("encoded 1 document")
    assert run("encode", "--vectors", kept, stdin="one\nfour\n").out.startswith("encoded 1 document")
    assert run("encode", "--vectors", kept, stdin="").out.startswith("encoded 0 documents")
    bad = run("encode", "--vectors", kept, "--input-format", "jsonl", stdin='{"text": "five"}\n{"text": 5}\n')
    assert (bad.code, bad.out) == (2, "")
    skipped = run(
        "encode",
        "--vectors",
        kept,
        "--input-format",
        "jsonl",
        "--skip-bad-lines",
        stdin='{"text": "five"}\n{"text": 5}\n',
    )
    assert skipped.code == 0
    assert skipped.out.startswith("encoded 1 document")
    assert "skipped: standard input, line 2" in skipped.err


def test_options_reach_the_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    for count, options in ((2, ()), (2, ("-o", "max_length=16")), (0, ("-o", f"vectors={kept}")), (0, ("-m", "nano"))):
        ran = run("encode", *TEXTS, "--vectors", kept, *options)
        assert ran.out.startswith(f"encoded {count} documents"), ran
    assert run("encode", *TEXTS, "--vectors", kept, "-o", "vectors_dtype=int8").out.startswith("encoded 2 documents")


def test_a_backend_that_keeps_no_vectors_is_refused(run: Callable[..., Ran]) -> None:
    registry = installed()
    plain = Backend(
        name="plain-test",
        summary="keeps nothing",
        load=lambda model, options: pytest.fail("it was loaded"),
        claim=lambda model: Claim(Confidence.NONE, ""),
    )
    registry.backends["plain-test"] = plain
    try:
        ran = run("encode", "a", "b", "--backend", "plain-test")
    finally:
        del registry.backends["plain-test"]
    assert (ran.code, ran.out) == (2, "")
    assert re.search(r"'plain-test' cannot use.*'vectors'.*the backends that keep document vectors are .*nano", ran.err)


class Nothing:
    def score(self, request: Any) -> Scores:
        return Scores(values=[0.0] * len(request.documents), scale="logit")


def test_a_model_that_encodes_no_documents_is_refused(run: Callable[..., Ran], tmp_path: Path) -> None:
    registry = installed()
    registry.backends["half-test"] = Backend(
        name="half-test",
        summary="has the options alone",
        load=lambda model, options: Nothing(),
        claim=lambda model: Claim(Confidence.NONE, ""),
        options=VectorOptions,
    )
    try:
        ran = run("encode", "a", "b", "-m", "x", "--backend", "half-test", "--vectors", str(tmp_path / "kept"))
    finally:
        del registry.backends["half-test"]
    assert (ran.code, ran.out) == (2, "")
    assert "encodes no documents apart from a query" in ran.err


def test_vectors_in_memory_make_no_sense_here(run: Callable[..., Ran]) -> None:
    for given in (("--vectors", "memory"), ("-o", "vectors=None")):
        ran = run("encode", "a", "b", *given)
        assert (ran.code, ran.out) == (2, "")
        assert "end with this command" in ran.err


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Path]:
    """5,000 short documents: five groups."""
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"passage number {n}" for n in range(5000)))
    yield file
    file.unlink()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_an_interrupt_keeps_what_is_written(many: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    command = [sys.executable, "-m", "rerank", "encode", str(many), "--vectors", str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not list_segments(kept) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "")
    done = subprocess.run([*command, "-o", "progress=False"], capture_output=True, text=True, check=True)
    encoded, there = map(int, re.findall(r"encoded (\d+) .* (\d+) were there", done.stdout)[0])
    assert encoded + there == 5000
    assert 0 < there < 5000
    about = json.loads(next(kept.glob("*/about.json")).read_text(encoding="utf-8"))
    assert about["dimensions"] == 384
