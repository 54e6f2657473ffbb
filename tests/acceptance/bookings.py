"""A host's own table beside the chats, for tools that write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 — SQLAlchemy reads it

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nodellm_orm import ToolContext, tool
from nodellm_orm.models import ChatRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.runtime.tools import Tool


class HostBase(DeclarativeBase):
    """A host's own tables."""


class Booking(HostBase):
    """A row of the host that belongs to a chat."""

    __tablename__ = "host_bookings"
    id: Mapped[int] = mapped_column(primary_key=True)
    chat_id: Mapped[UUID] = mapped_column(ForeignKey(ChatRecord.__table__.c.id))
    seat: Mapped[str] = mapped_column(String(40))


class Seat(HostBase):
    """A row that there is only once."""

    __tablename__ = "host_seats"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    taken: Mapped[int] = mapped_column(default=0)


def booking(reach: Callable[[str, int], None] | None = None, *, idempotent: bool) -> Tool:
    """A tool that writes to nothing but its own session.

    Args:
        reach: told of the places that it passes; the third effect of a process that has two other tools.
        idempotent: whether it may run again when nobody knows what came of it.
    """

    @tool(idempotent=idempotent)
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        if reach is not None:
            reach("before effect", 3)
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.commit()
        if reach is not None:
            reach("after effect", 3)
        return "booked"

    return book


async def booked(engine: AsyncEngine) -> list[str]:
    """The seats that are booked, each as often as it is."""
    async with AsyncSession(engine) as session:
        return sorted((await session.scalars(select(Booking.seat))).all())
