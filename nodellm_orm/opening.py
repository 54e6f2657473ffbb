"""What a chat begins with: its behaviour, its head and its first messages, checked as they are given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace as altered
from typing import TYPE_CHECKING, Any, Final, get_args

from nodellm_orm.domain.media import checked_files
from nodellm_orm.domain.messages import Message, Role
from nodellm_orm.domain.parts import TextPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.windows import sent
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.fluent import Behaviour, checked_headers
from nodellm_orm.ports.states import ChatHead
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.options import Options, check_choice, frozen_metadata
from nodellm_orm.runtime.plan import Durability
from nodellm_orm.runtime.refusals import (
    refuse_count,
    refuse_key,
    refuse_params,
    refuse_seconds,
    refuse_text,
    refuse_word,
)
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.runtime.tools import ToolSource

LEASE: Final = 60.0
"""Seconds after which a silent worker's chat may be taken over, unless said otherwise."""
MAX_TAKEOVERS: Final = 5
"""How often a turn is taken over whose worker has died, unless said otherwise: by then it is the turn that kills it."""


def names_of(function: Callable[..., object]) -> frozenset[str]:
    """The arguments that can be given to a function by name.

    Args:
        function: any.
    """
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def check_names(provider: str | None, *, model: str | None = None, api_key: str | None = None, **words: object) -> None:
    """Refuse what cannot name a provider, a model, a key or an address.

    Args:
        provider: its name.
        model: its name.
        api_key: a key.
        words: other texts by name.

    Raises:
        ConfigurationError: one of them is no text.
    """
    refuse_key("provider", provider)
    refuse_key("model", model)
    if api_key is not None and not isinstance(api_key, str):
        msg = f"api_key is a text, not {type(api_key).__name__}; decode it, or read it from its Secret"
        raise ConfigurationError(msg)
    for name, word in words.items():
        refuse_text(name, word)


def behaviour_of(
    default: Timeout,
    *,
    tools: Iterable[ToolSource],
    timeout: Timeout | float | None,
    headers: Mapping[str, str] | None,
    params: Mapping[str, object] | None,
    options: Mapping[str, Any],
    lease: float = LEASE,
    max_takeovers: int | None = MAX_TAKEOVERS,
    durability: Durability = "step",
) -> tuple[Behaviour, Settings]:
    """What a chat does in this process, and the settings that are stored with it.

    Args:
        default: limits where none are given.
        tools: what the model may call.
        timeout: limits, or seconds in total.
        headers: further headers.
        params: raw members of every request.
        options: settings by name.
        lease: seconds.
        max_takeovers: how often a turn is taken over whose worker died.
        durability: when points are written.

    Raises:
        ConfigurationError: one of them cannot be meant.
    """
    refuse_seconds("lease", lease)
    refuse_count("max_takeovers", max_takeovers)
    refuse_word("durability", durability, get_args(Durability))
    if params is not None:
        refuse_params(params)
    limits = default if timeout is None else Timeout.of(timeout)
    schema = options.get("schema")
    behaviour = Behaviour(
        toolbox=Toolbox(tools, timeout=limits.tool),
        timeout=limits,
        schema=None if schema is None else StructuredSchema.of(schema),
        headers=checked_headers(headers),
        params=dict(params or {}),
        lease=lease,
        max_takeovers=max_takeovers,
        durability=durability,
    )
    settings = Options(**options).over(Settings())
    check_choice(settings.tool_choice, [spec.name for spec in behaviour.toolbox.specs])
    return behaviour, settings


def new_head(
    origin: Origin,
    *,
    instructions: str | Sequence[str] | None,
    metadata: Mapping[str, object] | None,
    settings: Settings,
    owner: str | None = None,
    title: str | None = None,
    chat_id: UUID | None = None,
) -> ChatHead:
    """What belongs to a new chat beside its messages.

    Args:
        origin: the model that answers.
        instructions: a text, or several.
        metadata: the host's own JSON.
        settings: stored with the chat.
        owner: whose chat it is.
        title: a title for people.
        chat_id: its id; a new one when omitted.

    Raises:
        ConfigurationError: instructions or metadata cannot be meant.
    """
    texts = [instructions] if isinstance(instructions, str) else instructions or []
    if not isinstance(texts, Sequence) or any(not isinstance(text, str) for text in texts):
        msg = "instructions are a text, or a list of texts"
        raise ConfigurationError(msg)
    return ChatHead(
        id=chat_id or new_id(),
        owner=owner,
        title=title,
        provider=origin.provider,
        model=origin.model,
        api=origin.api,
        instructions=tuple(texts),
        settings=settings,
        metadata=frozen_metadata(metadata),
    )


def opening_messages(messages: Iterable[Message | Mapping[str, str]]) -> list[Message]:
    """Messages that a new chat begins with; where there is a summary among them, it stands in place of what it covers.

    Args:
        messages: `Message` values, or dicts with ``role`` and ``content``.

    Raises:
        ConfigurationError: for anything else, for a message that says nothing, and where calls and results do not
            belong together: no provider would take such a history.
        AttachmentError: a file in them has no content.
    """
    whole = list(messages)
    if all(isinstance(message, Message) for message in whole):
        whole = list(sent([message for message in whole if isinstance(message, Message)]))
    opened = [_opening(position, given) for position, given in enumerate(whole)]
    waiting: set[str] = set()
    for position, message in enumerate(opened):
        answered = {result.call_id for result in message.tool_results}
        if waiting and not answered:
            msg = f"message {position} comes before the results of {', '.join(sorted(waiting))}; put these first"
            raise ConfigurationError(msg)
        if answered - waiting:
            unasked = ", ".join(sorted(answered - waiting))
            msg = f"message {position} answers {unasked}, a call that was not made; leave it out"
            raise ConfigurationError(msg)
        waiting -= answered
        if message.status == "complete":
            waiting |= {call.call_id for call in message.tool_calls}
    if waiting:
        msg = (
            f"calls without results: {', '.join(sorted(waiting))}; add tool messages with them, or leave the calls out"
        )
        raise ConfigurationError(msg)
    return opened


def _opening(position: int, given: object) -> Message:
    if isinstance(given, Message):
        message = given
    elif isinstance(given, Mapping) and given.keys() == {"role", "content"} and isinstance(given["content"], str):
        role: Any = given["role"]
        message = Message(role=role, parts=(TextPart(text=given["content"]),) if given["content"].strip() else ())
    else:
        msg = 'messages are Message values or {"role": …, "content": …} dicts whose content is a text'
        raise ConfigurationError(msg)
    if message.role not in get_args(Role):
        msg = f"a message's role is system, user, assistant or tool, not {message.role!r}"
        raise ConfigurationError(msg)
    if not message.parts:
        msg = f"message {position} is empty; leave it out"
        raise ConfigurationError(msg)
    if (message.role == "tool") != bool(message.tool_results):
        msg = (
            f"message {position}: results of tools, and nothing else, have the role tool; give Message values for them"
        )
        raise ConfigurationError(msg)
    return altered(message, position=position, parts=checked_files(message.parts))
