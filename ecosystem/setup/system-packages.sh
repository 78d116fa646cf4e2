#!/bin/sh
# Make sure that programs are there: system-packages.sh PACKAGE:PROGRAM ...
# PROGRAM is a name on PATH or a path pattern. What is missing is installed when we are root on Debian or Ubuntu, and
# named otherwise.
set -eu
missing=

for pair in "$@"; do
    package=${pair%%:*}
    program=${pair#*:}
    case $program in
        /*)
            # Unquoted on purpose: the pattern is to be expanded.
            set -- $program
            [ -x "$1" ] || missing="$missing $package"
            ;;
        *) command -v "$program" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done

[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing system packages:$missing"
    apt-get -qq update
    # shellcheck disable=SC2086 -- a list of names
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing >/dev/null
else
    echo "These programs are needed and missing:$missing" >&2
    echo "On Debian and Ubuntu: sudo apt-get install$missing" >&2
    exit 1
fi
