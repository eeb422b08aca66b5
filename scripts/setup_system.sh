#!/usr/bin/env bash
# Looks for the programs that are not Python packages: Java 17+ and Maven for Kafka, Node 20+ for the panel's page, Chromium
# for the page's tests. What is missing is installed with apt where that is possible, else named in one sentence. Nothing here
# fails: without Java or Maven the stack says that it keeps everything in memory, without Node there is no page.
set -uo pipefail
major() { "$@" 2>&1 | grep -oE '[0-9]+' | head -n 1; }
at_least() { # at_least VERSION COMMAND...
  local wanted="$1" found; shift
  command -v "$1" >/dev/null || return 1
  found="$(major "$@")"
  [ -n "$found" ] && [ "$found" -ge "$wanted" ]
}
has_chromium() { [ -x "${MESH_CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null; }
lacking() { # what is missing, as Debian's packages
  at_least 17 java -version || echo openjdk-17-jre-headless
  command -v mvn >/dev/null || echo maven
  at_least 20 node --version || echo nodejs
  command -v npm >/dev/null || echo npm
  has_chromium || echo chromium
}
mapfile -t missing < <(lacking)
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "mesh: installing ${missing[*]} with apt"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # One by one, so that one that this Debian does not have does not keep the others away.
  for package in "${missing[@]}"; do
    [ "$package" = openjdk-17-jre-headless ] && ! apt-cache show "$package" >/dev/null 2>&1 && package=default-jre-headless
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null || true
  done
  mapfile -t missing < <(lacking)
fi
for package in "${missing[@]}"; do
  case "$package" in
    openjdk-*) echo "mesh: Java 17 or newer is missing: install it, or the stack keeps everything in memory only." >&2 ;;
    maven) echo "mesh: Maven (mvn) is missing: install it, or the stack keeps everything in memory only." >&2 ;;
    nodejs | npm) echo "mesh: Node 20 or newer with npm is missing: install it, or there is no control panel page." >&2 ;;
    chromium) echo "mesh: Chromium is missing: install it, or the tests of the control panel's page are left out." >&2 ;;
  esac
done
