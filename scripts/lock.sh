#!/usr/bin/env bash
# Resolves uv.lock and strips from it where the packages were downloaded: the lock says which packages and which
# hashes, the machine that installs says from where. `scripts/setup_python.sh` installs it with any index.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${UV:-.venv/bin/uv}"
index="https://index.invalid"
"$uv" lock --upgrade
sed -i -E \
  -e "s#registry = \"https?://[^\"]*\"#registry = \"${index}/simple\"#" \
  -e "s#url = \"https?://[^\"]*/([^/\"]+)\"#url = \"${index}/files/\1\"#" uv.lock
