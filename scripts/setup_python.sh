#!/usr/bin/env bash
# Makes .venv from uv.lock: exact versions, hashes checked, packages from whichever index this machine is set to.
# Usage: scripts/setup_python.sh [GROUP ...]   (default: dev, that is everything)
set -euo pipefail
cd "$(dirname "$0")/.."
groups=("${@:-dev}")
stamp=.venv/.installed
wanted="$(cat uv.lock pyproject.toml; echo "${groups[*]}")"
if [ -f "$stamp" ] && [ "$(sha256sum <<<"$wanted")" = "$(cat "$stamp")" ]; then exit 0; fi
python="${PYTHON:-python3}"
"$python" - <<'PY' || { echo "mesh: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
PY
[ -x .venv/bin/python ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
echo "mesh: installing the Python packages pinned in uv.lock (about 1.3 GB the first time)"
requirements="$(mktemp)"; trap 'rm -f "$requirements"' EXIT
args=(); for group in "${groups[@]}"; do args+=(--group "$group"); done
.venv/bin/uv export --frozen --quiet --no-default-groups "${args[@]}" --no-emit-project --no-header --output-file "$requirements" >/dev/null
# `uv` itself is kept: it is not in the lock, so it is added back to what `pip sync` leaves.
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --requirements "$requirements"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
sha256sum <<<"$wanted" >"$stamp"
