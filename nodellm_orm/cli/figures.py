"""Money, counts and times as people read them: the command line's names for `nodellm_orm.domain.figures`."""

from nodellm_orm.domain.figures import NONE, age, count, duration, moment, money

__all__ = ["NONE", "age", "count", "duration", "moment", "money"]
