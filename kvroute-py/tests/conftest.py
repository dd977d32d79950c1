"""What the tests share: where the repository is, and small routers."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvroute
from kvroute import PodId, Router

REPOSITORY = Path(__file__).parents[2]
TESTDATA = REPOSITORY / "testdata"


@pytest.fixture
def domain() -> kvroute.CacheDomain:
    return kvroute.CacheDomain("m", kvroute.BlockHasher.own(4))


@pytest.fixture
def router(domain: kvroute.CacheDomain) -> Router:
    """Two pods, a and b, with blocks of 4 tokens."""
    router = Router()
    for name in ("a", "b"):
        router.add_pod(name, domain=domain)
    return router


@pytest.fixture
def a(router: Router) -> PodId:
    pod = router.pod("a")
    assert pod is not None
    return pod.id
