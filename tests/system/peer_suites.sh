#!/bin/sh
# Other projects' own functional tests of FTP, run against tidegate: pyftpdlib's (its FTP server replaced by ours) and
# those of PyFilesystem2's FTPFS.
#
#     scripts/peer-suites [pyftpdlib | fs] [PYTEST-OPTION ...]
#
# tests/peers/plugin.py tells how; tests/peers/reasons.txt holds what is not asked and what differs, each with its reason.
# What differs has to differ: a test in that list that passes is a failure.
set -eu
cd "$(dirname "$0")/.."
suites='pyftpdlib fs'
case "${1-}" in pyftpdlib | fs) suites=$1; shift ;; esac
pyftpdlib=pyftpdlib-2.2.0
tools=$PWD/target/peers
peers=$PWD/tests/peers
export TIDEGATE="$PWD/target/debug/tidegate"
cargo build --quiet

if [ ! -e "$tools/ready" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools/venv"
    # fs asks for pkg_resources, which setuptools has dropped later.
    "$tools/venv/bin/pip" install --quiet 'setuptools<81' psutil==7.2.2 pytest==9.0.2 pyftpdlib==2.2.0 fs==2.4.16
    "$tools/venv/bin/pip" download --quiet --no-deps --no-binary :all: --dest "$tools" pyftpdlib==2.2.0
    tar -xzf "$tools/$pyftpdlib.tar.gz" -C "$tools"
    touch "$tools/ready"
fi

failed=0
for suite in $suites; do
    case $suite in
        pyftpdlib) tests=$tools/$pyftpdlib/tests/test_functional.py ;;
        fs) tests=$peers/test_ftpfs.py ;;
    esac
    echo "$suite:"
    # The tests of pyftpdlib serve the folder that they run in.
    mkdir -p "$tools/$suite.tmp"
    (
        cd "$tools/$suite.tmp"
        PYTHONPATH="$tools/$pyftpdlib:$peers" "$tools/venv/bin/python" -W ignore -m pytest -q -c /dev/null --rootdir / \
            -p plugin -p no:cacheprovider --tb=short "$@" "$tests"
    ) || failed=1
    rm -rf "$tools/$suite.tmp"
done
exit $failed
