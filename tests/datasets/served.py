"""A server of public files, as bad as a test wants it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Server(ThreadingHTTPServer):
    """Serves one file, others by their names, and notes what was asked for and sent."""

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.most, self.ranges, self.status = body, len(body), True, None
        self.others: dict[str, bytes] = {}
        self.seen: list[tuple[int, str | None, int]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def serve(self, body: bytes) -> None:
        """From here on this file, whole."""
        self.body, self.most = body, len(body)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        body = server.others.get(unquote(self.path.lstrip("/")), server.body)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        status = 206 if asked else 200
        if not server.ranges:
            start, status = 0, 200
        elif asked and start >= len(body):
            start, status = len(body), 416
        rest = body[start:]
        sent = rest[: server.most]
        self.send_response(server.status or status)
        self.send_header("Content-Length", str(len(rest)))
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(body)}")
        self.end_headers()
        self.wfile.write(sent)
        server.seen.append((status, asked, len(sent)))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    """The server, answering in a thread of its own."""
    with Server(body) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
