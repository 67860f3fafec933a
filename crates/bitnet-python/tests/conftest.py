"""What the tests share: the demo model, open once."""

import pytest

from bitnet_rust import Model


@pytest.fixture(scope="session")
def model() -> Model:
    return Model.demo(threads=2)
