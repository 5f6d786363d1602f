"""A server of the files of a folder, which counts requests and fails where it is told to."""

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; counts what is asked for, and answers `failing` paths by a status."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []
    failing: dict[str, int] = {}
    ranges = True

    def do_GET(self) -> None:
        self.asked.append(self.path)
        for end, status in self.failing.items():
            if self.path.endswith(end):
                if status == 0:  # The connection is lost in the middle of the answer.
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"x")
                    self.close_connection = True
                else:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                return
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if self.ranges and part:
            body = Path(self.translate_path(self.path)).read_bytes()
            first, last = part.groups()
            body = body[int(first) : int(last) + 1] if first else body[-int(last) :]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        super().do_GET()

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Within it the folder is served at the address."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
