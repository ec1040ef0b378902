"""Reading checkpoints from the Hugging Face hub or its cache, with every failure raised as a `ModelLoadError`."""

from __future__ import annotations

import hashlib
import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rerank.errors import ModelLoadError
from rerank.model_source import ModelSource
from rerank.secrets import Secrets, shown_address

logger = logging.getLogger(__name__)

_COMMIT: Final = re.compile("[0-9a-f]{40}")
_NAME: Final = re.compile(r"(?!\.)[\w.+=-]{1,200}")
"""What the hub's client may call a file after: a digest, or another server's mark of a version."""


@dataclass
class Repository:
    """A repository of the hub, and how to read it.

    Args:
        name: Its name.
        source: How the hub is reached.
        asked: The short name that the user gave instead, for errors.
        unreachable: Whether `files` found that the hub cannot be reached: then only the cache is read, since the hub's
            client would try again and again.
        commit: What `files` listed; None until then. Its files never change, so that one in the cache is not asked for.
    """

    name: str
    source: ModelSource
    asked: str | None = None
    unreachable: bool = False
    commit: str | None = None

    def files(self) -> frozenset[str]:
        """The repository's files; if the hub cannot be reached, those in the cache.

        Raises:
            ModelLoadError: It does not exist, this token may not read it, or it was never downloaded.
        """
        hub = _import_hub(self.name)
        source = self.source
        with self._as_load_errors() as secrets:
            unreachable: Exception | None = None
            if not source.local_files_only and not hub.constants.HF_HUB_OFFLINE:
                try:
                    info = hub.HfApi(token=source.token).model_info(self.name, revision=source.revision, timeout=10)
                    self.commit = info.sha if _COMMIT.fullmatch(info.sha or "") else None
                    return frozenset(sibling.rfilename for sibling in info.siblings or ())
                except Exception as error:
                    if isinstance(error, hub.errors.HfHubHTTPError) and not _is_temporary(error):
                        raise
                    reason = secrets.hide(str(error))
                    logger.info("the hub cannot be reached (%s); looking for %s in the cache", reason, self.name)
                    unreachable, self.unreachable = error, True
            try:
                snapshot = hub.snapshot_download(
                    self.name, revision=source.revision, cache_dir=source.cache_dir, local_files_only=True
                )
            except hub.errors.LocalEntryNotFoundError as error:
                snapshot = getattr(error, "snapshot_path", None)  # an incomplete snapshot still has its files
                if snapshot is None:
                    raise error from unreachable
            return files_below(Path(snapshot))

    def download(self, file: str, *, repair: bool = False) -> Path:
        """The local path of one file; a new download is checked against the hub's digest.

        Args:
            file: Relative path inside the repository.
            repair: Download again unless the cached copy is known to match the hub's.

        Raises:
            ModelLoadError: It does not exist, this token may not read it, or the download is damaged.
        """
        hub = _import_hub(self.name)
        source = self.source
        offline = source.local_files_only or hub.constants.HF_HUB_OFFLINE or self.unreachable
        with self._as_load_errors(file):
            cached = hub.try_to_load_from_cache(
                self.name, file, revision=self.commit or source.revision, cache_dir=source.cache_dir
            )
            known = isinstance(cached, str) and (not repair or _is_intact(Path(cached)) is True)
            if known and self.commit is not None:
                return Path(cached)
            if not offline:
                self._check_names(hub, file)
            path = Path(
                hub.hf_hub_download(
                    self.name,
                    file,
                    revision=source.revision,
                    cache_dir=source.cache_dir,
                    token=source.token,
                    local_files_only=offline,
                    force_download=repair and not known,
                )
            )
        if not known and _is_intact(path) is False:
            _remove(path)
            raise ModelLoadError(
                f"{file} of {self.name} arrived damaged (its digest differs from the hub's) and was removed: try again"
            )
        return path

    def _check_names(self, hub: Any, file: str) -> None:
        """Ask for a file's headers, and refuse those that would lead its download out of the cache.

        Raises:
            ModelLoadError: They name a path.
        """
        address = hub.hf_hub_url(self.name, file, revision=self.source.revision)
        headers = hub.get_hf_file_metadata(address, token=self.source.token)
        if not all(_NAME.fullmatch(name) for name in (headers.etag, headers.commit_hash) if name is not None):
            raise ModelLoadError(
                f"the hub at {shown_address(hub.constants.ENDPOINT)} calls a version of {file} of {self.name} by a path, which "
                "is no name for a file: check HF_ENDPOINT"
            )

    @contextmanager
    def _as_load_errors(self, file: str | None = None) -> Iterator[Secrets]:
        """Turn whatever the hub's client raises into a `ModelLoadError` that says what to do, and shows no secret."""
        what = f"{file} of {self.name}" if file else f"model {self.name!r}"
        meant = f", which {self.asked!r} stands for," if self.asked else ""
        revision = self.source.revision
        at = f" at revision {revision!r}" if revision else ""
        secrets = secrets_of_hub(self.source.token)
        try:
            with secrets.hidden_in_logs():
                yield secrets
        except ModelLoadError:
            raise
        except Exception as error:
            explanation = secrets.hide(_explain(error))
            secrets.scrub(error)
            raise ModelLoadError(f"{what}{at}{meant} {explanation}") from error


def secrets_of_hub(token: str | None) -> Secrets:
    """What no message about the hub shows: the token given or saved, and what addresses of it and of proxies hold."""
    from huggingface_hub import constants, get_token

    secrets = Secrets()
    for own in (token, get_token()):
        secrets.add(own or "")
    for address in (constants.ENDPOINT, *urllib.request.getproxies().values()):
        secrets.add_address(address)
    return secrets


def _explain(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the hub was reached, but failed
    if isinstance(error, errors.GatedRepoError):
        return "is gated: accept its terms on the hub, then pass token= or set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "is neither a local folder nor a repository that you can read on the hub: check the name; "
            "for a private repository pass token= or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "does not exist: check revision="
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return "is not in the cache, and the hub was not reached: connect, or download it first, or give a local folder"
    if isinstance(error, errors.EntryNotFoundError):
        return "does not exist: check the file's name"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        advice = "check token= or HF_TOKEN" if status in (401, 403) else "try again later"
        return f"could not be read, the hub answered {status}: {advice}"
    return (
        f"could not be read from the hub ({type(error).__name__}: {error}): check the connection and "
        "the cache folder's space and permissions, then try again"
    )


def _is_temporary(error: Any) -> bool:
    """Whether the hub is only overloaded or failing, so that the cache may be used instead."""
    status: int = error.response.status_code
    return status == 429 or status >= 500


def files_below(folder: Path) -> frozenset[str]:
    """Relative paths, with forward slashes, of the files in a checkpoint's folder and the folders in it."""
    found = [*folder.glob("*"), *folder.glob("*/*")]  # no checkpoint is deeper, but a home folder may be
    return frozenset(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _remove(path: Path) -> None:
    """Remove a damaged file of the hub's cache, and nothing outside."""
    blob = path.resolve()
    storage = next((folder for folder in path.parents if folder.name.startswith("models--")), None)
    if storage is not None and storage.resolve() in blob.parents:
        blob.unlink(missing_ok=True)


def _is_intact(path: Path) -> bool | None:
    """Whether a cached file matches the digest in its blob's name; None if that name is not a digest."""
    blob = path.resolve()
    if len(blob.name) == 64:
        content = hashlib.sha256()
    elif len(blob.name) == 40:
        content = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)  # git's own digest
    else:
        return None  # a file system without symlinks, or an etag that is not a digest
    with blob.open("rb") as stream:
        while part := stream.read(1 << 20):
            content.update(part)
    return content.hexdigest() == blob.name


def _import_hub(name: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ModelLoadError(
            f"model {name!r} is not a folder, and reading it from the hub needs huggingface-hub: "
            "pip install 'rerank-core[hub]'"
        ) from error
    return huggingface_hub
