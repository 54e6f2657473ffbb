"""Messages and the ledger as Parquet, for analysis: one file a table, written a row group at a time."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Boolean, Integer

from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.store.escaping import escape
from nodellm_orm.store.types import Count, Money, UtcDateTime
from nodellm_orm.transfer.files import unwritable
from nodellm_orm.transfer.pages import Pages, chat_rows
from nodellm_orm.transfer.reports import ExportReport
from nodellm_orm.transfer.rows import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from sqlalchemy import Column

    from nodellm_orm.transfer.exporting import Export
    from nodellm_orm.transfer.layout import TableLayout

MESSAGES: Final = "messages.parquet"
LEDGER: Final = "ledger.parquet"
_GROUP: Final = 5000
"""Rows of a row group."""
_WEIGHT: Final = 1 << 24
"""Characters of one, beyond which it ends early."""


async def write_tables(export: Export, folder: object) -> ExportReport:
    """Write both tables into a folder, which is made where it is missing.

    Args:
        export: what is to be exported.
        folder: its path.

    Raises:
        ConfigurationError: that is no folder.
        UnsupportedFeatureError: the extra ``parquet`` is not installed.
        StorageError: the database or a file failed.
    """
    path = _made(folder)
    with ExitStack() as files:
        messages = files.enter_context(_TableFile(path / MESSAGES, export.layout["messages"], owner=True))
        ledger = files.enter_context(_TableFile(path / LEDGER, export.layout["requests"]))
        chats = 0
        async for group in export.groups():
            chats += await _messages(export, list(group), messages)
        await _ledger(export, ledger)
        await asyncio.to_thread(messages.flush)
        await asyncio.to_thread(ledger.flush)
    rows = export.counts.rows
    size = sum((path / name).stat().st_size for name in (MESSAGES, LEDGER))
    return ExportReport(chats=chats, messages=rows["messages"], requests=rows["requests"], size=size)


def _made(folder: object) -> Path:
    if not isinstance(folder, str | os.PathLike):
        msg = f'format="parquet" writes a folder of files; give its path, not {type(folder).__name__}'
        raise ConfigurationError(msg)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f'{str(path)!r} is no folder ({os.strerror(error.errno or 0)}); format="parquet" writes a folder of files'
        raise ConfigurationError(msg) from error
    return path


async def _messages(export: Export, ids: Sequence[UUID], file: _TableFile) -> int:
    """The messages of chats, page by page; says how many chats were there."""
    tables, layout, owner = export.tables, export.layout, export.which.owner
    chats = await export.access.read(lambda c: chat_rows(c, layout["chats"], tables, ids, owner))
    owners = {chat_id: chat["owner"] for chat_id, chat in chats.items()}
    pages = Pages(layout["messages"], tables, owners)
    while not pages.ended:
        page = await export.access.read(pages.read)
        pages.advance(page)
        await asyncio.to_thread(file.put, page, owners)
        export.counts.rows["messages"] += len(page)
    for _ in chats:
        export.counts.seen += 1
        export.counts.tell("chats")
    return len(chats)


async def _ledger(export: Export, file: _TableFile) -> None:
    """The whole ledger of the owner, or the rows of the chats that were named."""
    layout = export.layout["requests"]
    for start in range(0, len(export.ids or ()), PAGE):
        pages = Pages(layout, export.tables, dict.fromkeys((export.ids or [])[start : start + PAGE]))
        while not pages.ended:
            page: Sequence[Mapping[Any, Any]] = await export.access.read(pages.read)
            pages.advance(page)
            await _ledger_page(export, file, page)
    after: UUID | None = None
    while export.ids is None:
        place = after
        page = await export.access.read(
            lambda c: export.which.ledger(c, export.tables, layout.names, place, every=True)  # noqa: B023 — awaited before the next round
        )
        await _ledger_page(export, file, page)
        if len(page) < PAGE:
            return
        after = page[-1]["id"]


async def _ledger_page(export: Export, file: _TableFile, page: Sequence[Mapping[Any, Any]]) -> None:
    await asyncio.to_thread(file.put, page)
    export.counts.rows["requests"] += len(page)
    export.counts.tell("ledger")


class _TableFile:
    """One Parquet file under way.

    Args:
        path: where it will be.
        layout: its columns.
        owner: whether each row is told whose it is.
    """

    def __init__(self, path: Path, layout: TableLayout, *, owner: bool = False) -> None:
        self._arrow = _arrow()
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._layout = layout
        self._writers = {field.name: field.value.write for field in layout.fields if not _native(layout, field.name)}
        self._owner = "owner" if owner else None
        fields = [(field.name, self._kind(layout.table.c[field.name])) for field in layout.fields]
        head = [(self._owner, self._arrow.string())] if self._owner else []
        self._schema = self._arrow.schema([*head, *fields])
        self._waiting: list[dict[str, Any]] = []
        self._weight = 0
        self._writer: Any = None

    def put(self, rows: Sequence[Mapping[Any, Any]], owners: Mapping[UUID, str | None] | None = None) -> None:
        """Write rows, a little later.

        Args:
            rows: values by column, decrypted.
            owners: whose their chats are, where rows do not say.
        """
        for row in rows:
            line = {field.name: self._value(field.name, row[field.name]) for field in self._layout.fields}
            if self._owner and owners is not None:
                owner = owners[row["chat_id"]]
                line[self._owner] = None if owner is None else escape(owner)
            self._waiting.append(line)
            self._weight += sum(len(value) for value in line.values() if isinstance(value, str))
        if len(self._waiting) >= _GROUP or self._weight >= _WEIGHT:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as a row group."""
        rows, self._waiting, self._weight = self._waiting, [], 0
        if rows:
            try:
                self._writer.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema))
            except OSError as error:
                raise unwritable(error) from error

    def _value(self, name: str, value: Any) -> Any:
        """What Arrow has a type for as it is; the rest as text."""
        write = self._writers.get(name)
        return value if value is None or write is None else str(write(value))

    def _kind(self, column: Column[Any]) -> Any:
        arrow = self._arrow
        match column.type:
            case Money():
                return arrow.decimal128(24, 12)
            case UtcDateTime():
                return arrow.timestamp("us", tz="UTC")
            case Boolean():
                return arrow.bool_()
            case Count() | Integer():
                return arrow.int64()
            case _:
                return arrow.string()

    def __enter__(self) -> Self:
        try:
            self._writer = import_module("pyarrow.parquet").ParquetWriter(self._part, self._schema)
        except OSError as error:
            raise unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if error is None:
                self._part.replace(self._path)
        except OSError as failed:
            raise unwritable(failed) from failed
        finally:
            self._part.unlink(missing_ok=True)


def _native(layout: TableLayout, name: str) -> bool:
    """Whether Arrow has a type for a column's values; others are written as text."""
    return isinstance(layout.table.c[name].type, Money | UtcDateTime | Boolean | Count | Integer)


def _arrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as error:
        msg = "format=\"parquet\" needs the package pyarrow; install it: pip install 'nodellm_orm[parquet]'"
        raise UnsupportedFeatureError(msg) from error
