"""The tables of ``docs/providers.md``, made from the code: run this module to write them anew.

What a cell says has been tried: a request with the feature in it was rendered, or refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import MEDIA_KINDS, MediaPart, TextPart
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.ports.wire import Embedder, ModelLister, ModelRequest, TokenCounter
from nodellm_orm.providers.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nodellm_orm.domain.parts import MediaKind
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.providers.row import Dialect, ProviderRow

PAGE: Final = Path(__file__).parents[2] / "docs" / "providers.md"
_SCHEMA: Final = (
    '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
)
_TOOLS: Final = (ToolSpec(name="marker_tool", description="Marks.", parameters=_SCHEMA),)
_TYPES: Final[dict[MediaKind, str]] = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "document": "application/pdf",
    "text": "text/plain",
}
_OURS: Final = Registry()
"""The providers of the package; a program may have registered others."""
_YES: Final = "yes"
_NO: Final = "-"
_WORDS: Final = "in words"


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider in one of its wire formats, with its default model."""

    row: ProviderRow
    dialect: Dialect

    @property
    def name(self) -> str:
        """How the tables call it."""
        several = len(self.row.dialects) > 1
        return f"{self.row.name} ({self.dialect.alias or self.dialect.wire.name})" if several else self.row.name

    @property
    def profile(self) -> ModelProfile:
        """Of the default model; of an unknown one where there is none."""
        return self.dialect.profiles.find(self.row.default_model or "")

    def body(self, *parts: TextPart | MediaPart, settings: Settings | None = None, tools: bool = False) -> bytes | None:
        """What would be sent; ``None`` when it is refused."""
        request = self.request(*parts, settings=settings, tools=tools)
        try:
            return self.dialect.wire.render(request).body
        except UnsupportedFeatureError:
            return None

    def request(self, *parts: TextPart | MediaPart, settings: Settings | None, tools: bool) -> ModelRequest:
        """A question with a feature in it."""
        wire = self.dialect.wire.name
        return ModelRequest(
            target=Origin(provider=self.row.name, api=wire, endpoint="https://p.example", model="some-model"),
            messages=(Message(role="user", parts=parts or (TextPart(text="Hi"),)),),
            settings=settings or Settings(),
            profile=self.profile,
            tools=_TOOLS if tools else (),
        )

    def drops(self, setting: str, settings: Settings) -> bool:
        """Whether a setting is left out of a request with tools in it."""
        return setting in self.dialect.wire.dropped(self.request(settings=settings, tools=True))


def offers() -> list[Offer]:
    """Every provider of the package in every format it speaks, in the order of names."""
    return [Offer(row, dialect) for name in _OURS.names for row in (_OURS.find(name),) for dialect in row.dialects]


def abilities(offer: Offer) -> dict[str, str]:
    """What a provider's default model can do in a chat, by column."""
    carried: dict[str, str] = {kind: _carries(offer, kind) for kind in MEDIA_KINDS}
    return {
        "tools": _tools(offer),
        "forced tool": _yes(not offer.drops("tool_choice", Settings(tool_choice="marker_tool"))),
        "parallel off": _yes(not offer.drops("parallel_tool_calls", Settings(parallel_tool_calls=False))),
        "structured": _structured(offer),
        "thinking": _NO if offer.drops("thinking", Settings(thinking=ThinkingConfig(effort="high"))) else _YES,
        **carried,
        "cache points": _yes(offer.body(settings=Settings(cache=True)) != offer.body()),
        "embeddings": _yes(offer.row.embeds and isinstance(offer.dialect.wire, Embedder)),
        "counts tokens": _yes(isinstance(offer.dialect.wire, TokenCounter)),
        "lists models": _yes(isinstance(offer.dialect.wire, ModelLister)),
    }


def _tools(offer: Offer) -> str:
    if offer.profile.tools == "prompted":
        return _WORDS
    body = offer.body(tools=True)
    return _yes(body is not None and b"marker_tool" in body)


def _structured(offer: Offer) -> str:
    body = offer.body(settings=Settings(schema=_SCHEMA))
    if body is None:
        return _NO
    return _WORDS if b"fits this JSON Schema" in body else _YES


def _carries(offer: Offer, kind: MediaKind) -> str:
    part = MediaPart(media=kind, media_type=_TYPES[kind], sha256="0" * 64, data=b"content", name="file")
    return _yes(offer.body(part, TextPart(text="?")) is not None)


def _yes(able: bool) -> str:  # noqa: FBT001 — the value of a cell
    return _YES if able else _NO


def addresses() -> str:
    """Where each provider is, which key it takes, and what is asked when nothing is named."""
    rows = []
    for name in _OURS.names:
        row = _OURS.find(name)
        keys = " or ".join(f"`{rule.env}`" for rule in row.keys if rule.env) or _NO
        formats = ", ".join(f"`{dialect.alias or dialect.wire.name}`" for dialect in row.dialects)
        options = ", ".join(f"`{option}`" for option in sorted(row.option_names)) or _NO
        rows.append(
            [
                f"`{name}`",
                keys if row.key_required else f"{keys} (not required)" if keys != _NO else "none needed",
                f"`{row.base_url_env}`" if row.base_url_env else _NO,
                f"`{row.default_model}`" if row.default_model else _NO,
                formats,
                options,
            ]
        )
    return _table(["provider", "key", "address", "default model", "`api=`", "options"], rows)


def matrix() -> str:
    """What each of them can do."""
    found = [(offer, abilities(offer)) for offer in offers()]
    columns = list(found[0][1])
    return _table(["provider", *columns], [[offer.name, *able.values()] for offer, able in found])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def written(page: str) -> str:
    """A page with its tables made anew.

    Args:
        page: text with places for tables, each between ``<!-- table: name -->`` and ``<!-- end -->``.
    """
    for name, table in {"addresses": addresses(), "matrix": matrix()}.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = place.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)  # type: ignore[misc]
        if count != 1:
            message = f"the page has {count} places for the table {name}"
            raise ValueError(message)
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    print(json.dumps({offer.name: abilities(offer) for offer in offers()}, indent=1))  # noqa: T201 — a program
