"""The command `nodellm-orm`: talk, list, show, and look after the tables; needs the extra ``cli``."""
