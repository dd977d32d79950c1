"""Pods that are not there: HTTP servers on the loopback interface that answer as a real vLLM 0.32 did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

TESTDATA = Path(__file__).parents[3] / "testdata"
ANSWERS = TESTDATA / "pods" / "vllm-connect-0"

T = TypeVar("T")


class FakePod:
    """Answers GET by path; what it was not told is not there."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {
            "/v1/models": (ANSWERS / "models.json").read_bytes(),
            "/version": (ANSWERS / "version.json").read_bytes(),
            "/metrics": (ANSWERS / "metrics.txt").read_bytes(),
        }
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = pod.answers.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def pod() -> Iterator[FakePod]:
    pod = FakePod()
    yield pod
    pod.stop()


def document(*urls: str) -> dict[str, Any]:
    """A fleet that is quick enough for tests."""
    return {
        "router": {"policy": {"preset": "llm-d-demo"}},
        "fleet": {
            "pods": list(urls),
            "learn": {"interval_ms": 200, "timeout_ms": 500, "retry_ms": 50, "max_retry_ms": 200},
            "scrape": {"interval_ms": 50, "timeout_ms": 500},
            "drain_ms": 100,
        },
    }


def until(what: str, find: Callable[[], T]) -> T:
    """Waits until that is something."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited in vain until {what}")
