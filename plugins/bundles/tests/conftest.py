"""A separate cache for the tests, and a file server."""

import http.server
import threading
from dataclasses import dataclass, field

import pytest
from lannunet_bundles import fetch, opening


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LANNUNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "_opened", {})
    monkeypatch.setattr(fetch, "_fetched", {})
    return tmp_path / "cache"


@dataclass
class Server:
    """Files by path. `cut`: after how many bytes the next connections end; `ranges`: what was asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    resumes: bool = True


@pytest.fixture
def server():
    """A server on this machine alone."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            asked = self.headers["Range"]
            if self.path in made.moved:
                self.send_response(302)
                self.send_header("Location", made.moved[self.path])
                self.end_headers()
                return
            if self.path not in made.files:
                self.send_error(404)
                return
            content = made.files[self.path]
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and made.resumes else 0
            if body:
                made.ranges.append(asked)
            if start >= len(content) > 0 and start:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            for key, value in made.headers.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                end = start + made.cut.pop(0) if made.cut else len(content)
                self.wfile.write(content[start:end])

        def do_HEAD(self):
            self.do_GET(body=False)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        made = Server(f"http://127.0.0.1:{serving.server_port}")
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        serving.shutdown()
        thread.join()
