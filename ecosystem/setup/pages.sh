#!/bin/sh
# Make what the pages need beside Python code: pages.sh PYTHON
# The libraries that run in the browser, and the catalogues of texts in the form that gettext reads. PYTHON belongs to an
# environment with the dependencies of requirements.lock.
set -eu
cd "$(dirname "$0")/../.."
"$1" ecosystem/setup/browser_files.py ecosystem/setup/browser.lock omniroute/static/lib
"$1" -m babel.messages.frontend --quiet compile --directory omniroute/translations
