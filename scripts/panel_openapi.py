"""Prints the OpenAPI document of the panel's API, without starting anything."""

from __future__ import annotations

import json

from fastapi import FastAPI

from services.dashboard.api.app import ROUTERS


def main() -> None:
    app = FastAPI(title="Mesh panel", version="1")
    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    print(json.dumps(app.openapi(), indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
