"""Rows on their way to the database and back: which of their values are encrypted, and what binds each to its place.

Every value has a key of its own, derived from the one that was given and from its place: format, name of the key,
table, column, owner, and id of the row. A value that was moved to another row, column, table or owner therefore does
not open there, and no key is used for so many values that random nonces could meet. Within the row it is AES-256-GCM.
The chat is not part of the place: a fork copies rows with their ids, and they stay readable there.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.errors import ConfigurationError, EncryptionError, TamperedValueError, UnsupportedFeatureError
from nodellm_orm.store.sealed import Sealed, sealed_bytes, sealed_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = dict[str, Any]
    """Values by column."""

CONTENT: Final[Mapping[str, tuple[str, ...]]] = {
    "chats": ("title", "instructions", "settings"),
    "turns": ("settings", "error_message"),
    "messages": ("content", "parts", "raw_finish_reason"),
    "tool_calls": ("arguments", "result", "error"),
    "thinking": ("text", "signature", "opaque"),
    "attachments": ("name", "url"),
    "blobs": ("data",),
    "texts": ("text",),
}
"""What is encrypted: every column that holds words or files of users and models. Everything else stays readable."""
KEY_BYTES: Final = 32
_NONCE: Final = 12
_CHECK: Final = 4
"""Bytes that tell a wrong key from a value that was tampered with."""


class Sealer:
    """Without encryption: values stay as they are, and one that is encrypted is refused."""

    encrypts = False
    """Whether what is written is encrypted."""
    current: str | None = None
    """Name of the key that is written with."""

    def sealed(self, table: str, row: Row, *, owner: str | None, key: UUID | str, prefix: str = "") -> Row:
        """A row as it is to be sent.

        Args:
            table: the table's name without its prefix.
            row: values by column.
            owner: whose chat, file or text it is.
            key: the row's id; the digest of a file or text.
            prefix: stands before the columns' names.
        """
        del table, owner, key, prefix
        return row

    def opened(
        self, table: str, row: Mapping[Any, Any], *, owner: str | None, key: UUID | str, prefix: str = ""
    ) -> Mapping[Any, Any]:
        """A row that was read, its values as they were given.

        Args:
            table: the table's name without its prefix.
            row: values by column; columns that were not read may be missing.
            owner: whose chat, file or text it is.
            key: the row's id; the digest of a file or text.
            prefix: stands before the columns' names.

        Raises:
            EncryptionError: a value cannot be read with the keys that there are.
            TamperedValueError: a value was changed or moved.
        """
        opened: Row = {}
        for column in CONTENT[table]:
            name = prefix + column
            if name in row and (value := row[name]) is not None:
                plain = self.opened_value(table, column, value, owner=owner, key=key)
                if plain is not value:
                    opened[name] = plain
        return {**row, **opened} if opened else row

    def opened_value(self, table: str, column: str, value: Any, *, owner: str | None, key: UUID | str) -> Any:
        """One value as it was given.

        Args:
            table: the table's name without its prefix.
            column: the column.
            value: as read.
            owner: whose chat, file or text it is.
            key: the row's id; the digest of a file or text.

        Raises:
            EncryptionError: it is encrypted.
        """
        del owner
        if not isinstance(value, Sealed):
            return value
        if not (isinstance(value.raw, bytes) and digest_of(value.raw) == key):
            not_given(table, column, key, value.key)
        return value.raw  # a file that begins as encrypted ones do

    def sealed_rows(
        self, table: str, rows: list[Row], *, owner: str | None, key: str = "id", prefix: str = ""
    ) -> list[Row]:
        """Rows as they are to be sent.

        Args:
            table: the table's name without its prefix.
            rows: values by column.
            owner: whose they are.
            key: the column of the row's id.
            prefix: stands before the columns' names.
        """
        if not self.encrypts:
            return rows
        return [self.sealed(table, row, owner=owner, key=row[prefix + key], prefix=prefix) for row in rows]


PLAIN: Final = Sealer()
"""No encryption."""


class KeySealer(Sealer):
    """Encrypts with one key, and reads what any of its keys has encrypted.

    Args:
        keys: 32 bytes each, by name.
        current: the one to encrypt with.
        allow_plaintext: whether values that are not encrypted are read.
    """

    encrypts = True

    def __init__(self, keys: Mapping[str, bytes], current: str, *, allow_plaintext: bool = True) -> None:
        """Keep the keys, and what each is recognised by."""
        # It is loaded here, for it is needed by those only who encrypt.
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 — an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 — an extra
        except ImportError as error:
            msg = "encryption needs the package cryptography; install it: pip install 'nodellm_orm[encryption]'"
            raise UnsupportedFeatureError(msg) from error
        self._cipher, self._invalid = AESGCM, InvalidTag
        self._keys = dict(keys)
        self._checks = {name: _check_of(key) for name, key in keys.items()}
        self._allow_plaintext = allow_plaintext
        self.current: str = current

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all keys."""
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"KeySealer({sorted(self._keys)}, current={self.current!r})"

    def __reduce__(self) -> NoReturn:
        msg = "encryption keys are not pickled; make the Encryption again where it is needed"
        raise ConfigurationError(msg)

    def sealed(self, table: str, row: Row, *, owner: str | None, key: UUID | str, prefix: str = "") -> Row:
        """See `Sealer.sealed`."""
        sealed = {
            name: self.sealed_value(table, column, row[name], owner=owner, key=key)
            for column in CONTENT[table]
            if row.get(name := prefix + column) is not None
        }
        return {**row, **sealed}

    def sealed_value(
        self, table: str, column: str, value: str | bytes, *, owner: str | None, key: UUID | str
    ) -> Sealed:
        """One value, encrypted for its place.

        Args:
            table: the table's name without its prefix.
            column: the column.
            value: text or bytes.
            owner: whose chat, file or text it is.
            key: the row's id; the digest of a file or text.
        """
        place = _place(self.current, table, column, owner, key)
        nonce = os.urandom(_NONCE)
        plain = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        cipher = self._cipher(hmac.digest(self._keys[self.current], place, "sha256"))
        check = self._checks[self.current]
        data = b"".join((check, nonce, cipher.encrypt(nonce, plain, check + place)))
        return sealed_text(self.current, data) if isinstance(value, str) else sealed_bytes(self.current, data)

    def opened_value(self, table: str, column: str, value: Any, *, owner: str | None, key: UUID | str) -> Any:
        """See `Sealer.opened_value`."""
        if isinstance(value, Sealed) and isinstance(value.raw, bytes) and digest_of(value.raw) == key:
            value = value.raw  # a file that begins as encrypted ones do
        if isinstance(value, Sealed):
            return self._opened(table, column, value, owner, key)
        if not self._allow_plaintext:
            msg = (
                f"{_words(table, column, key)} is not encrypted, and allow_plaintext=False refuses that; "
                "encrypt what is left with rotate_keys(), unless somebody wrote it past this package"
            )
            raise EncryptionError(msg, details=_details(table, column, key, None))
        return value

    def _opened(self, table: str, column: str, value: Sealed, owner: str | None, key: UUID | str) -> str | bytes:
        parsed = value.parsed()
        if parsed is None:
            _tampered(table, column, key, None)
        name, data = parsed
        if name not in self._keys:
            not_given(table, column, key, name)
        place = _place(name, table, column, owner, key)
        cipher = self._cipher(hmac.digest(self._keys[name], place, "sha256"))
        body = _CHECK + _NONCE
        try:
            plain = cipher.decrypt(data[_CHECK:body], data[body:], data[:_CHECK] + place)
        except (self._invalid, ValueError) as error:
            if data[:_CHECK] != self._checks[name]:
                msg = (
                    f"{_words(table, column, key)} is encrypted with a key named {name!r}, and the key given under "
                    "that name is another one; give the one it was encrypted with"
                )
                raise EncryptionError(msg, details=_details(table, column, key, name)) from None
            _tampered(table, column, key, name, error)
        return plain.decode("utf-8", "surrogatepass") if isinstance(value.raw, str) else plain


def not_given(table: str, column: str, key: UUID | str, name: str | None) -> NoReturn:
    """Say that a value is encrypted with a key that there is not.

    Raises:
        EncryptionError: always.
    """
    msg = (
        f"{_words(table, column, key)} is encrypted with key {name!r}, which was not given; "
        "pass encryption=Encryption(keys={…}) with that key in it"
    )
    raise EncryptionError(msg, details=_details(table, column, key, name))


def _tampered(
    table: str, column: str, key: UUID | str, name: str | None, cause: BaseException | None = None
) -> NoReturn:
    msg = (
        f"{_words(table, column, key)} was changed, cut or moved since it was encrypted, or its chat was given another "
        "owner; restore the row from a backup"
    )
    raise TamperedValueError(msg, details=_details(table, column, key, name)) from cause


def _words(table: str, column: str, key: UUID | str) -> str:
    return f"column {column!r} of row {key} in table {table!r}"


def _details(table: str, column: str, key: UUID | str, name: str | None) -> dict[str, object]:
    return {"table": table, "column": column, "id": str(key), "key": name}


def _check_of(key: bytes) -> bytes:
    return hmac.digest(key, b"nodellm_orm/check/1", "sha256")[:_CHECK]


def _place(name: str, table: str, column: str, owner: str | None, key: UUID | str) -> bytes:
    """Where a value belongs, as bytes that are unlike those of every other place."""
    fields: Iterable[bytes] = (
        b"nodellm_orm/value/1",
        name.encode("ascii"),
        table.encode("ascii"),
        column.encode("ascii"),
        b"" if owner is None else b"=" + owner.encode("utf-8", "surrogatepass"),
        key.bytes if isinstance(key, UUID) else key.encode("ascii"),
    )
    return b"".join(len(part).to_bytes(4, "big") + part for part in fields)
