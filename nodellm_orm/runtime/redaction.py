"""Keeps keys out of errors that were found inside answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.ports.transport import Redactor

if TYPE_CHECKING:
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireResponse


def without_keys(error: ProviderError, response: WireResponse) -> None:
    """Take out what the words of an error repeat of its request; its causes go where they repeat any of it.

    Of a failed request the transport has done so with the whole body; an error inside an answer it has not seen.

    Args:
        error: raised while the answer was read; changed in place.
        response: which answer.
    """
    if not isinstance(response, Redactor):
        return
    error.args = tuple(response.redacted(arg) if isinstance(arg, str) else arg for arg in error.args)
    error.body = response.redacted(error.body) if error.body is not None else None
    link: BaseException | None = error
    while link is not None:
        for cause in (link.__cause__, link.__context__):
            told = f"{cause} {cause.args!r} {vars(cause)!r}" if cause is not None else ""
            if response.redacted(told) != told:
                link.__cause__ = link.__context__ = None
        link = link.__cause__ or link.__context__
