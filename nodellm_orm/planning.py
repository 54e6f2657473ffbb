"""Planning: what a question may say, and what a turn is asked with once the chat's head is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, get_args

from nodellm_orm.domain.codec import encode_parts
from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.fluent import OPTION_NAMES, Fluent, checked_headers
from nodellm_orm.runtime.attachments import file_list
from nodellm_orm.runtime.options import Options, check_choice, question, stored_schema
from nodellm_orm.runtime.plan import OnLimit, Plan, Planner, UnknownPolicy
from nodellm_orm.runtime.refusals import (
    refuse_key,
    refuse_params,
    refuse_seconds,
    refuse_switch,
    refuse_unknown,
    refuse_word,
)
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.fluent import Behaviour
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.options import Content, Thinks
    from nodellm_orm.runtime.revision import Revision
    from nodellm_orm.runtime.tools import ToolSource


class AskOptions(TypedDict, total=False):
    """What may be said about one question; each overrides the chat's own setting for this turn only."""

    files: object
    """One file or a list of them: bytes, (name, bytes), open files, paths, data: and http URLs, `MediaPart`s."""
    tools: Iterable[ToolSource] | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    thinking: Thinks | None
    temperature: float | None
    max_tokens: int | None
    max_tool_rounds: int | None
    max_cost: Decimal | float | str | None
    history_window: int | Window | None
    timeout: Timeout | float | None
    headers: Mapping[str, str] | None
    params: Mapping[str, object] | None
    idempotency_key: str | None
    wait: float
    on_limit: OnLimit
    abandon_pending: bool


_ASK_NAMES = AskOptions.__optional_keys__ | {"schema"}


class Planning(Fluent):
    """The plans of a chat's turns; `Asking` carries them out."""

    def _question(
        self,
        content: Content,
        schema: object,
        options: AskOptions,
        *,
        stream: bool,
        checkpoint: float | None = None,
        revision: Revision | None = None,
    ) -> Callable[[], Awaitable[Planner]]:
        """Checks a question and its options now; what it gives reads the files, and plans with them."""
        files = file_list(options.get("files"))
        asked = question(content, files=bool(files))
        planner = self._planner(asked, schema, options, stream=stream, checkpoint=checkpoint, revision=revision)

        async def attached() -> Planner:
            parts = await self._host.files.attach(asked, files)
            if not files:
                return planner
            return self._planner(parts, schema, options, stream=stream, checkpoint=checkpoint, revision=revision)

        return attached

    def _planner(
        self,
        parts: tuple[Part, ...],
        schema: object,
        options: AskOptions,
        *,
        stream: bool,
        unknown: UnknownPolicy = "report",
        interrupted: UUID | None = None,
        checkpoint: float | None = None,
        revision: Revision | None = None,
    ) -> Planner:
        """Checks what was given, and makes the plan once the chat's head is known."""
        _check_asked(options)
        if checkpoint is not None and self._behaviour.durability == "turn":
            msg = "checkpoint stores a growing answer as it comes, and durability='turn' stores at the end; choose one"
            raise ConfigurationError(msg)
        chosen = Options(
            schema=schema,
            **{name: value for name, value in options.items() if name in OPTION_NAMES},  # type: ignore[arg-type]
        )
        behaviour = self._behaviour
        timeout, toolbox = _offered(behaviour, options)
        form = None if schema is None else StructuredSchema.of(schema)
        params = {**behaviour.params, **(options.get("params") or {})}
        headers = {**behaviour.headers, **checked_headers(options.get("headers"))}
        key = options.get("idempotency_key")
        request_hash = None if key is None else _request_hash(parts, chosen, form, toolbox, params, revision)

        def plan(head: ChatHead, asked: Settings | None) -> Plan:
            settings = chosen.over(asked or head.settings)
            check_choice(settings.tool_choice, [spec.name for spec in toolbox.specs])
            return Plan(
                model=self._host.models.model(head.provider, head.model, head.api),
                settings=settings,
                toolbox=toolbox,
                hooks=behaviour.hooks,
                worker=self._host.worker,
                lease=behaviour.lease,
                max_takeovers=behaviour.max_takeovers,
                timeout=timeout,
                alternatives=self._host.alternatives(),
                instructions=head.instructions,
                parts=parts,
                revision=revision,
                stream=stream,
                schema=form or _form(behaviour.schema, settings),
                headers=headers,
                params=params,
                idempotency_key=key,
                request_hash=request_hash,
                on_limit=options.get("on_limit", "return"),
                abandon_pending=options.get("abandon_pending", False),
                unknown=unknown,
                interrupted=interrupted,
                durability=behaviour.durability,
                checkpoint=checkpoint,
            )

        plan(self._chat.wanted, None)  # whatever is wrong with the options is said here, before anything begins
        return plan


def _offered(behaviour: Behaviour, options: AskOptions) -> tuple[Timeout, Toolbox]:
    """The limits and the tools of one question: its own, or those of the chat."""
    own_tools, own_timeout = options.get("tools"), options.get("timeout")
    timeout = behaviour.timeout if own_timeout is None else Timeout.of(own_timeout)
    offered = behaviour.toolbox.tools if own_tools is None else own_tools
    changed = own_tools is not None or timeout.tool != behaviour.timeout.tool
    return timeout, Toolbox(offered, timeout=timeout.tool) if changed else behaviour.toolbox


def _check_asked(options: AskOptions) -> None:
    """Refuse what cannot be meant with one question, before anything begins."""
    refuse_unknown(options, _ASK_NAMES)
    refuse_seconds("wait", options.get("wait", 0), zero=True)
    refuse_word("on_limit", options.get("on_limit", "return"), get_args(OnLimit))
    refuse_key("idempotency_key", options.get("idempotency_key"))
    refuse_switch("abandon_pending", options.get("abandon_pending", False))
    if (params := options.get("params")) is not None:
        refuse_params(params)


def _form(known: StructuredSchema | None, settings: Settings) -> StructuredSchema | None:
    """The form of the answer that the settings ask for: with its type, where that is known in this process."""
    if known is not None and known.schema == settings.schema:
        return known
    return stored_schema(settings)


def _request_hash(
    parts: tuple[Part, ...],
    options: Options,
    form: StructuredSchema | None,
    toolbox: Toolbox,
    params: Mapping[str, object],
    revision: Revision | None,
) -> str:
    """Digest of what was asked under an idempotency key."""
    said = {
        name: str(value) for name in sorted(OPTION_NAMES - {"schema"}) if (value := getattr(options, name)) is not None
    }
    asked = {
        "parts": loads(encode_parts(parts)),
        "options": said,
        "schema": form.schema if form is not None else None,
        "tools": [spec.name for spec in toolbox.specs],
        "params": {name: repr(value) for name, value in sorted(params.items())},
        **({} if revision is None else {"revision": revision.digested}),
    }
    return digest_of_text(dumps(asked))
