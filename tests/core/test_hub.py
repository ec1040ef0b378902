"""Checkpoints from a hub over real HTTP, and every way in which this can fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hub_server import Hub

from rerank import BackendNotFoundError, Claim, Confidence, ModelLoadError, ModelRef, RerankError
from rerank.resolution import resolve
from rerank.testing.fake import fake_backend, fake_registry

NAME = "owner/model"
FILES = {"config.json": '{"architectures": ["A"]}', "onnx/model.onnx": bytes(range(256)) * 64, "README.md": "# é"}


@pytest.fixture
def published(hub: Hub) -> Hub:
    hub.add(NAME, FILES)
    return hub


def test_the_listing_the_config_and_a_file(published: Hub) -> None:
    model = ModelRef(NAME)
    assert model.files == set(FILES)
    assert model.config == {"architectures": ["A"]}
    assert model.fetch("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]
    assert model.fetch("README.md").read_text(encoding="utf-8") == "# é"


def test_a_name_without_an_owner(hub: Hub) -> None:
    hub.add("gpt", {"config.json": "{}"})
    assert ModelRef("gpt").files == {"config.json"}


def test_a_checkpoint_without_config_has_an_empty_one(hub: Hub) -> None:
    hub.add(NAME, {"model.onnx": b"x"})
    assert ModelRef(NAME).config == {}


def test_a_revision_has_its_own_files(published: Hub) -> None:
    commit = published.add(NAME, {"config.json": '{"v": 2}', "new.txt": "x"}, revision="v2")
    assert ModelRef(NAME, revision="v2").files == {"config.json", "new.txt"}
    assert ModelRef(NAME, revision="v2").config == {"v": 2}
    assert ModelRef(NAME, revision=commit).config == {"v": 2}
    assert ModelRef(NAME).config == {"architectures": ["A"]}


def test_downloads_go_to_the_folder_asked_for(published: Hub, tmp_path: Path) -> None:
    path = ModelRef(NAME, cache_dir=str(tmp_path / "mine")).fetch("config.json")
    assert path.is_relative_to(tmp_path / "mine")


def test_the_hub_is_asked_once_though_several_backends_ask(published: Hub) -> None:
    def claim(model: ModelRef) -> Claim:
        assert model.config
        assert "config.json" in model.files
        return Claim(Confidence.NONE, "not mine")

    registry = fake_registry(*(fake_backend(name, claim=claim) for name in ("one", "two", "three")))
    with pytest.raises(BackendNotFoundError):
        resolve(registry, ModelRef(NAME))
    assert published.count("/api/models/owner/model") == 1
    assert published.count("/config.json", "HEAD") <= 2  # ours for its names, and the hub's client's


def test_a_failure_is_asked_for_once_too(hub: Hub) -> None:
    def claim(model: ModelRef) -> Claim:
        return Claim(Confidence.NONE, str(model.files))

    registry = fake_registry(*(fake_backend(name, claim=claim) for name in ("one", "two", "three")))
    with pytest.raises(ModelLoadError, match="check the name"):
        resolve(registry, ModelRef(NAME))
    assert hub.count("/api/models/owner/model") == 1


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_private_repository_needs_its_token(hub: Hub, token: str | None) -> None:
    hub.add(NAME, FILES, token="secret-token")
    for read in (lambda model: model.files, lambda model: model.fetch("config.json")):
        with pytest.raises(ModelLoadError, match=r"check the name.*token= or set HF_TOKEN") as caught:
            read(ModelRef(NAME, token=token))
        assert "wrong" not in str(caught.value)


def test_the_right_token_opens_a_private_repository(hub: Hub) -> None:
    hub.add(NAME, FILES, token="secret-token")
    model = ModelRef(NAME, token="secret-token")
    assert model.files == set(FILES)
    assert model.fetch("onnx/model.onnx").read_bytes() == FILES["onnx/model.onnx"]
    assert "secret-token" not in repr(model)


@pytest.mark.parametrize("token", [None, "mine"])
def test_a_gated_repository_lists_its_files_and_keeps_them(hub: Hub, token: str | None) -> None:
    hub.add(NAME, FILES, gated=True)
    model = ModelRef(NAME, token=token)
    assert model.files == set(FILES)
    with pytest.raises(ModelLoadError, match=r"config.json of owner/model is gated: accept its terms"):
        _ = model.config


def test_a_gated_repository_opens_to_who_accepted(hub: Hub) -> None:
    hub.add(NAME, FILES, gated=True, token="mine")
    assert ModelRef(NAME, token="mine").config == {"architectures": ["A"]}


def test_no_such_repository(hub: Hub) -> None:
    with pytest.raises(ModelLoadError, match="'owner/nothing' is neither a local folder nor a repository"):
        _ = ModelRef("owner/nothing").files


def test_no_such_revision(published: Hub) -> None:
    model = ModelRef(NAME, revision="v9")
    with pytest.raises(ModelLoadError, match="'owner/model' at revision 'v9' does not exist: check revision="):
        _ = model.files
    with pytest.raises(ModelLoadError, match=r"config\.json of owner/model at revision 'v9' does not exist"):
        model.fetch("config.json")


def test_no_such_file(published: Hub) -> None:
    with pytest.raises(ModelLoadError, match=r"absent\.json of owner/model does not exist: check the file's name"):
        ModelRef(NAME).fetch("absent.json")


@pytest.mark.parametrize(
    "name", ["no such folder/x/y", "../nowhere", "a b", "", "owner/model/more", "x" * 5000, "a\0b", "~nobody-at-all/x"]
)
def test_a_name_that_the_hub_could_not_have_is_not_asked_for(hub: Hub, name: str) -> None:
    with pytest.raises(ModelLoadError):
        _ = ModelRef(name).files
    assert hub.seen == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelLoadError, match="is a file"):
        _ = ModelRef(str(tmp_path / "model.onnx")).files


@pytest.mark.parametrize("file", ["config.json", "onnx/model.onnx"])
def test_a_body_that_breaks_off_is_never_taken_for_whole(hub: Hub, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between tries
    hub.add(NAME, FILES, truncate=(file,))
    with pytest.raises(ModelLoadError, match=f"{file} of owner/model could not be read from the hub"):
        ModelRef(NAME).fetch(file)
    hub.add(NAME, FILES)
    assert ModelRef(NAME).fetch(file).read_bytes() == _bytes(file)


@pytest.mark.parametrize("file", ["config.json", "onnx/model.onnx"])
def test_a_wrong_digest_is_told_and_the_file_is_not_kept(hub: Hub, file: str) -> None:
    hub.add(NAME, FILES, damage=(file,))
    with pytest.raises(ModelLoadError, match=f"{file} of owner/model arrived damaged .* try again"):
        ModelRef(NAME).fetch(file)
    hub.add(NAME, FILES)
    assert ModelRef(NAME).fetch(file).read_bytes() == _bytes(file)


def test_force_repairs_a_damaged_copy(published: Hub) -> None:
    path = ModelRef(NAME).fetch("onnx/model.onnx")
    path.resolve().write_bytes(b"rotten")
    assert ModelRef(NAME).fetch("onnx/model.onnx", repair=True).read_bytes() == FILES["onnx/model.onnx"]


@pytest.mark.parametrize("content", ["{", "[1]", b"\xff\xfe{}", ""])
def test_a_config_that_is_no_json_object(hub: Hub, content: bytes | str) -> None:
    hub.add(NAME, {"config.json": content})
    with pytest.raises(ModelLoadError, match=r"config\.json.*(JSON).*fetch the checkpoint again"):
        _ = ModelRef(NAME).config


def test_local_files_only_asks_nobody(published: Hub) -> None:
    with pytest.raises(ModelLoadError, match="not in the cache"):
        _ = ModelRef(NAME, local_files_only=True).files
    with pytest.raises(ModelLoadError, match="not in the cache"):
        ModelRef(NAME, local_files_only=True).fetch("config.json")
    assert published.seen == []


def test_local_files_only_reads_the_cache(published: Hub) -> None:
    _download_all()
    published.seen.clear()
    model = ModelRef(NAME, local_files_only=True)
    assert model.files == set(FILES)
    assert model.config == {"architectures": ["A"]}
    assert published.seen == []


def test_offline_without_a_cache(published: Hub) -> None:
    code = """
        from rerank import ModelRef, RerankError
        for read in (lambda m: m.files, lambda m: m.fetch("config.json")):
            try:
                read(ModelRef("owner/model"))
            except RerankError as error:
                print(error)
    """
    lines = _run(textwrap.dedent(code), HF_HUB_OFFLINE="1").stdout.splitlines()
    assert len(lines) == 2
    assert all("is not in the cache" in line and "connect, or download it first" in line for line in lines)
    assert published.seen == []


def test_offline_with_a_cache(published: Hub) -> None:
    _download_all()
    published.seen.clear()
    code = f"from rerank import ModelRef; m = ModelRef({NAME!r}); print(len(m.files), len(m.fetch('README.md').read_bytes()))"
    assert _run(code, HF_HUB_OFFLINE="1").stdout.split() == ["3", "4"]
    assert published.seen == []


def test_a_partly_cached_model_still_lists_what_is_there(published: Hub) -> None:
    ModelRef(NAME).fetch("config.json")
    model = ModelRef(NAME, local_files_only=True)
    assert model.files == {"config.json"}
    assert model.config == {"architectures": ["A"]}


def test_a_hub_that_is_down_leaves_the_cache(published: Hub) -> None:
    _download_all()
    published.stop()
    model = ModelRef(NAME)
    assert model.files == set(FILES)
    assert model.config == {"architectures": ["A"]}


def test_a_hub_that_is_down_and_no_cache(published: Hub) -> None:
    published.stop()
    with pytest.raises(ModelLoadError, match="the hub was not reached"):
        _ = ModelRef(NAME).files


def test_a_short_name_is_named_beside_the_model_that_it_stands_for(published: Hub) -> None:
    published.stop()
    with pytest.raises(ModelLoadError, match=f"model {NAME!r}, which 'mine' stands for, is not in the cache"):
        ModelRef(NAME, alias="mine").check_files()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_leaves_the_cache(published: Hub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    _download_all()
    published.fail(status)
    model = ModelRef(NAME)
    assert model.files == set(FILES)
    assert model.config == {"architectures": ["A"]}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_and_no_cache(published: Hub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    published.fail(status)
    with pytest.raises(ModelLoadError, match=f"{status}.*try again later"):
        _ = ModelRef(NAME).files


def test_a_download_says_that_the_hub_is_in_trouble(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    published.fail(503)
    with pytest.raises(ModelLoadError, match=r"503.*try again later"):
        ModelRef(NAME).fetch("config.json")


def test_environment_variables_reach_a_process_of_its_own(published: Hub) -> None:
    code = f"from rerank import ModelRef; print(dict(ModelRef({NAME!r}).config))"
    assert _run(code).stdout.strip() == "{'architectures': ['A']}"
    offline = _run(f"from rerank import ModelRef; print(sorted(ModelRef({NAME!r}).files))", HF_HUB_OFFLINE="1")
    assert offline.stdout.strip() == "['config.json']"


def test_without_huggingface_hub_the_message_says_what_to_install() -> None:
    code = """
        import sys
        sys.modules["huggingface_hub"] = None
        from rerank import ModelRef, RerankError
        for read in (lambda m: m.files, lambda m: m.config, lambda m: m.fetch("config.json")):
            try:
                read(ModelRef("owner/model"))
            except RerankError as error:
                print(type(error).__name__, error)
    """
    lines = _run(textwrap.dedent(code)).stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("ModelLoadError") and "pip install 'rerank-core[hub]'" in line for line in lines)


def test_a_local_folder_needs_no_hub(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"x")
    code = f"""
        import sys
        sys.modules["huggingface_hub"] = None
        from rerank import ModelRef
        model = ModelRef({str(tmp_path)!r})
        print(sorted(model.files), dict(model.config), model.fetch("onnx/model.onnx").name)
    """
    assert _run(textwrap.dedent(code)).stdout.strip() == "['config.json', 'onnx/model.onnx'] {'a': 1} model.onnx"


def test_a_local_folder_misses_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no file 'absent\.json'"):
        ModelRef(str(tmp_path)).fetch("absent.json")


def test_every_failure_is_one_error_type_with_its_cause(hub: Hub) -> None:
    with pytest.raises(RerankError) as caught:
        _ = ModelRef("owner/nothing").files
    assert caught.value.__cause__ is not None


def _bytes(file: str) -> bytes:
    content = FILES[file]
    return content.encode() if isinstance(content, str) else content


def _download_all() -> None:
    for file in FILES:
        ModelRef(NAME).fetch(file)


def _run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )


def test_a_file_is_asked_for_once(published: Hub) -> None:
    model = ModelRef(NAME)
    assert model.fetch("config.json") == model.fetch("config.json")
    assert published.count("/config.json", "HEAD") == 2  # ours for its names, and the hub's client's


def test_a_file_of_the_commit_at_hand_is_not_asked_for(published: Hub) -> None:
    ModelRef(NAME).fetch("config.json")
    model = ModelRef(NAME)
    assert "config.json" in model.files
    before = len(published.seen)
    assert model.fetch("config.json")
    assert len(published.seen) == before
