"""Prints the OpenAPI document of the panel's API, without starting anything."""

from __future__ import annotations

import json

from fastapi import FastAPI

from services.dashboard.api import accounts, reads


def main() -> None:
    app = FastAPI(title="Mesh panel", version="1")
    app.include_router(accounts.router, prefix="/api")
    app.include_router(reads.router, prefix="/api")
    print(json.dumps(app.openapi(), indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
