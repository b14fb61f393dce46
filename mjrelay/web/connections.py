"""Connections: aiohttp's end of each, made as patient with clients as mjpg-streamer is."""

from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mjrelay.web.requests import Mender

# What is told of aiohttp's reason for refusing a request, in characters: it may quote the request.
_MAX_REASON = 200


class Connection(web.RequestHandler):
    """Reads a client's requests, with their heads mended, and has them answered.

    A client may end its own side behind its requests, as `nc -N` does: it gets its answers all the
    same. If it has left instead, the first bytes that are sent to it tell.

    Attributes:
        has_ended: Whether the client has ended its side.
    """

    __slots__ = ("_mender", "has_ended")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._mender = Mender()
        self.has_ended = False

    def data_received(self, data: bytes) -> None:
        """Hand on what came, with heads mended. aiohttp itself calls this with nothing, too."""
        if not data:
            super().data_received(data)
            return
        for piece in self._mender.feed(data):
            super().data_received(piece)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows it
        """Answer what was asked before the client ended its side. False: close at once."""
        if self._mender.is_inside_a_head:
            self.data_received(b"\n\n")  # whatever was still to come, it will not
        if not self._is_asked or self._awaits_more:
            return False
        self.has_ended = True
        self._end_after_the_last()
        return True

    # These two use private attributes of aiohttp's: it tells in no other way which requests came
    # and are not answered. tests/web/test_connections.py checks that they still mean that.

    @property
    def _is_asked(self) -> bool:
        """Whether a request is not fully answered yet."""
        waits_for_one = self._waiter is not None and not self._waiter.done()
        return self._request_count > 0 and not waits_for_one

    @property
    def _awaits_more(self) -> bool:
        """Whether the last request is not whole: its body has begun, and ended too early."""
        if self._messages:
            return not self._messages[-1][1].is_eof()
        return self._current_request is not None and not self._current_request.content.is_eof()

    def _end_after_the_last(self) -> None:
        if not self._messages:
            self.close()  # when the request that is being answered has its answer

    async def finish_response(self, *args: Any) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        if self.has_ended:
            self._end_after_the_last()
        return await super().finish_response(*args)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that has failed; one that nobody can read, in a sentence."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        why = " ".join(exc.message.partition("\n\n")[0].split())[:_MAX_REASON].rstrip(".:")
        response = web.Response(
            status=status,
            text=f"mjrelay cannot read this request: {why or 'it is not HTTP'}; "
            "one that it can read begins with: GET /?action=stream HTTP/1.0\n",
        )
        response.force_close()
        return response
