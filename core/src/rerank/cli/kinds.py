"""What kind of file an input is: its bytes unpacked and decoded, or refused by the name of their kind."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Final
from xml.parsers import expat

from rerank.errors import InvalidInputError

MAX_UNPACKED_BYTES: Final = 1 << 30
"""The most that a gzip file may unpack to: a few kilobytes can hold many gigabytes."""

MAX_RATIO: Final = 100
"""How many times its own size a gzip file above `FREE_UNPACKED_BYTES` may unpack to; text shrinks to a third or a tenth."""

FREE_UNPACKED_BYTES: Final = 1 << 20

SAMPLE: Final = 4096
"""How many characters of the beginning decide what an input is."""

UNDECODED: Final = re.compile("[\udc80-\udcff]")
"""What a byte that is no UTF-8 becomes where bad lines are skipped."""

_GZIP: Final = b"\x1f\x8b"

_BYTES: Final = (
    (rb"PAR1[^ -~\t\r\n]", "Parquet: read it with pandas, and give the rows as JSON lines"),
    (rb"(ARROW1\0\0|FEA1)", "Arrow: read it with pyarrow, and give the rows as JSON lines"),
    (rb"Obj\x01", "Avro: give its rows as JSON lines"),
    (rb"PK\x03\x04", "a zip archive, or an Office document: unpack it, or save it as CSV or text"),
    (rb"(?s:.{257})ustar", "a tar archive: unpack it, and give one of its files"),
    (rb"7z\xbc\xaf", "a 7z archive: unpack it, and give one of its files"),
    (rb"SQLite format 3", "an SQLite database: give its rows as CSV or JSON lines"),
    (rb"\x93NUMPY", "a numpy array: give its rows as JSON lines"),
    (rb"\x89HDF", "HDF5: give its rows as JSON lines"),
    (
        rb"\x80[\x02-\x05]|[\]\}]q\0|\([ld]p\d+\n|c(copy_?reg|builtins|__builtin__)\n",
        "a pickle: give its rows as JSON lines",
    ),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a", "an image: give text"),
    (rb"RIFF(?s:.{4})(WAVE|WEBP|AVI )|ID3[\x02-\x04]|OggS\0", "an image, sound or film: give text"),
    (rb"\x1f\x8b", "gzip inside gzip: unpack it first"),
    (rb"BZh[1-9]1AY", "compressed with bzip2: unpack it first"),
    (rb"\xfd7zXZ", "compressed with xz: unpack it first"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (rb"\x04\x22\x4d\x18", "compressed with lz4: unpack it first"),
    (rb"\xd0\xcf\x11\xe0", "an Office document: save it as CSV or text"),
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", "UTF-32: convert it to UTF-8 first"),
    (rb"\xff\xfe|\xfe\xff", "UTF-16: convert it to UTF-8 first"),
)
"""How files begin that hold no text, and what they are."""

_LETTERS: Final = (
    (rb"%PDF-", "PDF: extract its text"),
    (rb"%!PS-", "PostScript: extract its text"),
    (rb"\{\\rtf\d", "RTF: save it as text"),
    (rb"version https://git-lfs", "a git-lfs pointer instead of the file: fetch that with git lfs pull"),
)
"""The same for files whose beginning a text may have too."""


def unpack(content: bytes, where: str) -> bytes:
    """Return the content of gzip, and any other content as it is.

    Raises:
        InvalidInputError: It is damaged, broken off, followed by something else, or unpacks to too much.
    """
    if not content.startswith(_GZIP):
        return content
    limit = min(MAX_UNPACKED_BYTES, max(FREE_UNPACKED_BYTES, MAX_RATIO * len(content)))
    unpacked, rest = b"", content
    try:
        while rest.startswith(_GZIP):  # a file may hold several streams, one after another
            stream = zlib.decompressobj(wbits=31)
            unpacked += stream.decompress(rest, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise InvalidInputError(
                    f"{where} unpacks to more than {limit >> 20} MB: unpack it, and give it in parts"
                )
            if not stream.eof:
                raise InvalidInputError(f"{where} is gzip that breaks off: fetch it again")
            rest = stream.unused_data
    except zlib.error as error:
        raise InvalidInputError(f"{where} is damaged gzip ({error}): fetch it again") from error
    if rest.strip(b"\0"):  # zeros fill up a block of tape
        raise InvalidInputError(
            f"{where} has {len(rest)} bytes behind its gzip that are no gzip: fetch it again, or remove them"
        )
    return unpacked


def decode(content: bytes, where: str, *, by_line: bool, of_any_kind: bool) -> str:
    """Decode UTF-8, and end the lines of an old Mac file with newlines.

    Args:
        content: The bytes.
        where: What errors call them.
        by_line: Whether a byte that is no UTF-8 is kept as one of `UNDECODED`, for the reader of its line.
        of_any_kind: Whether a text may begin like a file of another kind.

    Raises:
        InvalidInputError: They are of a kind that holds no text, or no UTF-8.
    """
    for pattern, kind in _BYTES if of_any_kind else _BYTES + _LETTERS:
        if re.match(pattern, content):
            raise InvalidInputError(f"{where} is {kind}")
    sample = content[:SAMPLE]
    if b"\0" in content or _is_tabbed(sample) or len(_CONTROLS.findall(sample)) * 100 > len(sample):
        nul = content.find(b"\0")
        place = f" (line {content.count(10, 0, nul) + 1} has a NUL)" if nul >= 0 else ""
        kind = "UTF-16 without a mark" if _is_utf_16(sample) else f"binary, or UTF-16 or UTF-32{place}"
        raise InvalidInputError(f"{where} is {kind}: convert it to UTF-8 text first")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not by_line:
            raise InvalidInputError(
                f"{where} is not UTF-8 at byte {error.start}, in line {content.count(10, 0, error.start) + 1}: convert it "
                "first (--skip-bad-lines skips such lines)"
            ) from error
        text = content.decode("utf-8-sig", errors="surrogateescape")
    return text if "\n" in text.rstrip("\n") else text.replace("\r", "\n")


_CONTROLS: Final = re.compile(rb"[\x01-\x06\x0e-\x1a\x1f]")
"""Control characters that neither text nor a terminal writes; one astray is still no binary file."""


def _is_tabbed(sample: bytes) -> bool:
    """Whether every second byte is a tab, as in Devanagari and Bengali in UTF-16."""
    return any(len(half) > 2 and half.count(9) * 10 > len(half) * 9 for half in (sample[::2], sample[1::2]))


def _is_utf_16(sample: bytes) -> bool:
    """Whether bytes read as UTF-16 are text: of words, or of one alphabet, whose letters share a byte."""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample[: len(sample) // 2 * 2].decode(encoding, errors="replace").rstrip("\ufffd")
        blocks = [ord(letter) >> 8 for letter in text]
        is_text = all(letter.isprintable() or letter.isspace() for letter in text)
        is_one = any(blocks.count(block) * 2 > len(blocks) for block in set(blocks))
        if is_text and (is_one or re.search(r"\s", text)):
            return True
    return False


def check_kind(text: str, where: str) -> None:
    """Refuse a text that holds no documents, or holds them in a way that is not read.

    Raises:
        InvalidInputError: It is one of `_TEXTS`.
    """
    for is_kind, kind in _TEXTS:
        if is_kind(text):
            raise InvalidInputError(f"{where} is {kind}")


def beginning(text: str) -> list[str]:
    """The first lines that are not blank, without blanks around them; a tab may stand for an empty cell."""
    lines: list[str] = []
    start = 0
    while start < len(text) and len(lines) < _LINES:
        end = text.find("\n", start) % (len(text) + 1)  # -1, the last line's, is the length
        line = text[start:end].strip(" \r\f")
        lines += [line] if line.strip() else []
        start = end + 1
    return lines


_LINES: Final = 100


def most(marks: Sequence[bool]) -> bool:
    """Whether more than half of them are true."""
    return sum(marks) * 2 > len(marks)


_COMMENTS: Final = r"\s*(<!--.*?-->\s*)*"
_MARKUP: Final = re.compile(
    _COMMENTS + r"<(!doctype|\?xml|html|head|body|rss|feed|svg)\b[^<]*", re.IGNORECASE | re.DOTALL
)
_ELEMENT: Final = re.compile(_COMMENTS + r"<[A-Za-z][\w:.-]*([\s/>])[^<]*", re.DOTALL)
_TOPICS: Final = re.compile(_COMMENTS + r"<(top>|topics\b)", re.IGNORECASE | re.DOTALL)


def _is_topics(text: str) -> bool:
    return _TOPICS.match(text) is not None


def _is_markup(text: str) -> bool:
    """Whether a text is HTML or XML; one line in a tag of its own, such as ``<b>cat</b>``, is not."""
    if _MARKUP.match(text):
        return True
    start = _ELEMENT.match(text)
    if start is None or (start[2] == ">" and text.count("<", start.start(2)) == 1):
        return False
    try:
        expat.ParserCreate().Parse(text.strip().encode("utf-8", errors="replace"), True)
    except expat.ExpatError:
        return False
    return True


_RUN_NAMES: Final = frozenset(
    [
        "qid",
        "query_id",
        "query-id",
        "topic",
        "q0",
        "iter",
        "iteration",
        "docid",
        "doc_id",
        "docno",
        "document",
        "pid",
        "corpus-id",
        "rank",
        "score",
        "sim",
        "tag",
        "run",
        "run_id",
        "runid",
        "rel",
        "relevance",
        "relevancy",
        "label",
    ]
)
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
_QRELS_COLUMNS: Final = 4
_RUN_COLUMNS: Final = 5


def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _is_id(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _is_run_line(line: str) -> bool:
    """``qid Q0 docid rank score tag``, or MS MARCO's ``qid pid rank score``."""
    words = line.split("," if ",Q0," in line else None)
    if len(words) == _QRELS_COLUMNS:
        return _is_id(words[0]) and _is_id(words[1]) and words[2].isdigit() and "." in words[3] and _is_number(words[3])
    return (
        len(words) >= _RUN_COLUMNS
        and (words[1] in ("Q0", "q0") or (words[1] == "0" and len(words) <= _RUN_COLUMNS + 1))
        and _is_number(words[3])
        and _is_number(words[4])
    )


def _is_qrels_line(line: str) -> bool:
    """``qid 0 docid grade``, BEIR's ``qid docid grade``, or MS MARCO's runs, ``qid pid rank``."""
    words = line.split()
    if len(words) == _QRELS_COLUMNS:
        return (words[1] in ("0", "Q0") or (words[1].isdigit() and _is_id(words[2]))) and _is_number(words[3])
    if len(words) != _QRELS_COLUMNS - 1 or not _is_number(words[2]):
        return False
    return line.count("\t") == len(words) - 1 or (_is_id(words[0]) and _is_id(words[1]))


def _is_made_of(is_line: Callable[[str], bool]) -> Callable[[str], bool]:
    """Whether most lines of a text are of a kind; comments and a header are none of them."""

    def is_kind(text: str) -> bool:
        lines = [line for line in beginning(text) if not line.startswith("#")]
        header = re.split(r"[\s,;]+", lines[0].lower()) if lines else []
        if len(header) > 2 and _RUN_NAMES.issuperset(header):  # fewer may be a table's
            lines = [re.sub(r"[,;]", " ", line) for line in lines[1:]]
        return bool(lines) and most([is_line(line) for line in lines])

    return is_kind


_YAML: Final = re.compile(r"(---|\w+:|- +\w+:( .*)?|\s+\S.*)")
_YAML_TEXT: Final = re.compile(r"(^|\n)(\s*- +|\s+)(text|contents|content|page_content|body|passage): ")


def _is_yaml(text: str) -> bool:
    """Whether a text is a list of mappings of which one has a text."""
    start = text[:SAMPLE].rpartition("\n")[0] if len(text) > SAMPLE else text
    lines = [line.rstrip() for line in start.split("\n") if line.strip()]
    lists = any(line.lstrip().startswith("- ") for line in lines)
    return lists and _YAML_TEXT.search(start) is not None and all(map(_YAML.fullmatch, lines))


_RANKING: Final = re.compile(r"\s*rank +score  id +text\n *1 +(-|\S*\d) ")


_MARKDOWN: Final = re.compile(r"\s*\|.*\|[ \r]*\n\|[ :|-]*-[ :|-]*\|")


def _is_markdown(text: str) -> bool:
    return _MARKDOWN.match(text) is not None


def _is_ranking(text: str) -> bool:
    return _RANKING.match(text) is not None


_NO_TEXTS: Final = "which holds ids and no texts: give the documents themselves, such as corpus.jsonl"
_TEXTS: Final[tuple[tuple[Callable[[str], bool], str], ...]] = (
    (_is_topics, "TREC topics, which hold queries: give the documents themselves, such as corpus.jsonl"),
    (_is_markup, "HTML or XML: extract its text, and give it with --input-format text"),
    (_is_made_of(_is_run_line), f"a TREC run, {_NO_TEXTS}"),
    (_is_made_of(_is_qrels_line), f"qrels, or a run of three columns, {_NO_TEXTS}"),
    (_is_yaml, "YAML: give its items as JSON lines, or read plain lines with --input-format text"),
    (_is_markdown, "a Markdown table: save it as CSV, or read plain lines with --input-format text"),
    (_is_ranking, "a table that this command wrote, whose texts are cut: write it with --format jsonl, and give that"),
)
"""What texts may be that hold no documents, or hold them in a way that is not read."""
