#!/bin/sh
# Make a virtual environment: python.sh PYTHON DIRECTORY
set -eu
python=$1
directory=$2

if ! command -v "$python" >/dev/null 2>&1; then
    # Distributions that carry 3.11 or later under the plain name.
    python=python3
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "OmniRoute needs Python 3.11 or later. Install it, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# Debian ships Python without what makes environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package="python$version-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing $package ..."
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$package" >/dev/null
    else
        echo "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install $package" >&2
        exit 1
    fi
fi

"$python" -m venv "$directory"
