"""A stored conversation as it is replayed: what was asked, with what, and what was said to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, loads_verbatim
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.domain.windows import is_summary
from nodellm_orm.errors import ChatError
from nodellm_orm.runtime.compaction import OPERATION
from nodellm_orm.store.recordings import read_recording
from nodellm_orm.store.records import chosen_records
from nodellm_orm.upkeep.digests import settings_of, texts_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText, JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.details import CallDetails, MessageDetails, RequestDetails, TurnDetails
    from nodellm_orm.store.encryption import Encryption
    from nodellm_orm.store.recordings import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedText:
    """Instructions, or what was told of a tool, that a turn names by its digest."""

    digest: str
    text: str | None
    """``None``: it is not stored any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWith:
    """What a turn was asked with, as its row says."""

    provider: str | None = None
    api: str | None = None
    model: str | None = None
    settings: Settings = field(default_factory=Settings)
    instructions: tuple[NamedText, ...] = ()
    tools: Mapping[str, NamedText] = field(default_factory=dict)
    until: int | None = None
    """Of a compaction: position of the last message that was summarised."""
    words: str | None = None
    """Of a compaction: what the model was asked with."""
    compacts: bool = False

    @property
    def specs(self) -> tuple[ToolSpec, ...] | None:
        """The tools that were offered; ``None`` when what was told of one is not stored any more."""
        specs: list[ToolSpec] = []
        for name, named in self.tools.items():
            spec = None if named.text is None else spec_of(name, named.text)
            if spec is None:
                return None
            specs.append(spec)
        return tuple(specs)


def spec_of(name: str, text: JsonText) -> ToolSpec | None:
    """A tool from what was told of it; ``None`` when it says something else.

    Args:
        name: the tool's.
        text: see `runtime.identity.told_of`; of earlier versions, the schema alone.
    """
    try:
        told = loads_verbatim(text)
    except JsonTextError:
        return None
    members = dict(told) if isinstance(told, Pairs) else {}
    description, parameters = members.get("description"), members.get("parameters")
    if isinstance(description, str) and isinstance(parameters, Pairs):
        return ToolSpec(name=name, description=description, parameters=dumps(parameters))
    return ToolSpec(name=name, description="", parameters=text)


def asked_with(turn: TurnDetails | None, texts: Mapping[str, str]) -> AskedWith:
    """What a turn was asked with.

    Args:
        turn: the turn; ``None``: nothing is known.
        texts: by digest.
    """
    stored = settings_of(turn.settings) if turn is not None else None
    if stored is None:
        return AskedWith()
    until, words = stored.get("until"), stored.get("words")
    return AskedWith(
        provider=_word(stored.get("provider")),
        api=_word(stored.get("api")),
        model=_word(stored.get("model")),
        settings=Settings.from_json(dumps(stored.get("options") or {})),
        instructions=tuple(_named(one, texts) for one in _list(stored.get("instructions"))),
        tools={name: _named(one, texts) for name, one in _members(stored.get("tools")).items()},
        until=until if isinstance(until, int) else None,
        words=_word(words),
        compacts=stored.get("operation") == OPERATION,
    )


def _word(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _members(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _named(value: JsonValue, texts: Mapping[str, str]) -> NamedText:
    return NamedText(digest=str(value), text=texts.get(str(value)))


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A message that no turn asked or answered: added from elsewhere, an opening message, or copied into a branch."""

    id: UUID
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question and all that came of it, as the conversation has it now."""

    id: UUID
    """Of the question's message."""
    question: Message
    said: tuple[MessageDetails, ...] = ()
    """Answers and results in order, without superseded ones."""
    turn: TurnDetails | None = None
    """The turn that answered it last."""
    asked: AskedWith = field(default_factory=AskedWith)
    requests: tuple[RequestDetails, ...] = ()
    """All attempts of that turn."""

    @property
    def calls(self) -> tuple[CallDetails, ...]:
        """The calls of the answers, in order."""
        return tuple(call for message in self.said for call in message.calls)

    @property
    def unanswered(self) -> RequestDetails | None:
        """The attempt that the turn ended with, if no message came of it."""
        last = self.requests[-1] if self.requests else None
        return last if last is not None and last.message_id is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A summary that was asked for, to stand for what came before."""

    summary: MessageDetails
    turn: TurnDetails | None = None
    asked: AskedWith = field(default_factory=AskedWith)
    requests: tuple[RequestDetails, ...] = ()


Step: TypeAlias = Copied | Exchange | Compacted


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A chat as it is replayed."""

    head: ChatHead
    steps: tuple[Step, ...]
    turns: tuple[TurnDetails, ...]
    texts: Mapping[str, str]

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The questions, in order."""
        return tuple(step for step in self.steps if isinstance(step, Exchange))

    @property
    def opening(self) -> tuple[Copied, ...]:
        """What the chat begins with before its first question."""
        opening: list[Copied] = []
        for step in self.steps:
            if not isinstance(step, Copied):
                break
            opening.append(step)
        return tuple(opening)


async def read_record(
    session: object,
    chat_id: UUID,
    *,
    owner: Owner = None,
    records: Records | None = None,
    encryption: Encryption | None = None,
) -> Record:
    """A stored chat as it is replayed.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        owner: must equal the stored one; `ANY_OWNER` means anybody's.
        records: own records.
        encryption: keys, where the content is encrypted.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
        ChatError: what was said in it was not stored.
    """
    chosen = chosen_records(records, encryption)
    recording = await read_recording(session, chat_id, named=texts_named, owner=owner, records=chosen)
    if not all(message.message.kept for message in recording.details.messages):
        msg = (
            f"what was said in chat {chat_id} was not stored (persist=Persistence(content=False)), so there is nothing "
            "to replay; choose another chat"
        )
        raise ChatError(msg)
    return record_of(recording)


def record_of(recording: Recording) -> Record:
    """The conversation as it stands: superseded messages are left out.

    Args:
        recording: the chat in full.
    """
    details = recording.details
    turns = {turn.id: turn for turn in details.turns}
    requests: dict[UUID, list[RequestDetails]] = {}
    for request in details.requests:
        if request.turn_id is not None:
            requests.setdefault(request.turn_id, []).append(request)
    steps: list[Step] = []
    for group in _groups(message for message in details.messages if message.superseded_at is None):
        turn = _turn_of(group, turns)
        asked = asked_with(turn, recording.texts)
        made = tuple(requests.get(turn.id, ())) if turn is not None else ()
        first, rest = group[0], tuple(group[1:])
        if is_summary(first.message) and turn is not None:
            steps.append(Compacted(summary=first, turn=turn, asked=asked, requests=made))
        elif first.message.role == "user" and turn is not None:
            question = first.message
            steps.append(Exchange(id=first.id, question=question, said=rest, turn=turn, asked=asked, requests=made))
        else:
            steps += [Copied(id=message.id, message=message.message) for message in group]
    return Record(head=details.head, steps=tuple(steps), turns=details.turns, texts=recording.texts)


def _groups(messages: Iterable[MessageDetails]) -> list[list[MessageDetails]]:
    """Questions with what came of them; a summary, and a message that no turn knows, is a group of its own."""
    groups: list[list[MessageDetails]] = []
    for message in messages:
        alone = message.turn_id is None or message.message.role == "user" or is_summary(message.message)
        if alone or not groups or is_summary(groups[-1][0].message):
            groups.append([message])
        else:
            groups[-1].append(message)
    return groups


def _turn_of(group: list[MessageDetails], turns: Mapping[UUID, TurnDetails]) -> TurnDetails | None:
    """The turn that spoke last in a group: a question that ends a branch is answered by a turn that it is not of."""
    spoke = next((message.turn_id for message in reversed(group) if message.turn_id is not None), None)
    return None if spoke is None else turns.get(spoke)
