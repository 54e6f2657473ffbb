"""Texts by which somebody would try to run something in the inspector, or to make it look like something else."""

from __future__ import annotations

from typing import Final

PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
"""A picture of one black pixel."""


def attacks(canary: str) -> tuple[str, ...]:
    """The texts; whatever runs would ask the canary for something, or rename the page.

    Args:
        canary: address of a server that nobody may ask.
    """
    run = f"fetch('{canary}/ran');document.title='owned'"
    return (
        f"<script>{run}</script>",
        f'"><script src="{canary}/script.js"></script>',
        f'<img src={canary}/img onerror="{run}">',
        f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{run}\"><script>{run}</script></svg>",
        f"[a link](javascript:{run}) ![a picture]({canary}/markdown.png)",
        f'<a href="javascript:{run}" autofocus onfocus="{run}">click</a>',
        f"</textarea></title></style></div></details><script>{run}</script>",
        f"<iframe src='{canary}/frame'></iframe><object data='{canary}/object'></object>",
        f"<meta http-equiv=refresh content='0;url={canary}/refresh'><base href='{canary}/'>",
        f"<link rel=stylesheet href='{canary}/style.css'><style>@import '{canary}/import.css'</style>",
        f"<form action='{canary}/form'><button autofocus>go</button></form>",
        f"{{{{ 7 * 7 }}}} {{% include '/etc/passwd' %}} ${{{run}}} `{run}`",
        "\u202eexe.txt \u2066hidden\u2069 \x1b[2J\x1b]0;owned\x07 \x00 \ud800 \u200b end",
        "&lt;script&gt;already escaped&lt;/script&gt; &#x3c;b&#x3e;",
    )


SVG: Final = "<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='owned'</script></svg>"
HTML: Final = "<!doctype html><script>document.title='owned'</script>"
