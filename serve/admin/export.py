"""What the filter shows, as a file in TRL's formats."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from sawyer.store import FeedbackStore
from sawyer.store.export import export
from sawyer.types import FeedbackFilter


class ExportQuery(FeedbackFilter):
    """The filter, and what to make of the votes it shows."""

    form: Literal["preference", "kto", "sft"] = "preference"
    format: Literal["jsonl", "parquet"] = "jsonl"


def make_router(store: FeedbackStore) -> APIRouter:
    """Route ``export``."""
    router = APIRouter()

    @router.get("/export", summary="Download feedback as training data", response_class=FileResponse)
    async def download(query: Annotated[ExportQuery, Query()]) -> FileResponse:
        folder = Path(tempfile.mkdtemp(prefix="sawyer-export-"))
        file = folder / f"sawyer-{query.form}.{query.format}"
        try:
            await run_in_threadpool(export, store, file, query.form, wanted=query, stays=False)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        kind = "application/jsonl" if query.format == "jsonl" else "application/vnd.apache.parquet"
        gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(file, media_type=kind, filename=file.name, background=gone)

    return router
