"""The keys that content is encrypted with: checked when they are given, and never shown."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from typing import Final, NoReturn

from nodellm_orm.config import ENCRYPTION_KEYS, Environment
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.sealed import KEY_ID
from nodellm_orm.store.sealing import KEY_BYTES, KeySealer

_GENERATE: Final = "Encryption.generate_key() makes one"


class Encryption:
    """The keys that content is encrypted with before it is written: pass it as ``encryption=``.

    Args:
        keys: 32 random bytes each, or their base64, by a name of your choice. The name is stored beside each value, so
            that it is known which key opens it.
        current: name of the key to encrypt with; may be omitted when there is only one. The others are for reading.
        allow_plaintext: whether values that were stored without encryption are read. Say ``False`` once `rotate_keys`
            has reported that none is left: then nobody can pass words of his own off as yours.

    Raises:
        ConfigurationError: there is no key, one is no key, or ``current`` names none.
        UnsupportedFeatureError: the extra ``encryption`` is not installed.

    Example:
        >>> encryption = Encryption(keys={"2026-11": Encryption.generate_key()})
        >>> encryption
        Encryption(keys=['2026-11'], current='2026-11')
    """

    __slots__ = ("_sealer",)

    def __init__(
        self, *, keys: Mapping[str, bytes | str], current: str | None = None, allow_plaintext: bool = True
    ) -> None:
        """Check the keys."""
        given: object = keys
        if given and not isinstance(given, Mapping):
            msg = f"keys is a dict of keys by name, such as {{'2026-11': key}}, not {type(given).__name__}"
            raise ConfigurationError(msg)
        if not keys:
            msg = f"encryption needs at least one key; {_GENERATE}"
            raise ConfigurationError(msg)
        checked = {_checked_name(name): _checked_key(name, key) for name, key in keys.items()}
        chosen = next(iter(checked)) if current is None and len(checked) == 1 else current
        if not isinstance(chosen, str) or chosen not in checked:
            # What was given is not shown: it may be a key in the place of its name.
            wrong = "is not given" if current is None else "names none of the keys"
            msg = f"current= {wrong} ({', '.join(checked)}); name the one to encrypt with"
            raise ConfigurationError(msg)
        switch: object = allow_plaintext
        if not isinstance(switch, bool):
            msg = f"allow_plaintext is True or False, not {switch!r:.100}"
            raise ConfigurationError(msg)
        self._sealer = KeySealer(checked, chosen, allow_plaintext=allow_plaintext)

    @classmethod
    def from_environment(cls, *, allow_plaintext: bool = True) -> Encryption:
        """The keys in ``NODELLM_ENCRYPTION_KEYS``: ``name:base64,name:base64``, the first to encrypt with.

        Args:
            allow_plaintext: as for `Encryption`.

        Raises:
            ConfigurationError: the variable is missing or malformed.

        Example:
            >>> os.environ["NODELLM_ENCRYPTION_KEYS"] = f"2026-11:{Encryption.generate_key()}"
            >>> Encryption.from_environment().current
            '2026-11'
        """
        text = Environment.of(os.environ).word(ENCRYPTION_KEYS)
        if text is None:
            msg = f"{ENCRYPTION_KEYS} is not set; put name:base64 there, several separated by commas ({_GENERATE})"
            raise ConfigurationError(msg)
        pairs = [pair.strip().partition(":") for pair in text.split(",") if pair.strip()]
        if any(not separator for _, separator, _ in pairs) or len({name for name, _, _ in pairs}) < len(pairs):
            msg = f"{ENCRYPTION_KEYS} is malformed; write name:base64, several separated by commas, each name once"
            raise ConfigurationError(msg)
        keys = {name.strip(): key.strip() for name, _, key in pairs}
        return cls(keys=keys, current=next(iter(keys), None), allow_plaintext=allow_plaintext)

    @staticmethod
    def generate_key() -> str:
        """A new random key as base64, to be kept where your other secrets are."""
        return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")

    @property
    def current(self) -> str:
        """Name of the key that is encrypted with."""
        return self._sealer.current

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of all keys."""
        return self._sealer.names

    @property
    def sealer(self) -> KeySealer:
        """What encrypts and decrypts rows; for the store."""
        return self._sealer

    def __repr__(self) -> str:
        return f"Encryption(keys={list(self.key_names)}, current={self.current!r})"

    def __copy__(self) -> Encryption:
        return self

    def __deepcopy__(self, memo: object) -> Encryption:
        return self

    def __reduce__(self) -> NoReturn:
        msg = "an Encryption holds keys and is not pickled; make it again where it is needed"
        raise ConfigurationError(msg)


def _checked_name(name: object) -> str:
    if isinstance(name, str) and len(_decoded(name) or b"") == KEY_BYTES:
        msg = "the name of a key is a key itself, and names are stored beside each value; write the name before the key"
        raise ConfigurationError(msg)
    if not isinstance(name, str) or not KEY_ID.fullmatch(name):
        msg = "a key's name has 1 to 64 letters, digits, dots, hyphens or underscores, as '2026-11'"
        raise ConfigurationError(msg)
    return name


def _decoded(text: str) -> bytes | None:
    """Either alphabet of base64, with or without padding; ``None``: it is none."""
    plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None


def _checked_key(name: str, key: object) -> bytes:
    if isinstance(key, str):
        decoded = _decoded(key)
        if decoded is None:
            msg = f"the encryption key {name!r} is not base64; {_GENERATE}"
            raise ConfigurationError(msg)
        data = decoded
    elif isinstance(key, bytes | bytearray):
        data = bytes(key)
    else:
        msg = f"the encryption key {name!r} is a {type(key).__name__}; give 32 bytes, or their base64"
        raise ConfigurationError(msg)
    if len(data) != KEY_BYTES:
        msg = f"the encryption key {name!r} has {len(data)} bytes, and {KEY_BYTES} are needed; {_GENERATE}"
        raise ConfigurationError(msg)
    return data
