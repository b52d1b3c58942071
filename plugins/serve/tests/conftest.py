"""A server in a separate process, for the test files that request it."""

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

KEPT = Path(__file__).parents[3] / "tests" / "compatibility" / "0.1"


@dataclass
class Serving:
    """A running server, and the folder that it writes to."""

    folder: Path
    address: str
    process: subprocess.Popen

    @property
    def port(self) -> int:
        return urlsplit(self.address).port

    @property
    def token(self) -> str:
        return urlsplit(self.address).path.strip("/")

    @property
    def json(self) -> dict:
        return json.loads((self.folder / "corrected.json").read_text())

    def ask(self, path, method="GET", body=None, headers=(), token=None):
        """Status, and the body of a response (bytes), of a path behind the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        whole = f"/{self.token if token is None else token}/{path}"
        try:
            connection.request(method, whole, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def give(self, path, *arguments, **options):
        status, body = self.ask(path, *arguments, **options)
        assert status < 300, body
        return json.loads(body)

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.close()

    def close(self) -> None:
        self.process.wait(20)
        self.process.stdout.close()


def serve(folder, task="landmarks", *options) -> Serving:
    model = KEPT / task / "model.safetensors"
    command = [sys.executable, "-m", "lannunet_core", "serve", str(model), *map(str, options)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "LOGNAME": "anna"},
    )
    line = process.stdout.readline()
    found = re.match(r"open (http://127\.0\.0\.1:\d+/\S+)/ ", line)
    assert found, (line, process.wait(20))
    return Serving(folder, found[1], process)


@pytest.fixture(scope="session")
def picture():
    """`draw_picture`."""
    return draw_picture


@pytest.fixture(scope="session")
def kept():
    """The folder of a model of an earlier version, by task, with an image and what is found in it."""
    return lambda task: KEPT / task


def draw_picture(path, seed) -> Path:
    """An image like that of the kept model, of noise of its own."""
    pixels = np.asarray(Image.open(KEPT / "landmarks" / "image.png")).astype(int)
    noise = np.random.default_rng(seed).integers(-3, 4, pixels.shape)
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Serves a model of landmarks, with two images in its queue."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "queue").mkdir()
    for number in range(2):
        draw_picture(folder / "queue" / f"q{number}.png", number)
    serving = serve(folder, "landmarks", "--queue", folder / "queue", "--by", "anna")
    yield serving
    serving.end()


@pytest.fixture
def call():
    """Calls an application in this process: method, path behind the token, body; status and body."""

    def call(app, method, path, *parts, **headers):
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        sent = []

        async def receive():
            return waiting.pop(0)

        async def send(message):
            sent.append(message)

        path, _, query = path.partition("?")
        given = [
            (b"host", b"127.0.0.1:80"),
            *((key.encode(), value.encode()) for key, value in headers.items()),
        ]
        scope = {"type": "http", "method": method, "path": f"/{app.token}/{path}", "headers": given}
        asyncio.run(app({**scope, "query_string": query.encode()}, receive, send))
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], body, len(waiting)

    return call


@pytest.fixture
def own_server(tmp_path):
    """Start separate servers for a test."""
    started = []

    def start(*options, task="landmarks"):
        started.append(serve(tmp_path, task, *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
        one.close()


@pytest.fixture
def image(tmp_path):
    return shutil.copy(KEPT / "landmarks" / "image.png", tmp_path / "image.png")
