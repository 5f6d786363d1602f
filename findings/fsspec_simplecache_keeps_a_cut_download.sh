#!/usr/bin/env bash
# fsspec 2026.9.0, caches of whole files over HTTP (simplecache; filecache does the same):
# - a download that breaks off leaves what came of it in the cache under the final name. The first read
#   raises; each later one returns the short file as if it were whole.
# - a status 500 is raised as FileNotFoundError, which readers of zarr take for an absent chunk of zeros;
#   without the cache the same server gives an error that names the status.
#
# Seen:
#   fsspec 2026.9.0
#   cut download:   ClientPayloadError, then 400 of 1000 bytes
#   status 500:     FileNotFoundError, without the cache ClientResponseError
#
# Fails if that changes. Way round: read with the plain file system, write to another name and rename.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet fsspec==2026.9.0 aiohttp==3.14.5 requests==2.34.2
cd "$room"
venv/bin/python - <<'PY'
import http.server
import threading

import fsspec


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cut = True

    def do_HEAD(self):
        self.answer(0)

    def do_GET(self):
        self.answer(400 if self.cut else 1000)

    def answer(self, count):
        failing = self.path == "/failing"
        self.send_response(500 if failing else 200)
        self.send_header("Content-Length", "0" if failing else "1000")
        self.end_headers()
        if not failing:
            self.wfile.write(b"x" * count)
            self.close_connection = count == 400

    def log_message(self, *words):
        pass


def read(files, name):
    try:
        return f"{len(files.cat_file(url + name))} of 1000 bytes"
    except Exception as error:
        return type(error).__name__


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
print("fsspec", fsspec.__version__)
cached = fsspec.filesystem("simplecache", target_protocol="http", cache_storage="cache")
first = read(cached, "/cut")
Handler.cut = False  # From now on the server sends all.
again = read(cached, "/cut")
print(f"cut download:   {first}, then {again}")
failing, plain = read(cached, "/failing"), read(fsspec.filesystem("http"), "/failing")
print(f"status 500:     {failing}, without the cache {plain}")
assert (first, again) == ("ClientPayloadError", "400 of 1000 bytes"), "this has changed"
assert (failing, plain) == ("FileNotFoundError", "ClientResponseError"), "this has changed"
PY
