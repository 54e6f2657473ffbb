"""llama.cpp's server inside this process: started on a free port of 127.0.0.1, behind a key that nobody else knows."""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.providers.local.weights import model_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

ENGINE: Final = "xllamacpp"
INSTALL_ENGINE: Final = "pip install 'nodellm_orm[local]'"
CONTEXT_WINDOW: Final = 8192
LONGEST_ANSWER: Final = 1024
"""Tokens of an answer whose length nobody has limited: small models tend to go on and on."""
LONGEST_EMBEDDED: Final = 2048
"""Tokens of a text that is turned into a vector."""
_SILENT: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the model is run.

    Args:
        threads: threads that compute; by default all cores but one, which is left to the program itself.
        context_window: tokens that a conversation may have, answer included.
        embeddings: whether it turns texts into vectors, rather than answering.
        chat_template: how a conversation is written for the model (Jinja), in place of the template in its file.
    """

    threads: int | None = None
    context_window: int = CONTEXT_WINDOW
    embeddings: bool = False
    chat_template: str | None = None

    @property
    def thread_count(self) -> int:
        """How many threads compute."""
        return self.threads or max(1, (os.cpu_count() or 1) - 1)


class LocalServer:
    """One model file, served to this process only.

    Loading holds the interpreter (about half a second for a model of 100 MB), answering does not.
    """

    def __init__(self, file: Path, options: ServerOptions) -> None:
        """Load the model and listen.

        Args:
            file: the model, in GGUF format.
            options: how it is run.

        Raises:
            UnsupportedFeatureError: the extra ``local`` is not installed.
            ConfigurationError: the file cannot be used.
        """
        self.key = secrets.token_urlsafe(32)
        """What a request has to present."""
        engine = _load_engine()
        try:
            self._server: Any = engine.Server(_parameters(engine, file, options, self.key))
        except RuntimeError as error:
            msg = f"{file.name} cannot be run: is it a whole GGUF file, and is there memory for it? ({error})"
            raise ConfigurationError(msg) from error
        self.url: str = f"{self._server.listening_address}/v1"
        """Base URL of its Chat Completions."""

    def stop(self) -> None:
        """Stop listening and free the memory; answers under way break off."""
        self._server = None

    def __repr__(self) -> str:
        return f"LocalServer({self.url!r})"


def require_engine(module: str = ENGINE) -> None:
    """Make sure that the package that runs models is installed; it is not imported yet.

    Args:
        module: its name.

    Raises:
        UnsupportedFeatureError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        msg = f"the provider local runs models with {module}, which is not installed: {INSTALL_ENGINE}"
        raise UnsupportedFeatureError(msg)


def _load_engine() -> ModuleType:
    require_engine()
    try:
        return importlib.import_module(ENGINE)
    except ImportError as error:
        msg = f"{ENGINE} is installed and does not run on this machine ({error}); install it anew: {INSTALL_ENGINE}"
        raise UnsupportedFeatureError(msg) from error


def _parameters(engine: ModuleType, file: Path, options: ServerOptions, key: str) -> object:
    parameters = engine.CommonParams()
    parameters.model.path = str(file)
    parameters.model_alias = {model_name(file)}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any free one
    parameters.api_keys = [key]
    parameters.n_ctx = options.context_window
    parameters.n_predict = LONGEST_ANSWER
    parameters.cpuparams.n_threads = options.thread_count
    parameters.cpuparams_batch.n_threads = options.thread_count
    parameters.n_gpu_layers = 0  # the same on every machine
    parameters.fit_params = False
    parameters.cache_ram_mib = 0  # the prefix of the last conversation is kept all the same
    parameters.verbosity = _SILENT
    parameters.ui = False
    parameters.endpoint_slots = False  # shows what others asked
    if options.chat_template is not None:
        parameters.chat_template = options.chat_template
    if options.embeddings:
        parameters.embedding = True
        parameters.pooling_type = engine.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # A text is read in one go, for which memory is set aside.
        parameters.n_batch = parameters.n_ubatch = min(options.context_window, LONGEST_EMBEDDED)
    return parameters
