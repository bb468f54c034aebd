"""Lets pytest run SQLAlchemy's own suite of dialects; tests/cluster/test_sqlalchemy.py does.

It is a plugin and no conftest.py, which pytest would load for all other tests, too.
"""

from __future__ import annotations

import pytest
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: F403
from sqlalchemy.testing.plugin.pytestplugin import (
    pytest_collection_modifyitems as _collection_modifyitems,
)

_SQLITE = "SQLite fails it in the same way, by SQLAlchemy's own driver"

#: Tests that are left out, and why. What a requirement says is in requirements.py.
EXCLUDED = {
    "ComponentReflectionTest.test_get_foreign_keys": _SQLITE,
    "ComponentReflectionTest.test_get_multi_foreign_keys": _SQLITE,
    "ComponentReflectionTest.test_get_multi_unique_constraints": _SQLITE,
    "ComponentReflectionTest.test_get_view_names": _SQLITE,
    "ComponentReflectionTest.test_metadata": _SQLITE,
    "CompositeKeyReflectionTest.test_fk_column_order": _SQLITE,
    "LongNameBlowoutTest.test_long_convention_name": "SQLite's names have no greatest length",
}


def pytest_collection_modifyitems(session, config, items):
    """Skip what is excluded."""
    _collection_modifyitems(session, config, items)
    for item in items:
        test = f"{item.cls.__name__.partition('_')[0]}.{item.originalname}"
        if test in EXCLUDED:
            item.add_marker(pytest.mark.skip(reason=EXCLUDED[test]))
