"""What may become part of a question as a file: the policy, values only; nothing is read or fetched here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from nodellm_orm.errors import AttachmentError, ConfigurationError

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaPart

AttachedUrls: TypeAlias = Literal["refuse", "pass", "fetch"]
"""What becomes of a URL among the files: an error, handed to the provider as it is, or fetched here."""
Folders: TypeAlias = "bool | str | os.PathLike[str] | Collection[str | os.PathLike[str]]"

_MIB: Final = 1 << 20
_UNWRITTEN: Final = re.compile(r"[\s\\\x00-\x1f\x7f]")
"""What no URL has in it, and what parsers disagree about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentPolicy:
    """What ``files=`` may name, and how much of it.

    Bytes, open files, data URLs and `MediaPart` values are always taken: whoever calls has them already. A path and a
    URL are different, because their text often comes from somebody else: without a policy none is read or fetched.

    Args:
        paths: directories out of which files may be read, links followed and checked; ``True`` means any file.
        urls: ``refuse``, ``pass`` (the provider fetches it) or ``fetch`` (we do, with the rules below).
        hosts: host names that a URL may have; ``*.example.com`` means everything below. ``None`` means any.
        ports: ports that may be connected to; ``None`` means any.
        private_addresses: whether addresses of one's own machine and networks may be fetched from. Link-local ones,
            where clouds keep their machines' credentials, never are.
        max_bytes: bytes of one file.
        max_total_bytes: bytes of all files of one question.
        media_types: media types that are taken, such as ``application/pdf`` or ``image/*``; ``None`` means any. A
            `MediaPart` is the program's own word and is not held to it.
        timeout: seconds for one fetch in all.
        max_redirects: redirects that are followed, each checked like the first URL.

    Raises:
        ConfigurationError: a value that cannot be meant.

    Example:
        >>> uploads = AttachmentPolicy(paths=["/srv/uploads"], max_bytes=5 << 20)
        >>> handed_on = AttachmentPolicy(urls="pass", hosts=["cdn.example.com"])
        >>> pictures = AttachmentPolicy(urls="fetch", hosts=["*.example.com"], media_types=["image/*"], timeout=10)
    """

    paths: Folders = False
    urls: AttachedUrls = "refuse"
    hosts: Collection[str] | None = None
    ports: Collection[int] | None = (80, 443)
    private_addresses: bool = False
    max_bytes: int = 20 * _MIB
    max_total_bytes: int = 50 * _MIB
    media_types: Collection[str] | None = None
    timeout: float = 30.0
    max_redirects: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, a single text where a list belongs above all."""
        if self.urls not in get_args(AttachedUrls):
            msg = f'AttachmentPolicy(urls=) is "refuse", "pass" or "fetch", not {self.urls!r:.100}'
            raise ConfigurationError(msg)
        for name, item in (("hosts", str), ("media_types", str), ("ports", int)):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, Collection) or isinstance(value, str) or any(type(v) is not item for v in value)
            ):
                msg = f"AttachmentPolicy({name}=) is a list, or None for any, not {value!r:.100}"
                raise ConfigurationError(msg)
        for name, least in (("max_bytes", 1), ("max_total_bytes", 1), ("max_redirects", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                msg = f"AttachmentPolicy({name}=) is a whole number of at least {least}, not {value!r:.100}"
                raise ConfigurationError(msg)
        if type(self.timeout) not in {int, float} or not 0 < self.timeout < math.inf:
            msg = f"AttachmentPolicy(timeout=) is a number of seconds above 0, not {self.timeout!r:.100}"
            raise ConfigurationError(msg)
        if type(self.private_addresses) is not bool:
            msg = f"AttachmentPolicy(private_addresses=) is True or False, not {self.private_addresses!r:.100}"
            raise ConfigurationError(msg)
        if not isinstance(self.paths, bool) and not all(isinstance(f, str | os.PathLike) and f for f in self.folders):
            msg = f"AttachmentPolicy(paths=) is a list of directories, True or False, not {self.paths!r:.100}"
            raise ConfigurationError(msg)

    @property
    def folders(self) -> tuple[str | os.PathLike[str], ...]:
        """The directories out of which files may be read."""
        if isinstance(self.paths, bool):
            return ()
        if isinstance(self.paths, str | os.PathLike) or not isinstance(self.paths, Collection):
            return (self.paths,)
        return tuple(self.paths)

    def refuse_url(self, url: str) -> None:
        """Refuse a URL that is to be handed on as it is.

        Args:
            url: as given.

        Raises:
            AttachmentError: it is no plain http URL, or the policy does not name its host or port.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if not host or parts.scheme not in {"http", "https"} or _UNWRITTEN.search(url):
            msg = f"{url!r:.200} is not a URL of http or https; write it in full"
            raise AttachmentError(msg)
        if "@" in parts.netloc:
            msg = f"a URL at {host!r:.300} holds a user or a password; give one without, or pass the bytes"
            raise AttachmentError(msg)
        self.refuse_host(host, port)

    def refuse_host(self, host: str, port: int) -> None:
        """Refuse a URL's host or port.

        Args:
            host: the name, or the address, in lower case.
            port: the port.

        Raises:
            AttachmentError: the policy does not name it.
        """
        if self.hosts is not None and not any(_names(pattern, host) for pattern in self.hosts):
            msg = f"{host!r:.300} is not among AttachmentPolicy(hosts=); add it there to allow it"
            raise AttachmentError(msg)
        if self.ports is not None and port not in self.ports:
            msg = f"port {port} of {host!r:.300} is not among AttachmentPolicy(ports=); add it there to allow it"
            raise AttachmentError(msg)

    def refuse_size(self, size: int, what: str, *, before: int = 0) -> None:
        """Refuse a file that is too large.

        Args:
            size: its bytes, or as many as are known.
            what: the file, for the message.
            before: bytes of the files before it in the same question.

        Raises:
            AttachmentError: names the setting.
        """
        if size > self.max_bytes:
            msg = f"{what} has more than {self.max_bytes} bytes; raise AttachmentPolicy(max_bytes=) to allow it"
            raise AttachmentError(msg)
        if before + size > self.max_total_bytes:
            msg = (
                f"the files have more than {self.max_total_bytes} bytes together; "
                "raise AttachmentPolicy(max_total_bytes=) to allow it"
            )
            raise AttachmentError(msg)

    def refuse_type(self, part: MediaPart, what: str) -> None:
        """Refuse a file whose type is not taken.

        Args:
            part: the file.
            what: the file, for the message.

        Raises:
            AttachmentError: names the setting.
        """
        if self.media_types is not None and not any(fnmatchcase(part.media_type, t.lower()) for t in self.media_types):
            msg = f"{what} is {part.media_type}, which is not among AttachmentPolicy(media_types=); add it to allow it"
            raise AttachmentError(msg)


def _names(pattern: str, host: str) -> bool:
    wanted, given = pattern.lower().rstrip("."), host.rstrip(".")
    return given.endswith(wanted[1:]) if wanted.startswith("*.") else given == wanted
