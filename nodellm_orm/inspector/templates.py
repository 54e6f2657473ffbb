"""The templates: everything that they are given is text, and is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from nodellm_orm.domain.figures import count, duration, moment, money
from nodellm_orm.inspector import wording

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class Templates:
    """Jinja2 with escaping that no template can switch off by accident."""

    def __init__(self) -> None:
        """Load them when they are first used."""
        self._environment = Environment(
            loader=PackageLoader("nodellm_orm.inspector", "markup"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=wording.harmless,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "ago": wording.ago,
            "count": count,
            "cut": wording.cut,
            "duration": duration,
            "exactly": wording.exactly,
            "iso": wording.iso,
            "laid_out": wording.laid_out,
            "moment": moment,
            "money": money,
            "preview": wording.preview,
        }
        self._environment.globals |= {"is_cut": wording.is_cut, "is_long": wording.is_long}

    def response(self, request: Request, name: str, status_code: int = 200, **values: Any) -> Response:
        """A page.

        Args:
            request: says where the inspector is mounted.
            name: of the template.
            status_code: of the response.
            values: what the template shows.
        """
        root: str = request.scope.get("root_path", "")

        def link(*path: object, **query: object) -> str:
            return wording.address(root, *path, **query)

        page = self._environment.get_template(name).render(link=link, **values)
        return HTMLResponse(page, status_code)
