"""`search_messages`: what was said somewhere, found by its words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, get_args

from nodellm_orm.domain.messages import Role
from nodellm_orm.domain.words import WordQuery
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.moments import moment_of
from nodellm_orm.runtime.refusals import refuse_limit, refuse_owner, refuse_switch, refuse_text, refuse_word
from nodellm_orm.search.cursors import decode_place
from nodellm_orm.search.reading import Search
from nodellm_orm.search.statements import Wanted
from nodellm_orm.store.access import open_access
from nodellm_orm.store.records import chosen_records

if TYPE_CHECKING:
    from typing import TypeAlias
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.domain.found import FoundMessages
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.encryption import Encryption

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""


async def search_messages(
    session: Database,
    text: str,
    *,
    owner: Owner = None,
    limit: int = 20,
    after: str | None = None,
    chat_id: UUID | str | None = None,
    roles: Iterable[Role] | None = None,
    since: datetime | date | None = None,
    until: datetime | date | None = None,
    superseded: bool = False,
    records: Records | None = None,
    encryption: Encryption | None = None,
) -> FoundMessages:
    """A page of the messages that have all the words, those of the newest chat first, in each the newest first.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        text: as people type it: ``words``, ``"words in a row"``, ``beginning*`` and ``-without``; at least one word
            that is to be there. Nothing in it is an error of syntax.
        owner: whose chats; omitted means chats without owner, `ANY_OWNER` means everybody's.
        limit: messages a page; it may have fewer, even none, while its ``next`` says that there is more to read.
        after: the ``next`` of the page before.
        chat_id: only in this chat.
        roles: only of these: ``system``, ``user``, ``assistant``, ``tool``.
        since: only what was stored from this moment on; a date is its first moment in UTC.
        until: only what was stored before it.
        superseded: also messages in whose place others have come.
        records: own records.
        encryption: the keys of encrypted chats; without them encrypted messages are left out, and counted.

    Raises:
        ConfigurationError: there is no word to look for, or an argument that cannot be meant.
        ChatNotFoundError: there is no such chat for this owner.

    Example:
        >>> page = await search_messages(engine, '"event loop" -thread', owner=user.id)
        >>> for found in page:
        ...     print(found.chat_id, found.position, found.excerpt.text)
    """
    query = WordQuery.parse(text)
    refuse_owner(owner, anybody=ANY_OWNER)
    refuse_limit("limit", limit)
    refuse_text("after", after, empty=True)
    refuse_switch("superseded", superseded)
    wanted = Wanted(
        query=query,
        owner=owner,
        limit=limit,
        chat_id=None if chat_id is None else chat_id_of(chat_id),
        roles=_roles(roles),
        since=moment_of("since", since, UTC),
        until=moment_of("until", until, UTC),
        superseded=superseded,
    )
    place = None if after is None else decode_place(after)
    chosen = chosen_records(records, encryption)
    search = Search(chosen, wanted)
    return await open_access(session, chosen).read(lambda connection: search(connection, place))


def _roles(roles: object) -> tuple[str, ...] | None:
    if roles is None:
        return None
    if isinstance(roles, str) or not isinstance(roles, Iterable):
        msg = f"roles is a list such as ['user', 'assistant'], not {roles!r:.80}"
        raise ConfigurationError(msg)
    chosen: dict[str, None] = {}
    for role in roles:
        refuse_word("each of roles", role, get_args(Role))
        chosen[role] = None
    if not chosen:
        msg = "roles names nobody; leave it out, or name one of " + ", ".join(get_args(Role))
        raise ConfigurationError(msg)
    return tuple(chosen)
