"""Whatever a user passes as documents becomes `Document`s, or an error that names the position."""

from __future__ import annotations

import asyncio
import copy
import math
import re
from collections import UserDict
from collections.abc import Iterator, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank import Document, InvalidInputError, RankedResults, Reranker
from rerank.documents import as_documents, as_query
from rerank.testing.fake import fake_registry


class Path8(str):
    """A str of a user's own class."""

    __slots__ = ()


class Eight(int):
    """An int of a user's own class."""


@pytest.mark.parametrize(
    ("given_document", "text", "doc_id", "metadata"),
    [
        ("a", "a", 0, {}),
        (Path8("a"), "a", 0, {}),
        ("", "", 0, {}),
        ({"text": "a"}, "a", 0, {}),
        ({"text": "a", "id": 7}, "a", 7, {}),
        ({"text": "a", "id": Eight(8)}, "a", 8, {}),
        ({"text": "a", "id": "x"}, "a", "x", {}),
        ({"text": "a", "id": ""}, "a", "", {}),
        ({"text": "a", "doc_id": "x"}, "a", "x", {}),
        ({"text": "a", "_id": "x"}, "a", "x", {}),
        ({"text": "a", "id": None, "_id": "x"}, "a", "x", {}),
        ({"text": "a", "meta": {"k": 1}}, "a", 0, {"k": 1}),
        ({"text": "a", "metadata": {"k": 1}}, "a", 0, {"k": 1}),
        ({"text": "a", "meta": {"k": 1}, "metadata": {"l": 2}, "url": "u"}, "a", 0, {"k": 1, "l": 2, "url": "u"}),
        ({"text": "a", "meta": None}, "a", 0, {}),
        (MappingProxyType({"text": "a", "id": 3}), "a", 3, {}),
        (UserDict({"text": "a", "id": 3}), "a", 3, {}),
        (Document(text="a", doc_id=9, metadata={"k": 1}), "a", 9, {"k": 1}),
    ],
)
def test_every_kind_of_document(given_document: Any, text: str, doc_id: str | int, metadata: dict[str, Any]) -> None:
    (document,) = as_documents([given_document])
    assert (document.text, document.doc_id, document.metadata) == (text, doc_id, metadata)
    assert type(document.text) is str
    assert type(document.doc_id) in (str, int)


@pytest.mark.parametrize("docs", [["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}.keys(), (c for c in "ab")])
def test_every_kind_of_collection(docs: Any) -> None:
    assert [document.text for document in as_documents(docs)] == ["a", "b"]


def test_ids_and_metadata_beside_the_documents() -> None:
    documents = as_documents(["a", {"text": "b"}, "c"], doc_ids=["x", 7, None], metadata=[{"k": 1}, None, {}])
    assert [document.doc_id for document in documents] == ["x", 7, 2]
    assert [document.metadata for document in documents] == [{"k": 1}, {}, {}]


def test_the_text_1_and_the_number_1_are_two_ids() -> None:
    assert [document.doc_id for document in as_documents(["a", "b"], doc_ids=["1", 1])] == ["1", 1]


def test_no_documents() -> None:
    assert as_documents([]) == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one text",), "docs must be a list, but is of type str: put it in [ ]"),
        ((b"bytes",), "docs must be a list, but is of type bytes"),
        (({"text": "a"},), "docs must be a list, but is of type dict"),
        ((Document(text="a", doc_id=1),), "docs must be a list, but is of type Document"),
        ((None,), "docs must be a list, but is None"),
        ((3,), "docs must be a list, but is of type int"),
        ((["a", None],), "document 1 is None"),
        ((["a", 3.5],), "document 1 is of type float"),
        ((["a", ["b"]],), "document 1 is of type list"),
        ((["a", b"b"],), "document 1 is of type bytes"),
        ((["a", {"id": 1, "cover": "x"}],), "document 1 has no 'text' among its keys ['cover', 'id']: add it"),
        ((["a", {"text": None}],), "the text of document 1 is None: give a str"),
        ((["a", {"text": b"x"}],), "the text of document 1 is of type bytes: decode it first"),
        ((["a", "x\ud800"],), "the text of document 1 contains the lone surrogate U+D800 at position 1"),
        ((["a", {"text": "b", "id": "\udfff"}],), "the id of document 1 contains the lone surrogate U+DFFF"),
        ((["a", {"text": "b", "id": True}],), "the id of document 1 is of type bool"),
        ((["a", {"text": "b", "id": 1.0}],), "the id of document 1 is of type float"),
        ((["a", {"text": "b", "id": 1, "_id": 2}],), "document 1 has several ids [1, 2]: keep one"),
        ((["a", {"text": "b", "meta": [1]}],), "the metadata of document 1 is of type list"),
        ((["a", {"text": "b", "meta": {3: 1}}],), "the metadata of document 1 has the key 3: keys must be str"),
        ((["a", {"text": "b", 3: 1}],), "the metadata of document 1 has the key 3"),
        (
            (["a", "b"], ["x", "x"]),
            "documents 0 and 1 have the same id 'x' (a document without an id gets its position): give every",
        ),
        ((["a", {"text": "b", "id": 0}],), "documents 0 and 1 have the same id 0"),
        ((["a", "b"], ["x"]), "doc_ids has 1 entries for 2 documents"),
        ((["a", "b"], "xy"), "doc_ids must be a list, but is of type str"),
        ((["a", "b"], ["x", 2.0]), "the id of document 1 is of type float"),
        ((["a", {"text": "b", "id": 1}], [5, 6]), "document 1 has the id 1 and doc_ids gives 6: give it in one place"),
        ((["a", "b"], None, [{}]), "metadata has 1 entries for 2 documents"),
        ((["a", "b"], None, {"k": 1}), "metadata must be a list, but is of type dict"),
        ((["a", "b"], None, [{}, 3]), "the metadata of document 1 is of type int"),
        ((["a", {"text": "b", "meta": {"k": 1}}], None, [{}, {"l": 1}]), "document 1 has metadata and metadata= gives"),
    ],
)
def test_every_fault_is_named_by_position(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        as_documents(*arguments)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (None, "the query is None"),
        (b"q", "the query is of type bytes: decode it first"),
        (3, "the query is of type int"),
        ("", "the query is empty"),
        (" \n\t\u3000", "the query is empty"),
        ("a\ud800", "the query contains the lone surrogate U+D800 at position 1"),
    ],
)
def test_a_query_that_is_none(query: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        as_query(query)


def test_inputs_are_left_as_they_are() -> None:
    docs: list[Any] = [
        {"id": 7, "text": "a", "meta": {"tags": ["x"]}, "url": "u"},
        "b",
        Document(text="c", doc_id="c", metadata={"n": {"m": 1}}),
    ]
    ids, metadata = [None, "b", None], [None, {"k": [1]}, None]
    before = copy.deepcopy((docs, ids, metadata))
    with Reranker("fake", registry=fake_registry()) as reranker:
        ranked = reranker.rank("a", docs, doc_ids=ids, metadata=metadata)
    assert (docs, ids, metadata) == before
    ranked.get_result_by_docid(7).metadata["new"] = 1  # type: ignore[index]
    assert (docs, ids, metadata) == before


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(
        [
            "\ud800",
            "text",
            "id",
            UserDict({object(): 1, "text": "x"}),
            Document(text="t", doc_id="d"),
            object(),
            "x" * 999,
        ]
    ),
)
_keys = st.one_of(
    st.sampled_from(["text", "id", "doc_id", "_id", "meta", "metadata"]), st.text(max_size=3), st.integers()
)
_junk = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_keys, inner, max_size=4)),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(
    query=st.one_of(_junk, st.just("q")),
    docs=st.one_of(_junk, st.lists(_junk, max_size=4)),
    doc_ids=st.one_of(st.none(), _junk),
    metadata=st.one_of(st.none(), _junk),
    top_k=st.one_of(st.none(), st.integers(-2, 5), _junk),
)
def test_any_junk_gives_a_ranking_or_a_typed_error(
    query: Any, docs: Any, doc_ids: Any, metadata: Any, top_k: Any
) -> None:
    try:
        ranked = JUNK_RERANKER.rank(query, docs, doc_ids=doc_ids, metadata=metadata, top_k=top_k)
    except InvalidInputError:
        pass
    else:
        assert isinstance(ranked, RankedResults)
        assert len(ranked) == min(len(docs), top_k or len(docs))


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=6))
def test_any_text_is_ranked_and_comes_back_whole(texts: list[str]) -> None:
    ranked = JUNK_RERANKER.rank("q", texts)
    assert sorted(result.text for result in ranked) == sorted(texts)
    assert all(texts[result.index] == result.text for result in ranked if result.index is not None)


JUNK_RERANKER = Reranker("fake", registry=fake_registry())


@pytest.mark.parametrize("key", ["text", "contents", "content", "page_content", "body", "passage"])
def test_the_text_by_the_keys_of_other_tools(key: str) -> None:
    (document,) = as_documents([{"id": "a", key: "a cat", "year": 1}])
    assert (document.text, document.doc_id, document.metadata) == ("a cat", "a", {"year": 1})


def test_several_texts_are_refused_by_name() -> None:
    with pytest.raises(
        InvalidInputError, match=r"document 0 has no 'text'.*with text_fields= \(it has body, passage\)"
    ):
        as_documents([{"passage": "a", "body": "b"}])


def test_rows_of_beir_are_ranked_on_title_and_text() -> None:
    rows = [{"_id": "1", "title": "Cats", "text": "They purr."}, {"_id": "2", "title": "", "text": "No title."}]
    rows += [{"_id": "3", "title": None, "text": "None."}, {"_id": "4", "title": "Only a title", "text": ""}]
    assert [document.text for document in as_documents(rows)] == [
        "Cats They purr.",
        "No title.",
        "None.",
        "Only a title",
    ]
    assert as_documents(rows)[0].metadata == {"title": "Cats"}
    assert as_documents([{"id": "1", "title": "Cats", "text": "They purr."}])[0].text == "They purr."


def test_the_fields_can_be_named() -> None:
    rows = [{"id": 1, "title": "Cats", "text": "They purr.", "year": "2024"}]
    assert as_documents(rows, text_fields=("year", "title", "text"))[0].text == "2024 Cats They purr."
    assert as_documents(rows, text_fields=("title",))[0].text == "Cats"
    assert as_documents([{"_id": 1, "title": "Cats", "text": "x"}], text_fields=("text",))[0].text == "x"
    with pytest.raises(InvalidInputError, match="document 0 has no 'abstract' among its keys"):
        as_documents(rows, text_fields=("abstract",))
    with pytest.raises(InvalidInputError, match="the year of document 0 is of type int"):
        as_documents([{"text": "a", "year": 3}], text_fields=("text", "year"))


@pytest.mark.parametrize("title", [None, "", "  ", math.nan])
def test_a_row_without_a_title_is_ranked_on_its_text(title: object) -> None:
    """pandas writes NaN where a table has no value."""
    assert as_documents([{"_id": "1", "title": title, "text": "They purr."}])[0].text == "They purr."


@pytest.mark.parametrize(
    ("document", "fields", "problem"),
    [
        ({"_id": 1, "title": 3, "text": "x"}, (), "the title of document 0 is of type int: give a str"),
        ({"_id": 1, "title": ["a"], "text": "x"}, (), "the title of document 0 is of type list: give a str"),
        ({"id": 1, "year": 2024.5}, ("year",), "the year of document 0 is of type float: give a str"),
        ({"id": 1, "year": None}, ("year",), "the year of document 0 is None: give a str"),
        (
            {"id": 1, "text": "x"},
            ("metadata.title",),
            "has no 'metadata.title' among .*: add it, or name another field",
        ),
        ("x", ("title",), "document 0 is of type str, and has no fields to choose from: choose none, or give mappings"),
        (Document(text="x", doc_id=1), ("title",), "document 0 is of type Document, and has no fields to choose from"),
    ],
)
def test_a_field_that_is_no_text_is_named(document: Any, fields: Sequence[str], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        as_documents([document], text_fields=fields)


@pytest.mark.parametrize("fields", [("title", "title"), ("",), (1,), {"title": 1}, 3])
def test_fields_are_names_and_each_is_there_once(fields: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"text_fields is .*: (name each field once|give names of fields)"):
        Reranker("fake", registry=fake_registry()).rank("q", [{"title": "a", "text": "b"}], text_fields=fields)


class Frame:
    """What pandas and polars share: iterating gives the names of columns."""

    columns: Sequence[str] = ("id", "text")
    shape = (3, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Polars(Frame):
    def to_dicts(self) -> list[dict[str, str]]:
        return []


class Scalar:
    """An array without dimensions: it has ``__iter__``, which raises."""

    ndim = 0

    def __iter__(self) -> Iterator[str]:
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize(
    ("docs", "message"),
    [
        (Frame(), r"docs must be a list, but is a Frame: give its rows, docs\.to_dict\('records'\), or one column"),
        (Polars(), r"docs must be a list, but is a Polars: give its rows, docs\.to_dicts\(\)"),
        (Scalar(), r"docs must be a list, but is of type Scalar"),
        ({"a", "b"}, "docs is a set, which has no order: give a list"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(docs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        as_documents(docs)


class LangChain:
    page_content = "a cat"


class Haystack:
    content = "a cat"


class LlamaIndex:
    def get_content(self) -> str:
        return "a cat"


@pytest.mark.parametrize(
    ("item", "read"), [(LangChain(), "page_content"), (Haystack(), "content"), (LlamaIndex(), "get_content()")]
)
def test_documents_of_other_libraries_say_what_to_write(item: Any, read: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        as_documents([item])
    assert f"[d.{read} for d in docs]" in str(caught.value)
    assert eval(f"[d.{read} for d in docs]", {"docs": [item]}) == ["a cat"]


def test_rows_of_tables_are_mappings() -> None:
    class Row(NamedTuple):
        id: str
        text: str
        lang: str

    class Series:
        index = ("id", "text", "lang")

        def to_dict(self) -> dict[str, str]:
            return {"id": "s", "text": "a dog", "lang": "en"}

    named, series = as_documents([Row("n", "a cat", "fr"), Series()])
    assert (named.doc_id, named.text, named.metadata) == ("n", "a cat", {"lang": "fr"})
    assert (series.doc_id, series.text, series.metadata) == ("s", "a dog", {"lang": "en"})


def test_tables_of_the_real_libraries() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({"id": [7, 8], "text": ["a cat", "a dog"]})
    with pytest.raises(InvalidInputError, match=r"to_dict\('records'\)"):
        as_documents(frame)
    for rows in (
        frame.to_dict("records"),
        [row for _, row in frame.iterrows()],
        frame[["id", "text"]].itertuples(index=False),
    ):
        assert [(document.doc_id, document.text) for document in as_documents(rows)] == [(7, "a cat"), (8, "a dog")]
    assert [document.text for document in as_documents(frame["text"])] == ["a cat", "a dog"]


class Row(NamedTuple):
    id: int
    title: str
    text: str


class PandasSeries:
    """What this project reads of pandas' Series: a row of a table, or a column."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self.index = list(values)
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values.values())

    def __contains__(self, label: object) -> bool:
        return label in self._values

    def to_dict(self) -> dict[Any, Any]:
        return self._values


@pytest.mark.parametrize("row", [Row(7, "a cat", "purrs"), PandasSeries({"id": 7, "title": "a cat", "text": "purrs"})])
def test_one_row_is_no_list(row: Any) -> None:
    assert as_documents([row])[0].text == "purrs"
    with pytest.raises(InvalidInputError, match=r"docs must be a list, but is one row of a table, .*: put it in \[ \]"):
        as_documents(row)


def test_a_column_is_a_list() -> None:
    column = PandasSeries({"x": "a cat", "y": "a dog"})
    assert [document.text for document in as_documents(column)] == ["a cat", "a dog"]


class Table:
    """What tables of pandas, polars and pyarrow have in common; one has the method that its class names."""

    columns, shape, index = ("text",), (1, 1), (0,)

    def to_dict(self) -> dict[str, Any]:
        return {"text": {0: "a cat"}}


@pytest.mark.parametrize("method", ["to_dicts", "to_pylist", "to_dict"])
def test_a_table_in_a_list_says_how_to_give_its_rows(method: str) -> None:
    table = type("Table2", (Table,), {method: lambda self: {}})()
    with pytest.raises(InvalidInputError, match=rf"document 0 is of type Table2: give its rows, .*\.{method}\("):
        as_documents([table])
    with pytest.raises(
        InvalidInputError, match=rf"docs must be a list, but is a Table2: give its rows, docs\.{method}\("
    ):
        as_documents(table)


class IterableNode:
    """As pydantic's objects, LangChain's and LlamaIndex's documents iterate over their fields."""

    def __iter__(self) -> Iterator[Any]:
        return iter([("page_content", "a cat")])

    page_content = "a cat"


def test_one_document_of_another_library_is_no_list() -> None:
    with pytest.raises(
        InvalidInputError, match=r"is one IterableNode: give the texts of LangChain's documents, \[d\.page_c"
    ):
        as_documents(IterableNode())


class Colour(str, Enum):
    RED = "a red cat"


def test_a_member_of_an_enumeration_is_its_value() -> None:
    assert as_documents([Colour.RED])[0].text == "a red cat"
    assert as_query(Colour.RED) == "a red cat"
    assert type(as_query(Colour.RED)) is str


ROWS = [{"headline": "cats", "text": "cats purr"}, {"headline": "bees", "text": "bees dance"}]


def test_fields_are_named_for_every_method() -> None:
    reranker = Reranker("fake", registry=fake_registry())
    fields = {"text_fields": "headline"}
    (many,) = reranker.rank_many([("bees", ROWS)], **fields)
    assert many[0].text == "bees"
    (own,) = reranker.rank_many([{"query": "bees", "docs": ROWS, "text_fields": ["text"]}], **fields)
    assert own[0].text == "bees dance"

    async def rank_async() -> tuple[list[RankedResults], float]:
        ranked = [ranked async for ranked in reranker.arank_many([("bees", ROWS)], **fields)]
        return ranked, await reranker.ascore("bees", ROWS[1], **fields)

    async_many, async_score = asyncio.run(rank_async())
    assert async_many[0][0].text == "bees"
    assert async_score == reranker.score("bees", "bees")
    assert reranker.score_pairs([("bees", row) for row in ROWS], **fields) == [
        reranker.score("bees", row, **fields) for row in ROWS
    ]
    with pytest.raises(InvalidInputError, match="text_fields is"):
        reranker.score_pairs([("bees", ROWS[0])], text_fields=3)  # type: ignore[arg-type]
