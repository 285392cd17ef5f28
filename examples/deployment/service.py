"""A service that predicts uploaded photos with an exported model, without PyTorch.

    SERVICE_MODEL=cats.onnx uvicorn service:app --port 8000
    curl -F images=@my_cat.jpg -F images=@another.jpg http://localhost:8000/predict

`SERVICE_THREADS` sets the number of threads, for a container with a CPU limit.
`GET /health` tells whether the service works, and `GET /model` what it predicts, with versions. Requests that arrive
while the network is busy are predicted together, as one batch.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

import sktl
from sktl.exceptions import InvalidImageError
from sktl.runtime import open_model
from sktl.runtime.records import records

LONGEST_NAME = 200


@dataclass(frozen=True)
class Limits:
    """What a client may ask for, as protection against mistakes and abuse.

    Parameters
    ----------
    bytes : int
        Most bytes of a request.
    images : int
        Most images in a request.
    pixels : int
        Most pixels of an image, which bounds the memory that a small file can unpack to.
    seconds : float
        Most time that an upload may take.
    requests : int
        Most requests at the same time. Others are asked to come back later.
    batch : int
        Most images that the network sees at once.
    threads : int or None
        Threads that decode, and threads that compute; None is as many as there are cores. Under a limit of a container,
        which processes do not see as cores, set it to this limit.
    """

    bytes: int = 20 << 20
    images: int = 16
    pixels: int = 30_000_000
    seconds: float = 30.0
    requests: int = 256
    batch: int = 8
    threads: int | None = None


class Batcher:
    """Predict what waits, up to a limit, as one batch. Nobody waits for others to come."""

    def __init__(self, run: Callable[[np.ndarray], list[dict[str, Any]]], size: int):
        self._run = run
        self._size = size
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future[dict[str, Any]]]] = asyncio.Queue()

    async def predict(self, pixels: np.ndarray) -> dict[str, Any]:
        """Return the record of an image, given as pixels of shape (H, W, 3)."""
        answer = asyncio.get_running_loop().create_future()
        await self._waiting.put((pixels, answer))
        return await answer

    async def serve(self) -> None:
        """Predict until the service ends."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[np.ndarray, asyncio.Future[dict[str, Any]]]]) -> None:
        try:
            found = await asyncio.to_thread(self._run, np.stack([pixels for pixels, _ in batch]))
        except Exception as error:  # whatever it is, those who wait must be told
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), record in zip(batch, found, strict=True):
            if not answer.done():  # else the client has gone
                answer.set_result(record)


class Service:
    """A model, the threads that decode images, and the batcher."""

    def __init__(self, model: str, limits: Limits):
        self.limits = limits
        self.model = open_model(model, n_threads=limits.threads)
        self.batcher = Batcher(self._run, limits.batch)
        self.n_requests = 0
        # As many images are decoded at once as there are threads. Others wait as files, not as pixels.
        self._decoders = ThreadPoolExecutor(limits.threads or os.cpu_count())

    def _run(self, pixels: np.ndarray) -> list[dict[str, Any]]:
        return records(self.model.document, self.model.run(pixels))

    def _decode(self, upload: UploadFile) -> np.ndarray:
        return self.model.preprocess([upload.file.read()])[0]

    async def predict(self, upload: UploadFile) -> dict[str, Any] | InvalidImageError:
        """Return the record of an uploaded image, or the error if it cannot be used."""
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._decoders, self._decode, upload)
        except InvalidImageError as error:
            return error
        return {"image": name_of(upload)} | await self.batcher.predict(pixels)


def name_of(upload: UploadFile) -> str:
    """Return the name that the client gave an image, which may be anything."""
    return (upload.filename or "")[:LONGEST_NAME]


async def form_of(request: Request, limits: Limits) -> FormData:
    """Return the uploaded form. A client that sends too much, or takes too long, gets an error."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "Send images as a form, multipart/form-data, such as curl -F images=@cat.jpg does.")
    bounded = Request(request.scope, at_most(request.receive, limits.bytes))
    try:
        async with asyncio.timeout(limits.seconds):
            return await bounded.form(max_files=limits.images, max_fields=limits.images)
    except TimeoutError:
        raise HTTPException(408, f"The upload took more than {limits.seconds:g} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The upload is incomplete.") from None  # which nobody reads


def at_most(receive: Receive, n_bytes: int) -> Receive:
    """Return a function that receives the body of a request until it is too large."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > n_bytes:
            raise HTTPException(413, f"The request has more than {n_bytes:,} bytes.")
        return message

    return bounded


def create_app(model: str, limits: Limits | None = None) -> FastAPI:
    """Return the service of a model."""
    limits = limits or Limits()
    sktl.set_pixel_limit(limits.pixels)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(model, limits)
        app.state.serving = serving = asyncio.create_task(service.batcher.serve())
        yield
        serving.cancel()

    # The pages of documentation load scripts from elsewhere.
    app = FastAPI(title="sktl", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "The service failed. Its log says why."}, 500)

    @app.get("/health")
    async def health() -> JSONResponse:
        is_serving = not app.state.serving.done()
        return JSONResponse({"status": "ok" if is_serving else "stopped"}, 200 if is_serving else 503)

    @app.get("/model")
    async def describe() -> dict[str, Any]:
        document = app.state.service.model.document
        return {
            "predicts": document.kind,
            "names": document.names,
            "precision": document.precision,
            "has_typicality": app.state.service.model.has_typicality,
            "versions": document.versions,
            "card": document.card,
        }

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        service = app.state.service
        if service.n_requests >= limits.requests:
            raise HTTPException(503, "Too many requests at once.", {"Retry-After": "1"})
        service.n_requests += 1
        try:
            return await _predicted(service, request)
        finally:
            service.n_requests -= 1

    return app


async def _predicted(service: Service, request: Request) -> JSONResponse:
    form = await form_of(request, service.limits)
    try:
        uploads = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(400, "The form has no files.")
        found = await asyncio.gather(*map(service.predict, uploads))
    finally:
        await form.close()
    bad = [
        {"image": name_of(upload), "reason": error.failures[0].reason}
        for upload, error in zip(uploads, found, strict=True)
        if isinstance(error, InvalidImageError)
    ]
    if bad:
        return JSONResponse({"detail": "Some images cannot be used.", "images": bad}, 422)
    return JSONResponse({"predictions": found})


def __getattr__(name: str) -> FastAPI:
    """Create `app` when uvicorn asks for it, so that tests can import this file without a model."""
    if name != "app":
        raise AttributeError(name)
    threads = os.environ.get("SERVICE_THREADS")
    return create_app(os.environ["SERVICE_MODEL"], Limits(threads=int(threads) if threads else None))
