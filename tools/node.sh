#!/usr/bin/env bash
# Installs a Node that is new enough for the conformance suite, with the npm that is there, into .cache/node.
set -euo pipefail
cd "$(dirname "$0")/.."

major() { "$1" --version | sed -E 's/^v([0-9]+).*/\1/'; }

for node in node .cache/node/node_modules/node/bin/node; do
    if command -v "$node" >/dev/null && [ "$(major "$node")" -ge 22 ]; then exit 0; fi
done
if ! command -v npm >/dev/null; then
    echo "There is neither Node 22 nor npm here: the conformance suite and the TypeScript client cannot run." >&2
    exit 1
fi
mkdir -p .cache/node
npm install --silent --no-audit --no-fund --prefix .cache/node node@24
