#!/usr/bin/env bash
# Every check that needs no running service. Runs all of them and then says which failed. `make check` calls it.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
failed=()
step() { # step NAME COMMAND...
  local name="$1" log; shift
  log="$(mktemp)"
  if "$@" >"$log" 2>&1; then echo "ok      $name"; else echo "FAILED  $name"; cat "$log"; failed+=("$name"); fi
  rm -f "$log"
}
generated() {
  local fresh; fresh="$(mktemp -d)"
  bash scripts/protos.sh "$fresh/pb" && diff -r -x __pycache__ "$fresh/pb" services/common/pb; local status=$?
  rm -rf "$fresh"; return $status
}
# Compatible with the newest landed contracts: against the tag of the last release, or else the last commit that changed
# nothing in protos/ (on a clean tree: HEAD).
breaking() {
  local base; base="$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse HEAD)"
  git cat-file -e "$base:protos/buf.yaml" 2>/dev/null || return 0
  local old; old="$(mktemp -d)"; git archive "$base" protos | tar -x -C "$old"
  buf breaking protos --against "$old/protos"; local status=$?
  rm -rf "$old"; return $status
}
step "ruff format"        ruff format --check .
step "ruff"               ruff check .
step "layers"             lint-imports --no-cache
step "sizes"              python -m scripts.check_sizes
step "repository"         python -m scripts.check_repository
step "protos lint"        buf lint protos
step "protos compatible"  breaking
step "generated code"     generated
step "docs of topics"     python -m scripts.topics_doc --check
step "docs of the API"    python -m scripts.api_docs --check
step "settings example"   python -m scripts.settings_doc --check
step "breaks fit"         python -m tests.checklist.mutants --check
step "containers"         python -m scripts.check_containers
step "types"              mypy
if [ ${#failed[@]} -gt 0 ]; then echo "check: failed: ${failed[*]}"; exit 1; fi
echo "check: everything holds"
