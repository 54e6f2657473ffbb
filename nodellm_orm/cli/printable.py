"""Harmless text: the command line's names for `nodellm_orm.domain.printable`."""

from nodellm_orm.domain.printable import one_line, printable

__all__ = ["one_line", "printable"]
