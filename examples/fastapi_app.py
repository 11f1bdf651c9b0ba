"""A web service that launches jobs and streams their progress to browsers, as server-sent events.

No request holds a thread while it waits: `submit_async`, `await job` and `async for` wait in the server's event loop.

Run it with a worker of `examples.celery_app`, with the variables of that module:

    celery -A examples.celery_app worker
    uvicorn examples.fastapi_app:server

    curl -d '["hi there you", "there you are"]' -H 'Content-Type: application/json' localhost:8000/jobs
    curl localhost:8000/jobs/<id>/progress
    curl localhost:8000/jobs/<id>
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

import fanout

from .celery_app import app
from .word_count import WordCounterTask

server = FastAPI()


@server.post("/jobs", status_code=202)
async def launch(documents: list[str]) -> dict[str, str]:
    """Launch a word count, and return the id of its job."""
    job = await WordCounterTask.submit_async({"documents": documents}, app=app)
    return {"id": job.id}


@server.get("/jobs/{job_id}/progress")
async def progress(job_id: str) -> StreamingResponse:
    """Stream an event for each change of the progress. The last one has the state in which the job ended.

    A client that goes away ends the stream, and leaves the job.
    """
    job = fanout.attach(job_id, app=app)
    return StreamingResponse(_events(job), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(job: fanout.Job) -> AsyncIterator[str]:
    try:
        async for seen in job.watch():
            event = {"state": seen.state, "done": seen.items_done, "items": seen.items, "failed": seen.items_failed}
            yield f"data: {json.dumps(event)}\n\n"
    except fanout.JobNotFound as error:
        yield f"event: failure\ndata: {json.dumps(str(error))}\n\n"


@server.get("/jobs/{job_id}")
async def value(job_id: str) -> Any:
    """Wait for the end of a job, and return its value."""
    try:
        return await fanout.attach(job_id, app=app)
    except fanout.JobNotFound as error:
        raise HTTPException(404, str(error)) from error
    except fanout.JobFailed as error:
        raise HTTPException(500, error.reason) from error
