"""SQLAlchemy over Trough: ``create_engine("trough://host:6110/300001")``.

The entry point ``trough`` of ``sqlalchemy.dialects`` is :class:`TroughDialect`.
``docs/drivers.rst`` describes what works. SQLAlchemy's own suite runs in
``tests/cluster/test_sqlalchemy.py``.
"""

from __future__ import annotations

from trough.sqlalchemy.dialect import TroughDialect

__all__ = ["TroughDialect"]
