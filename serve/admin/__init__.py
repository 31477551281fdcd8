"""``/v1/admin/…``: reading feedback through, deciding on it, exporting it, and which versions are served.

Every route here takes a key of role admin, also where the server is open to everybody (`serve.access`).
"""

from fastapi import APIRouter

from sawyer.registry import Registry
from sawyer.store import FeedbackStore
from serve.admin import export, feedback, versions
from serve.admin.insight import Insight


def make_router(store: FeedbackStore, registry: Registry | None) -> APIRouter:
    """All admin routes. Without a registry, those about versions answer that there is none."""
    router, insight = APIRouter(prefix="/v1/admin"), Insight(store)
    for part in (feedback.make_router(store, insight), export.make_router(store), versions.make_router(registry)):
        router.include_router(part)
    return router
