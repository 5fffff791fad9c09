"""The fixture `ros`, for `pytest_plugins`: ros_parts is imported by name, as no plugin may be."""

import pytest
from ros_parts import Ros


@pytest.fixture
def ros():
    """Give a context of its own."""
    parts = Ros()
    yield parts
    parts.close()
