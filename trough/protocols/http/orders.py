"""What a manager's port needs of the part behind it, which carries its orders out."""

from __future__ import annotations

from typing import Any, Protocol


class Manager(Protocol):
    """Carries the orders out; see :class:`trough.sync.MasterSyncController`."""

    @property
    def health(self) -> dict[str, Any]:
        """``ready``: whether it can serve; and what else a load balancer may want to see."""

    async def provision(self, segment: str, schema: str, client: str = "") -> dict[str, Any]: ...

    async def undo_provision(self, segment: str, client: str) -> None: ...

    async def promote(self, segment: str) -> dict[str, Any]: ...

    async def revert(self, segment: str, preview: bool) -> dict[str, Any]: ...

    async def delete(self, segment: str) -> None: ...

    async def status(self) -> dict[str, Any]: ...


class AsideOrders(Protocol):
    """See :class:`trough.worker.aside_files.AsideFiles`."""

    async def list(self) -> list[dict[str, Any]]: ...

    async def compare(self, name: str) -> dict[str, Any]: ...

    async def put_back(self, name: str) -> dict[str, Any]: ...

    async def delete(self, name: str) -> None: ...
