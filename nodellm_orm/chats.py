"""`Chats`: the chats of an application, under one set of options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nodellm_orm.client import create_chat, journal_of, list_chats, load_chat
from nodellm_orm.fluent import OPTION_NAMES
from nodellm_orm.neutral import source_of
from nodellm_orm.opening import names_of
from nodellm_orm.ports.keeping import keeping_of
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.refusals import refuse_owner, refuse_unknown
from nodellm_orm.runtime.tools import collect
from nodellm_orm.search.messages import search_messages
from nodellm_orm.store.records import chosen_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from nodellm_orm.chat import Chat
    from nodellm_orm.client import Database
    from nodellm_orm.domain.found import FoundMessages
    from nodellm_orm.domain.pages import ChatSummary, Page
    from nodellm_orm.llm import LLM
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.runtime.tools import ToolSource


_OPTIONS = ((names_of(create_chat) & names_of(load_chat)) | OPTION_NAMES) - {"owner", "tools"}
"""What may be said once for all chats."""


class Chats:
    """The chats of an application: made once at start-up, used in every request.

    Args:
        session: an `async_sessionmaker` or an `AsyncEngine`.
        llm: the client that answers: made by `create_llm`, or anything with an async ``complete`` (`LLMClient`).
        tools: what the model may call.
        options: what both `create_chat` and `load_chat` take beyond these, but for the owner: ``encryption``,
            ``records``, ``timeout``, ``lease`` and the like. A model, instructions and settings then hold for every
            chat that is loaded, whatever is stored with it.

    Raises:
        ConfigurationError: an option that does not exist, or cannot be meant.

    Example:
        >>> chats = Chats(async_session, llm, tools=[get_weather])
        >>> chat = await chats.load(chat_id, owner=user.id)
    """

    def __init__(
        self, session: Database, llm: LLM | LLMClient, *, tools: Iterable[ToolSource] = (), **options: Any
    ) -> None:
        """Keep the defaults."""
        source = source_of(llm)
        refuse_unknown(options, _OPTIONS)
        chosen_records(options.get("records"), options.get("encryption"))
        keeping_of(options.get("persist"), options.get("redact"))
        self._session = session
        self._llm = cast("LLM | LLMClient", source)  # one for all chats
        self._options = {"tools": collect(tools), **options}

    async def create(self, **options: Any) -> Chat:
        """A new chat; see `create_chat`."""
        return await create_chat(self._session, self._llm, **{**self._options, **options})

    async def load(self, chat_id: UUID | str, *, owner: Owner = None, **options: Any) -> Chat:
        """A stored chat; see `load_chat`."""
        return await load_chat(self._session, self._llm, chat_id, owner=owner, **{**self._options, **options})

    async def list(
        self,
        *,
        owner: Owner = None,
        metadata: Mapping[str, object] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """A page of chats; see `list_chats`."""
        return await list_chats(self._session, owner=owner, metadata=metadata, limit=limit, after=after, **self._kept())

    async def search(self, text: str, *, owner: Owner = None, **options: Any) -> FoundMessages:
        """Messages with these words; see `search_messages`."""
        return await search_messages(self._session, text, owner=owner, **self._kept(), **options)

    async def delete(self, chat_id: UUID | str, *, owner: Owner = None) -> bool:
        """Delete a chat without loading it; see `Chat.delete`.

        Args:
            chat_id: the chat's id, or its text.
            owner: must equal the stored one; omitted means a chat without owner, `ANY_OWNER` means anybody's.

        Returns:
            Whether there was something to delete: also false for another owner's chat.

        Raises:
            ChatError: rows of your own tables refer to the chat; it is as it was.
        """
        refuse_owner(owner, anybody=ANY_OWNER)
        key = chat_id_of(chat_id)
        journal = journal_of(self._session, self._options.get("records"))
        await journal.settle()
        return await journal.delete(key, owner)

    def _kept(self) -> dict[str, Any]:
        """What of the options says how chats are stored."""
        return {name: self._options[name] for name in ("records", "encryption") if name in self._options}
