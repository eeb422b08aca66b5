#!/usr/bin/env bash
# Generates services/common/pb from protos/. The result is committed; `make check` fails on a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-services/common/pb}"
rm -rf "$out"; mkdir -p "$out"
export PATH="$PWD/.venv/bin:$PATH"
python -m grpc_tools.protoc -Iprotos --python_out="$out" --mypy_out=quiet:"$out" \
  --grpc_python_out="$out" --mypy_grpc_out=quiet:"$out" $(find protos -name '*.proto' | sort)
# protoc writes imports from the root of protos/; ours live below services.common.pb.
find "$out" -name '*.py' -o -name '*.pyi' | xargs sed -i -E \
  -e 's/^from mesh\./from services.common.pb.mesh./' -e 's/^import mesh\./import services.common.pb.mesh./'
# Type annotations may spell a module out; strings in the code must not be touched, they are names on the wire.
find "$out" -name '*.pyi' | xargs sed -i -E \
  -e 's/([^.A-Za-z_])mesh\.(common|events|accounts|billing|usage|catalog|jobs)\.v1\./\1services.common.pb.mesh.\2.v1./g'
# A file without services has an empty *_grpc module: not worth its place.
find "$out" -name '*_pb2_grpc.py' | while read -r file; do grep -q 'class .*Stub' "$file" || rm "$file" "${file}i"; done
find "$out" -type d -exec touch {}/__init__.py \;
