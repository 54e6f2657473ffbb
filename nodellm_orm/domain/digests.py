"""How contents and texts are named: by their SHA-256, in hexadecimal."""

from __future__ import annotations

import hashlib

from nodellm_orm.domain.jsontext import encode


def digest_of(data: bytes) -> str:
    """SHA-256 of a content.

    Args:
        data: the content.
    """
    return hashlib.sha256(data).hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text, of whatever characters.

    Args:
        text: the text.
    """
    return digest_of(encode(text))
