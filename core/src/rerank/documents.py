"""Turns the user's documents into `Document`s, once, and reports an invalid one by its position."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

from rerank.errors import InvalidInputError
from rerank.results import Document

DocumentLike: TypeAlias = str | Mapping[str, Any] | Document

TEXT_KEYS = ("text", "contents", "content", "page_content", "body", "passage")
"""What a document's text is called: here, and by Pyserini, Haystack, LangChain and others."""

_BEIR_KEYS = frozenset(("_id", "title", "text"))
"""BEIR's layout, whose text is the title and the text (``beir.datasets``, ``rerank``)."""

_ID_KEYS = ("id", "doc_id", "_id")
_METADATA_KEYS = ("meta", "metadata")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def as_documents(
    docs: Iterable[DocumentLike],
    doc_ids: Iterable[str | int] | None = None,
    metadata: Iterable[Mapping[str, Any] | None] | None = None,
    text_fields: Sequence[str] = (),
) -> tuple[Document, ...]:
    """Turn strings, mappings and `Document`s into `Document`s; the inputs are not changed.

    Args:
        docs: The candidates in first-stage order. A mapping must have ``text`` (or one other of `TEXT_KEYS`) and may have
            ``id`` (or ``doc_id``, ``_id``) and ``meta`` (or ``metadata``); its other keys are added to the metadata. A row
            of a table is a mapping.
        doc_ids: One identifier per document; by default, a document's identifier is its position from 0.
        metadata: One mapping per document.
        text_fields: The keys of a mapping that make its text, joined by a space; empty takes ``text``, and for BEIR's
            layout (``_id``, ``title``, ``text``) ``title`` and ``text``.

    Raises:
        InvalidInputError: An item is not a document, a text is not a str, lengths differ, or two ids are equal.
    """
    items = _as_list(docs, "docs")
    ids = [None] * len(items) if doc_ids is None else _as_list(doc_ids, "doc_ids")
    metas = [None] * len(items) if metadata is None else _as_list(metadata, "metadata")
    for name, values in (("doc_ids", ids), ("metadata", metas)):
        if len(values) != len(items):
            raise InvalidInputError(
                f"{name} has {len(values)} entries for {len(items)} documents: give one per document"
            )
    documents = tuple(
        as_document(
            item, where=f"document {index}", position=index, doc_id=doc_id, metadata=meta, text_fields=text_fields
        )
        for index, (item, doc_id, meta) in enumerate(zip(items, ids, metas))
    )
    seen: dict[str | int, int] = {}
    for index, document in enumerate(documents):
        first = seen.setdefault(document.doc_id, index)
        if first != index:
            raise InvalidInputError(
                f"documents {first} and {index} have the same id {document.doc_id!r} (a document without an id gets "
                "its position): give every document a unique id, or give no ids"
            )
    return documents


def as_query(query: object) -> str:
    """Return the query.

    Raises:
        InvalidInputError: It is not a str, or contains only white space.
    """
    text = _as_text(query, "the query")
    if not text.strip():
        raise InvalidInputError("the query is empty: give some text to rank for")
    return text


def as_fields(names: Any) -> Sequence[str]:
    """Return the names of fields; one may come without a list.

    Raises:
        InvalidInputError: They are not names, or one is there twice.
    """
    fields = (names,) if isinstance(names, str) else names
    if not isinstance(fields, (list, tuple)) or not all(isinstance(name, str) and name for name in fields):
        raise InvalidInputError(f"text_fields is {names!r:.60}: give names of fields, such as ('title', 'text')")
    if len(set(fields)) < len(fields):
        raise InvalidInputError(f"text_fields is {names!r:.60}: name each field once")
    return fields


def as_items(values: Any, name: str) -> Iterable[Any]:
    """Return ``values``, which may be a lazy iterable.

    Raises:
        InvalidInputError: It is a single item, or not iterable.
    """
    if _is_table(values):
        raise InvalidInputError(
            f"{name} must be a list, but is a {type(values).__name__}: give its rows, {name}.{_rows_of(values)}, or one "
            "column as a list"
        )
    if _is_row(values):
        raise InvalidInputError(
            f"{name} must be a list, but is one row of a table, a {type(values).__name__}: put it in [ ]"
        )
    if isinstance(values, Iterable) and (advice := _of_another_library(values)):
        raise InvalidInputError(f"{name} must be a list, but is one {type(values).__name__}: {advice}")
    if isinstance(values, (set, frozenset)):
        raise InvalidInputError(f"{name} is a set, which has no order: give a list")
    no_list = isinstance(values, (str, bytes, Mapping, Document)) or getattr(values, "ndim", 1) == 0
    if no_list or not isinstance(values, Iterable):
        raise InvalidInputError(f"{name} must be a list, but is {_kind(values)}: put it in [ ]")
    return values


def _is_table(values: object) -> bool:
    """Whether a value is a table of pandas, polars or pyarrow, whose items are names of columns, or columns."""
    return hasattr(values, "columns") and hasattr(values, "shape")


def _rows_of(table: object) -> str:
    """What gives a table's rows as mappings."""
    for method, call in (("to_dicts", "to_dicts()"), ("to_pylist", "to_pylist()")):
        if hasattr(table, method):
            return call
    return "to_dict('records')"


def _is_row(values: Any) -> bool:
    """Whether a value is one row of a table: a named tuple, or pandas' Series whose labels are names of columns."""
    if isinstance(values, tuple):
        return hasattr(values, "_fields")
    return hasattr(values, "to_dict") and hasattr(values, "index") and any(key in values for key in TEXT_KEYS)


def _as_list(values: Any, name: str) -> list[Any]:
    return list(as_items(values, name))


def has_id(item: object) -> bool:
    """Whether a document comes with an identifier."""
    row = None if isinstance(item, Document) else _as_mapping(item)
    return isinstance(item, Document) or (row is not None and any(row.get(key) is not None for key in _ID_KEYS))


def as_document(
    item: Any,
    *,
    where: str,
    position: int = 0,
    doc_id: str | int | None = None,
    metadata: Mapping[str, Any] | None = None,
    text_fields: Sequence[str] = (),
) -> Document:
    """Turn one string, mapping or `Document` into a `Document`.

    Args:
        item: The user's document.
        where: How errors refer to it, such as ``"document 3"``.
        position: Its identifier if it has none.
        doc_id: Its identifier, if given separately.
        metadata: Its metadata, if given separately.
        text_fields: As for `as_documents`.

    Raises:
        InvalidInputError: It is not a document, or its id or metadata were given twice.
    """
    if text_fields and isinstance(item, (str, Document)):
        raise InvalidInputError(
            f"{where} is {_kind(item)}, and has no fields to choose from: choose none, or give mappings"
        )
    if isinstance(item, Document):
        text, own_id, own_metadata = item.text, item.doc_id, item.metadata
    elif isinstance(item, str):
        text, own_id, own_metadata = item, None, None
    elif (row := _as_mapping(item)) is not None:
        text, own_id, own_metadata = _read_mapping(row, where, text_fields)
    else:
        raise InvalidInputError(f"{where} is {_kind(item)}: {_how_to_give(item)}")
    if own_id is not None and doc_id is not None:
        raise InvalidInputError(f"{where} has the id {own_id!r} and doc_ids gives {doc_id!r}: give it in one place")
    if own_metadata and metadata:
        raise InvalidInputError(f"{where} has metadata and metadata= gives more: give it in one place")
    return Document(
        text=_as_text(text, f"the text of {where}"),
        doc_id=_as_id(own_id if doc_id is None else doc_id, where, default=position),
        metadata=_as_metadata(own_metadata or metadata, where),
    )


def _as_mapping(item: Any) -> Mapping[str, Any] | None:
    """A mapping, or the row of a table as one: pandas' Series or named tuple; None if it is neither."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, tuple) and hasattr(item, "_asdict"):
        fields: dict[str, Any] = item._asdict()
        return fields
    if hasattr(item, "to_dict") and hasattr(item, "index") and not _is_table(item):
        named: dict[str, Any] = item.to_dict()
        return named
    return None


def _how_to_give(item: object) -> str:
    """How to give what is no document."""
    if _is_table(item):
        return f"give its rows, each a document: .{_rows_of(item)}"
    return _of_another_library(item) or "give a str, a mapping with 'text', or a Document"


def _of_another_library(item: object) -> str | None:
    """How to give the documents of other libraries; None if it is none of those."""
    for attribute, library in (("page_content", "LangChain"), ("get_content", "LlamaIndex"), ("content", "Haystack")):
        if hasattr(item, attribute):
            read = f"{attribute}()" if callable(getattr(item, attribute)) else attribute
            return f"give the texts of {library}'s documents, [d.{read} for d in docs]"
    return None


def chosen_fields(item: Mapping[str, Any]) -> Sequence[str]:
    """The keys of a mapping that make its text if the user names none; empty if it has none or several."""
    if item.keys() >= _BEIR_KEYS:
        return ("title", "text")
    if "text" in item:
        return ("text",)
    found = [key for key in TEXT_KEYS if key in item]
    return found if len(found) == 1 else ()


def _read_text(item: Mapping[str, Any], where: str, text_fields: Sequence[str]) -> tuple[Sequence[str], Any]:
    """The keys that make a mapping's text, and that text: several are joined by a space, as BEIR does."""
    chosen = text_fields or chosen_fields(item)
    if absent := [key for key in chosen if key not in item]:
        raise InvalidInputError(
            f"{where} has no {absent[0]!r} among its keys {sorted(map(str, item))}: add it, or name another field"
        )
    if not chosen:
        several = [key for key in TEXT_KEYS if key in item]
        advice = (
            f"name those that are its text with text_fields= (it has {', '.join(several)})" if several else "add it"
        )
        raise InvalidInputError(f"{where} has no 'text' among its keys {sorted(map(str, item))}: {advice}")
    if len(chosen) == 1:
        return chosen, _as_text(item[chosen[0]], f"the {chosen[0]} of {where}")
    parts = [_as_text("" if _is_missing(item[key]) else item[key], f"the {key} of {where}") for key in chosen]
    return chosen, " ".join(part for part in parts if part.strip()).strip()


def _is_missing(value: object) -> bool:
    """Whether a row lacks a value: None, or NaN in a table of pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _read_mapping(item: Mapping[str, Any], where: str, text_fields: Sequence[str]) -> tuple[Any, Any, dict[str, Any]]:
    chosen, text = _read_text(item, where, text_fields)
    ids = [item[key] for key in _ID_KEYS if item.get(key) is not None]
    if len(ids) > 1:
        raise InvalidInputError(f"{where} has several ids {ids!r}: keep one of {', '.join(_ID_KEYS)}")
    extra: dict[str, Any] = {}
    for key in _METADATA_KEYS:
        extra.update(_as_metadata(item.get(key), where))
    left_out = {*chosen[-1:], *_ID_KEYS, *_METADATA_KEYS}  # a title stays, besides being ranked
    extra.update({key: value for key, value in item.items() if key not in left_out})
    return text, ids[0] if ids else None, extra


def _as_text(text: object, where: str) -> str:
    if not isinstance(text, str):
        advice = "decode it first" if isinstance(text, (bytes, bytearray)) else "give a str"
        raise InvalidInputError(f"{where} is {_kind(text)}: {advice}")
    if broken := _LONE_SURROGATE.search(text):
        raise InvalidInputError(
            f"{where} contains the lone surrogate U+{ord(broken.group()):04X} at position {broken.start()}: "
            "decode its bytes with errors='replace'"
        )
    return str.__str__(text)  # the value of a member of an enumeration, not its name


def _as_id(doc_id: object, where: str, default: int) -> str | int:
    if doc_id is None:
        return default
    if isinstance(doc_id, str):
        return _as_text(doc_id, f"the id of {where}")
    if isinstance(doc_id, Integral) and not isinstance(doc_id, bool):
        if not -(2**63) <= int(doc_id) < 2**64:
            raise InvalidInputError(f"the id of {where} is a number beyond 64 bits: give it as a str")
        return int(doc_id)
    raise InvalidInputError(f"the id of {where} is {_kind(doc_id)}: give a str or an int")


def _as_metadata(metadata: object, where: str) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"the metadata of {where} is {_kind(metadata)}: give a mapping")
    if bad := [key for key in metadata if not isinstance(key, str)]:
        raise InvalidInputError(f"the metadata of {where} has the key {bad[0]!r}: keys must be str")
    return dict(metadata)


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
