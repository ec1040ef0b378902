"""A segment: a file of entries and its index, which one process appends to and every process reads through a map.

Both files begin with the same header. After it, the one has the entries, and the index one record of fixed size per entry: its key, where it lies, its checksum, and the record's own.
An entry is written before its record, so a process that is killed leaves at most bytes that no record refers to.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import secrets
import stat
import struct
import time
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("<16s16s")
"""What it is, and the collection that it belongs to."""

_MAGIC: Final = b"rerank vectors 1"

_NAME: Final = re.compile(r"[0-9a-f]{16}\.vectors")

_RECORD: Final = struct.Struct("<16sQQII")
"""Key, offset, length, checksum of the entry, checksum of what precedes. A record of zeros belongs to no entry."""

_TOUCH_EVERY: Final = 60.0
"""Seconds between two changes of a used segment's time."""


class DamagedError(Exception):
    """A file does not contain what was written to it."""


@dataclass(slots=True)
class Entry:
    """Where an entry lies.

    Args:
        segment: In which segment.
        record: Where its record begins in the index.
        offset: Where it begins in the file of entries.
        length: In bytes.
        checksum: Its CRC-32.
        verified: Whether this process has compared it with the checksum.
    """

    segment: Segment
    record: int
    offset: int
    length: int
    checksum: int
    verified: bool = False


class Segment:
    """A segment to read.

    Args:
        stem: The path of its files, without their suffixes.
        collection: The digest of what it belongs to, of 16 bytes.
    """

    def __init__(self, stem: Path, collection: bytes) -> None:
        self.stem = stem
        self.entries_file = stem.with_suffix(".vectors")
        self.index_file = stem.with_suffix(".index")
        self.header = _HEADER.pack(_MAGIC, collection)
        self.read_until = 0
        self._map: mmap.mmap | None = None
        self._touched = float("-inf")

    def read_index(self) -> Iterator[tuple[bytes, Entry]]:
        """The entries added since the last call, by key; a record that is not whole yet is left for the next.

        Raises:
            DamagedError: It is not the index of a segment of this collection.
            OSError: It cannot be read.
        """
        if self.index_file.stat().st_size <= self.read_until:
            return
        with self.index_file.open("rb") as stream:
            stream.seek(self.read_until)
            content = stream.read()
        if self.read_until == 0:
            if len(content) < len(self.header):
                return
            if not content.startswith(self.header):
                raise DamagedError
            content = content[len(self.header) :]
            self.read_until = len(self.header)
        start = self.read_until
        whole = len(content) // _RECORD.size * _RECORD.size
        self.read_until += whole
        for at in range(0, whole, _RECORD.size):
            record = content[at : at + _RECORD.size]
            key, offset, length, checksum, own = _RECORD.unpack(record)
            if zlib.crc32(record[:-4]) == own:
                yield key, Entry(self, start + at, offset, length, checksum)

    def read(self, entry: Entry) -> memoryview:
        """An entry's bytes, as a view of the map.

        Raises:
            DamagedError: They are not those that were written.
            OSError: The file cannot be read.
        """
        end = entry.offset + entry.length
        if self._map is None or len(self._map) < end:
            self._map = self._mapped(end)
        if self._map.size() < end:  # it shrank: to read beyond its end would kill the process
            raise DamagedError
        view = memoryview(self._map)[entry.offset : end]
        if not entry.verified and zlib.crc32(view) != entry.checksum:
            raise DamagedError
        entry.verified = True
        return view

    def _mapped(self, end: int) -> mmap.mmap:
        with self.entries_file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < end:
                raise DamagedError
            return mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)

    def touch(self) -> None:
        """Note that it is used, for `least_recently_used_first`."""
        now = time.monotonic()
        if now - self._touched >= _TOUCH_EVERY:
            self._touched = now
            try:
                os.utime(self.entries_file)
            except OSError as error:
                logger.info("the time of %s cannot be set: %s", self.entries_file, error)

    def blank(self, entry: Entry) -> None:
        """Take a damaged entry out of the index, for every process that opens it from now on."""
        try:
            with self.index_file.open("r+b", buffering=0) as stream:
                stream.seek(entry.record)
                stream.write(bytes(_RECORD.size))
        except OSError as error:
            logger.info("%s cannot be mended: %s", self.index_file, error)


class OwnSegment(Segment):
    """A new segment, which this process appends to.

    Args:
        folder: Where to make it.
        collection: The digest of what it belongs to.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, folder: Path, collection: bytes) -> None:
        super().__init__(folder / secrets.token_hex(8), collection)
        self._entries_fd = _create(self.entries_file)
        self._close_entries = weakref.finalize(self, _close, self._entries_fd)
        try:
            self._index_fd = _create(self.index_file)
        except OSError:
            self._close_entries()
            self.entries_file.unlink()
            raise
        self._close_index = weakref.finalize(self, _close, self._index_fd)
        _write(self._entries_fd, self.header)
        self._end = len(self.header)
        _write(self._index_fd, self.header)
        self.read_until = len(self.header)  # and where the next record is written: the index is its own

    @property
    def is_there(self) -> bool:
        """Whether nobody has removed it."""
        return os.fstat(self._entries_fd).st_nlink > 0 and os.fstat(self._index_fd).st_nlink > 0

    def fits(self, limit: int, content: bytes) -> bool:
        """Whether an entry fits within a limit of bytes; the first one always does."""
        return self._end == len(self.header) or self._end + self.read_until + len(content) + _RECORD.size <= limit

    def append(self, key: bytes, content: bytes) -> Entry:
        """Write an entry, then its record.

        Raises:
            OSError: It cannot be written.
        """
        entry = Entry(self, self.read_until, self._end, len(content), zlib.crc32(content), verified=True)
        _write(self._entries_fd, content)
        record = _RECORD.pack(key, entry.offset, entry.length, entry.checksum, 0)[:-4]
        _write(self._index_fd, record + zlib.crc32(record).to_bytes(4, "little"))
        self._end += len(content)
        self.read_until += _RECORD.size
        return entry

    def close(self) -> None:
        """Append no more; it can still be read."""
        self._close_entries()
        self._close_index()


def find_segments(folder: Path) -> list[Path]:
    """The stems of the regular files in a folder that have the name of a segment; none if it is gone or another user's.

    Raises:
        OSError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as listed:
            files = [file.name for file in listed if file.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [folder / file.removesuffix(".vectors") for file in files if _NAME.fullmatch(file)]


def is_segment(stem: Path) -> bool:
    """Whether one of its two files begins with the header, which says that nobody else has made them."""
    return _has_header(stem.with_suffix(".vectors")) or _has_header(stem.with_suffix(".index"))


def _has_header(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # to open a pipe could take for ever
            return False
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:  # removed, or another user's
        return False


def remove_segment(stem: Path) -> bool:
    """Remove a segment's files. A process that has mapped them keeps them; Windows then leaves them in place.

    Returns:
        Whether its entries are gone, and with them the space that they took.
    """
    try:
        stem.with_suffix(".vectors").unlink(missing_ok=True)
    except OSError as error:
        logger.info("%s cannot be removed: %s", stem, error)
        return False
    with suppress(OSError):  # without entries it is not read
        stem.with_suffix(".index").unlink()
    return True


def space(content: bytes) -> int:
    """How many bytes a segment takes that holds one entry."""
    return 2 * _HEADER.size + len(content) + _RECORD.size


def _create(path: Path) -> int:
    """A new file that only its owner can read: texts could be guessed from vectors."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _close(file: int) -> None:
    with suppress(OSError):  # a file system that finds out late that it is full
        os.close(file)
