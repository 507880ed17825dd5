"""The data gateway: passes each request on to the instance that the request's header names."""

from collections.abc import Mapping

from aiohttp import ClientError, ClientSession, web

from aenv.examples.tau2_rl.service import INSTANCE_ID
from aenv.examples.tau2_rl.service.scheduler import Instance

# bytes of a request
MAX_BODY = 64 * 2**20
# headers of one connection, which are not passed on to the next one
HOP_BY_HOP = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class Gateway:
    """Reaches the instances of a scheduler; `instances` are the scheduler's, by id."""

    def __init__(self, instances: Mapping[str, Instance]):
        self.instances = instances

    def app(self) -> web.Application:
        """Make the web application of the gateway."""
        app = web.Application(client_max_size=MAX_BODY, handler_args={"handler_cancellation": True})
        app.router.add_route("*", "/{path:.*}", self.forward)
        return app

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on to its instance; 404 if there is none, 502 if it does not answer."""
        instance_id = request.headers.get(INSTANCE_ID, "")
        instance = self.instances.get(instance_id)
        if instance is None:
            return _refusal(f"no instance {instance_id!r}", 404)
        if instance.status != "Running" or instance.http is None:
            return _refusal(instance.message or f"{instance_id} is {instance.status}", 502)
        if request.path == "/health":
            # the SDK's own check in an instance asks port 8081, which is this gateway
            return web.json_response({"success": True, "data": {"status": "healthy"}})
        return await _relay(request, instance_id, instance.http)


async def _relay(
    request: web.Request, instance_id: str, session: ClientSession
) -> web.StreamResponse:
    url = f"http://{instance_id}{request.rel_url}"
    headers = _passed_on(request.headers)
    body = await request.read()
    response = None
    try:
        async with session.request(request.method, url, headers=headers, data=body) as answer:
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except (ClientError, RuntimeError) as error:
        if response is None:
            return _refusal(f"{instance_id} does not answer: {error}", 502)
        # a closed connection tells the client that the response is cut off
        if request.transport is not None:
            request.transport.close()
        return response


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}


def _refusal(reason: str, status: int) -> web.Response:
    return web.json_response({"success": False, "error": reason}, status=status)
