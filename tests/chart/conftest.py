"""Both versions of Helm. `render/` needs no cluster; `install/` has that of KUBECONFIG to itself."""

from __future__ import annotations

import pytest

from harness.helm import VERSIONS, Helm


@pytest.fixture(scope="session", params=VERSIONS)
def helm(request: pytest.FixtureRequest) -> Helm:
    """Helm 3, then Helm 4."""
    return Helm(request.param)


@pytest.fixture(scope="session")
def helm4() -> Helm:
    """Helm 4, where both would say the same."""
    return Helm("helm4")
