"""Base URLs, checked before a key is sent to them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.address import parse_address

if TYPE_CHECKING:
    from nodellm_orm.transport.address import Address


def address_of(text: str, *, source: str) -> Address:
    """A base URL, taken apart.

    Args:
        text: as given; a query is allowed and goes along with every request, unseen.
        source: what the user calls it, for the message: ``base_url`` or the name of an environment variable.

    Raises:
        ConfigurationError: it is not an http or https URL, or carries a user name, a password or a fragment.
    """
    if any(character.isspace() or not character.isprintable() for character in text.strip()):
        msg = f"{source} contains white space or a control character; give one URL without any"
        raise ConfigurationError(msg)
    try:
        url = urlsplit(text.strip())
        sound = bool(url.scheme.lower() in {"http", "https"} and url.hostname and url.port != 0)
    except ValueError:
        sound, url = False, urlsplit("")
    if not sound:
        msg = f"{source} is not an http or https URL with a host; give one like https://host/v1"
        raise ConfigurationError(msg)
    if url.username is not None or url.password is not None:
        msg = f"{source} contains a user name or password; leave it out and give the key as api_key"
        raise ConfigurationError(msg)
    if url.fragment:
        msg = f"{source} contains a fragment; end it before the #"
        raise ConfigurationError(msg)
    return parse_address(text, {})
