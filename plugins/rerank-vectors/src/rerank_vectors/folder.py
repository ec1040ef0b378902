"""Entries on disk: a folder of collections, each a folder of segments that several processes write and read at once.

Why segments and not SQLite: 1,000 entries of 66 KB are read from SQLite in 24 to 61 ms, and from a map in 17 ms with their
checksums, and afterwards without a copy. Damage stays within an entry, and no writer waits for another's lock.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from rerank import InvalidOptionsError
from rerank_vectors.collection import is_collection
from rerank_vectors.segment import (
    DamagedError,
    Entry,
    OwnSegment,
    Segment,
    find_segments,
    is_segment,
    remove_segment,
    space,
)
from rerank_vectors.store import Store

logger = logging.getLogger(__name__)

_MOST_SEGMENTS: Final = 128
"""Of a collection: a reader keeps a map, and with it a file, open for each; macOS allows a process 256."""

_MERGED: Final = 32
"""How many segments of a collection become one: the new one, and small ones of at most this part of a full one's size, so that
they fit."""

_PASSING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOENT}
"""Errors after which the next call tries again: too many open files, or a folder that is removed again and again."""

_IDLE: Final = 60.0
"""Seconds after which a small segment is taken for finished; its process, if there is one, starts another."""


class Folder(Store):
    """One collection of a folder. Whatever fails once it is open costs vectors, never the call.

    Args:
        root: The folder, with the collections of every model; made if it is missing.
        digest: Of the collection, 16 bytes.
        about: What its vectors come from, for people to read.
        max_bytes: Of all segments of all collections.

    Raises:
        InvalidOptionsError: The folder cannot be written, or is no folder.
    """

    def __init__(self, root: Path, digest: bytes, about: Mapping[str, Any], max_bytes: int) -> None:
        super().__init__()
        self._root, self._digest, self._max_bytes = root, digest, max_bytes
        self._place, self._about = root / digest.hex(), about
        # Room is made by removing whole segments, so each has at most a sixteenth of the bound. With 64 MiB files are few;
        # beyond 4 GiB segments grow with the bound, so that full ones stay at half of _MOST_SEGMENTS.
        self._segment_bytes = min(max_bytes // 16, max(64 * 2**20, max_bytes // (_MOST_SEGMENTS // 2)))
        self._can_write, self._complained = True, False
        self._forget()
        try:
            self._make()
        except (OSError, ValueError) as error:
            reason: object = error
            if isinstance(error, (FileExistsError, NotADirectoryError)):
                reason = f"{error.filename} is no folder"
            raise InvalidOptionsError(
                f"vectors={str(root)!r} cannot be used ({reason}): name a folder that can be written, or 'memory'"
            ) from error

    def _make(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place.mkdir(mode=0o700, exist_ok=True)
        _describe(self._place, self._about)

    def _forget(self) -> None:
        """Know nothing of the collection."""
        self._segments: dict[str, Segment] = {}
        self._entries: dict[bytes, Entry] = {}
        self._own: OwnSegment | None = None

    def get(self, keys: Collection[bytes]) -> dict[bytes, bytes | memoryview]:
        """The entries that are kept under some keys, as views of the files; damaged ones are left out."""
        with self.lock:
            self._complained = False
            found = self._read(keys)
            if len(found) < len(keys):
                self._refresh()
                found |= self._read([key for key in keys if key not in found])
            return found

    def missing(self, keys: Collection[bytes]) -> set[bytes]:
        """The keys under which nothing is kept."""
        with self.lock:
            self._complained = False
            if any(key not in self._entries for key in keys):
                self._refresh()
            return {key for key in keys if key not in self._entries}

    def _read(self, keys: Iterable[bytes]) -> dict[bytes, bytes | memoryview]:
        found: dict[bytes, bytes | memoryview] = {}
        damaged: Counter[Segment] = Counter()
        used: set[Segment] = set()
        for key in keys:
            entry = self._entries.get(key)
            if entry is None:
                continue
            try:
                found[key] = entry.segment.read(entry)
                used.add(entry.segment)
                continue
            except DamagedError:
                entry.segment.blank(entry)
                damaged[entry.segment] += 1
            except (FileNotFoundError, NotADirectoryError):  # removed, so that others have room, or with its folder
                pass
            except (OSError, ValueError) as error:
                self._complain("read", error)
                if getattr(error, "errno", None) in _PASSING:
                    continue
            del self._entries[key]
        for segment, count in damaged.items():
            logger.warning(
                "%d entries of %s are damaged; their documents are encoded again", count, segment.entries_file
            )
        for segment in used:
            segment.touch()
        return found

    def _refresh(self) -> None:
        """Learn what other processes have added and removed."""
        try:
            names = {stem.name for stem in find_segments(self._place)}
        except OSError as error:
            self._complain("read", error)
            return
        if gone := self._segments.keys() - names:
            self._segments = {name: segment for name, segment in self._segments.items() if name not in gone}
            self._entries = {key: entry for key, entry in self._entries.items() if entry.segment.stem.name not in gone}
        for name in sorted(names):
            segment = self._segments.setdefault(name, Segment(self._place / name, self._digest))
            try:
                self._entries.update(segment.read_index())
            except DamagedError:
                if is_segment(segment.stem):
                    logger.warning("%s is damaged; its documents are encoded again", segment.index_file)
                    remove_segment(segment.stem)
            except FileNotFoundError:  # its process has only just begun it
                continue
            except OSError as error:
                self._complain("read", error)

    def _complain(self, done: str, error: Exception) -> None:
        """Warn, once per call: where a process has no file left to open, much fails at once."""
        if not self._complained:
            self._complained = True
            logger.warning("vectors in %s cannot be %s for now: %s", self._place, done, error)

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Write entries to this process's own segment; an entry that is too large on its own is not kept."""
        with self.lock:
            if not self._can_write:
                return
            try:
                try:
                    self._write(entries)
                except FileNotFoundError:  # somebody has removed the folder
                    self._finish()
                    self._make()
                    self._write(entries)
            except OSError as error:
                self._finish()
                if error.errno in _PASSING:
                    self._complain("written", error)
                    return
                self._can_write = False
                logger.warning(
                    "vectors cannot be written to %s (%s): free some space or make it writable; no more are kept there "
                    "until the model is loaded again",
                    self._place,
                    error,
                )
            except BaseException:  # an interrupt may have cut a record in two
                self._finish()
                raise

    def _write(self, entries: Mapping[bytes, bytes]) -> None:
        if self._own is not None and not self._own.is_there:
            self._finish()
        for key, content in entries.items():
            if key not in self._entries and space(content) <= self._max_bytes:
                self._entries[key] = self._segment_for(content).append(key, content)

    def _segment_for(self, content: bytes) -> OwnSegment:
        """This process's segment, or a new one where the entry does not fit."""
        if self._own is not None and self._own.fits(self._segment_bytes, content):
            return self._own
        self._finish()
        make_room(self._root, self._max_bytes - max(self._segment_bytes, space(content)))
        self._refresh()
        own = self._own = OwnSegment(self._place, self._digest)
        self._segments[own.stem.name] = own
        self._merge_into(own)
        return own

    def _merge_into(self, own: OwnSegment) -> None:
        """Move the entries of small segments, which short processes leave behind, once there are many."""
        idle = time.time() - _IDLE
        small = [
            kept
            for kept in list_segments(self._root)
            if kept.stem.parent == self._place and kept.size <= self._segment_bytes // _MERGED and kept.used < idle
        ][: _MERGED - 1]
        if len(small) < _MERGED - 1:
            return
        names = {kept.stem.name for kept in small}
        moved = self._read([key for key, entry in self._entries.items() if entry.segment.stem.name in names])
        for key in list(moved):
            self._entries[key] = own.append(key, bytes(moved.pop(key)))
        for kept in small:
            self._segments.pop(kept.stem.name, None)  # and its map: Windows removes no file that is mapped
            remove_segment(kept.stem)

    def _finish(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def close(self) -> None:
        """Close this process's segment and forget the maps."""
        with self.lock:
            self._finish()
            self._forget()

    def after_fork(self) -> None:
        """Begin anew: the parent's segment stays the parent's."""
        self._forget()


def _describe(place: Path, about: Mapping[str, Any]) -> None:
    """Write ``about.json`` where it is missing, damaged or another, which also shows that the folder can be written."""
    what = "document vectors that rerank keeps; this folder may be removed at any time"
    content = json.dumps({"what": what, **about}, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
    file = place / "about.json"
    with suppress(OSError):
        is_whole = file.is_file() and file.stat().st_size == len(content)  # neither a pipe nor without end
        if is_whole and file.read_bytes() == content and os.access(place, os.W_OK | os.X_OK):
            return
    scratch = place / f".{secrets.token_hex(8)}.json"
    scratch.touch(mode=0o600, exist_ok=False)
    try:
        scratch.write_bytes(content)
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)  # where the disk is full


class SegmentFiles(NamedTuple):
    """A segment as its folder lists it, by when it was last used."""

    used: float
    stem: Path
    size: int


def list_segments(root: Path) -> list[SegmentFiles]:
    """The segments of every collection below a folder, the least recently used first."""
    segments = []
    try:
        with os.scandir(root) as folders:
            names = [folder.name for folder in folders if folder.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    stems = [stem for name in names if is_collection(name) for stem in find_segments(root / name)]
    for stem in filter(is_segment, stems):
        with suppress(OSError):  # another process has just removed it
            status = stem.with_suffix(".vectors").stat()
            index = stem.with_suffix(".index")
            size = status.st_size + (index.stat().st_size if index.exists() else 0)
            segments.append(SegmentFiles(status.st_mtime, stem, size))
    return sorted(segments)


def make_room(root: Path, max_bytes: int) -> None:
    """Remove the least recently used segments: more than ``max_bytes`` in all, or `_MOST_SEGMENTS` in a collection."""
    segments = list_segments(root)
    total, counts = sum(segment.size for segment in segments), Counter(segment.stem.parent for segment in segments)
    for segment in segments:
        excess = total > max_bytes or counts[segment.stem.parent] >= _MOST_SEGMENTS
        if excess and remove_segment(segment.stem):
            total -= segment.size
            counts[segment.stem.parent] -= 1
