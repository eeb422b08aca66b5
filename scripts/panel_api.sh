#!/usr/bin/env bash
# Generates the panel's typed client from the dashboard's OpenAPI. The result is committed; `--check` fails on a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
target=services/dashboard/web/src/api/generated.ts
fresh="$(mktemp -d)"; trap 'rm -rf "$fresh"' EXIT
.venv/bin/python -m scripts.panel_openapi >"$fresh/openapi.json"
(cd services/dashboard/web && npx --no-install openapi-typescript "$fresh/openapi.json" -o "$fresh/generated.ts" >/dev/null)
if [ "${1:-}" = "--check" ]; then diff "$fresh/generated.ts" "$target"; else cp "$fresh/generated.ts" "$target"; fi
