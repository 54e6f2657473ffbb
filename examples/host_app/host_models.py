"""The tables of a helpdesk: its users, and chats that belong to them."""

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from nodellm_orm import define_records

PREFIX = "assistant_"


class Base(DeclarativeBase):
    """The helpdesk's own base."""


class User(Base):
    """Somebody who may ask."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    chats: Mapped[list[Any]] = relationship(lambda: ChatRecord, back_populates="user", viewonly=True, lazy="raise")

    @property
    def owner(self) -> str:
        """The owner of this user's chats, in every call of the library."""
        return f"user:{self.id}"


class OwnedChat:
    """What the helpdesk adds to a chat."""

    # RESTRICT: a user whose chats have not been erased cannot be deleted, so that no chat is ever left to nobody.
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    pinned: Mapped[bool] = mapped_column(default=False, server_default="0")

    @declared_attr
    def user(cls) -> Mapped[User]:  # noqa: N805 — SQLAlchemy gives the class
        """Whose it is; load it explicitly."""
        return relationship(User, back_populates="chats", viewonly=True, lazy="raise")


RECORDS = define_records(Base, prefix=PREFIX, chat=OwnedChat)
ChatRecord: Any = RECORDS.chat  # Any: a type checker cannot know what the mixin adds
RequestRecord = RECORDS.request
