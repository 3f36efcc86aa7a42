"""Routes of the *Weights* panel, below ``/camouflage/weights``: small JSON from ComfyUI's own page, and nothing else.

No request names a path; what it can choose stands in the registry.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import CamouflageError
from ..provision.plan import ALL, AtWork
from ..provision.state import PIPELINES
from .messages import server
from .weights_service import WeightsService

if TYPE_CHECKING:
    from aiohttp import web

PREFIX = "/camouflage/weights"
EVENT = "camouflage.weights"
LONGEST = 4096  # bytes of a body
WORDS = {list: "a list", bool: "true or false", str: "text"}


class Refused(CamouflageError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def register() -> None:
    """Adds the routes to the server of this process, if there is one and they are not there yet."""
    running = server()
    if running is None or any(getattr(route, "path", None) == PREFIX for route in running.routes):
        return
    from aiohttp import web

    listeners = Listeners(running)
    service = WeightsService(listeners.send)

    async def facts(request: web.Request) -> dict[str, Any]:
        if client := choices(dict(request.query), client=str).get("client"):
            listeners.add(client)
        return await asyncio.to_thread(service.facts)

    async def get(request: web.Request) -> dict[str, Any]:
        order = choices(await body_of(request), pipelines=list, commercial_safe=bool, replace_damaged=bool)
        if not order.get("pipelines"):
            raise Refused(400, f"'pipelines' must name what to download: {', '.join((*PIPELINES, ALL))}.")
        await asyncio.to_thread(lambda: service.get(**order))
        return service.progress()

    async def verify(request: web.Request) -> dict[str, Any]:
        order = choices(await body_of(request), pipelines=list, commercial_safe=bool)
        await asyncio.to_thread(lambda: service.verify(**order))
        return service.progress()

    async def stop(request: web.Request) -> dict[str, Any]:
        choices(await body_of(request))
        service.stop()
        return service.progress()

    async def nothing(request: web.Request) -> dict[str, Any]:
        raise Refused(404, "There is no such route.")

    answered = answering(web.json_response)
    running.routes.get(PREFIX)(answered(facts))
    for name, handler in {"get": get, "verify": verify, "stop": stop}.items():
        running.routes.post(f"{PREFIX}/{name}")(answered(handler))
    running.routes.route("*", PREFIX + "/{rest:.*}")(answered(nothing))


class Listeners:
    """The pages that have asked for facts: they alone hear of progress.

    A page that is loaded again keeps its name, but not its socket, and a frontend takes a message that nobody waits for
    yet as an error.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._sockets: dict[str, Any] = {}

    def add(self, client: str) -> None:
        """Tells a page from now on; one that the server does not know is passed over."""
        if (socket := self._server.sockets.get(client)) is not None:
            self._sockets[client] = socket

    def send(self, facts: dict[str, Any]) -> None:
        """Tells all that still listen."""
        for client, socket in list(self._sockets.items()):
            if self._server.sockets.get(client) is socket:
                self._server.send_sync(EVENT, facts, client)


Handler = Callable[["web.Request"], Awaitable["dict[str, Any]"]]


def answering(respond: Callable[..., web.Response]) -> Callable[[Handler], Callable[..., Awaitable[web.Response]]]:
    """What turns a function of a request into a route: other pages are refused, and refusals are sentences."""
    def wrap(handler: Handler) -> Callable[..., Awaitable[web.Response]]:
        async def route(request: web.Request) -> web.Response:
            try:
                demand_own_page(request.headers)
                return respond(await handler(request), headers={"Cache-Control": "no-store"})
            except CamouflageError as error:
                status = error.status if isinstance(error, Refused) else 409 if isinstance(error, AtWork) else 400
                return respond({"error": str(error)}, status=status)
        return route
    return wrap


def demand_own_page(headers: Mapping[str, str]) -> None:
    """Raises Refused for a request that a browser sends for a page of somebody else."""
    origin = headers.get("Origin")
    if headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") or (
            origin is not None and not same_place(origin, headers.get("Host", ""))):
        raise Refused(403, "Only ComfyUI's own page may ask for this.")


def same_place(origin: str, host: str) -> bool:
    """Whether the page of an ``Origin`` comes from the ``Host`` that is asked."""
    try:
        there = urlsplit(origin)
        here = urlsplit(f"{there.scheme}://{host}")
        usual = {"http": 80, "https": 443}.get(there.scheme)
        return bool(usual and there.hostname) and (there.hostname, there.port or usual) == (
            here.hostname, here.port or usual)
    except ValueError:
        return False


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refused for anything else."""
    if request.content_type != "application/json":
        raise Refused(415, f"The content type must be application/json, not {request.content_type}.")
    content = b""
    if (request.content_length or 0) <= LONGEST:
        while len(content) <= LONGEST and (block := await request.content.read(LONGEST + 1)):
            content += block
    if len(content) > LONGEST or (request.content_length or 0) > LONGEST:
        raise Refused(413, f"The body must have at most {LONGEST} bytes.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400, "The body must be JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, f"The body must be a JSON object, not {type(body).__name__}.")
    return body


def choices(body: dict[str, Any], **kinds: type) -> dict[str, Any]:
    """What a body chooses. Raises Refused for keys, kinds and names that are not known."""
    if unknown := sorted(set(body) - set(kinds)):
        raise Refused(400, f"{', '.join(unknown)[:100]}: not known here. Known: {', '.join(kinds) or 'nothing'}.")
    for key, value in body.items():
        if not isinstance(value, kinds[key]):
            raise Refused(400, f"'{key}' must be {WORDS[kinds[key]]}.")
    for name in body.get("pipelines", ()):
        if not isinstance(name, str) or name not in (*PIPELINES, ALL):
            raise Refused(400, f"There is no pipeline {str(name)[:100]!r}. Known: {', '.join((*PIPELINES, ALL))}.")
    return body
