#!/bin/sh
# Installs what building, packaging and testing need, if it isn't there: Debian packages, and cargo-deb from the crates
# registry into the cache. Does nothing, quietly and at once, when all is there. Called by the Makefile.
set -eu

CARGO_DEB_VERSION=3.8.0
CACHE=${SMOLOTCHI_CACHE:-/var/cache/smolotchi-lab}

if [ "$(id -u)" -ne 0 ]; then
    echo "error: building machines needs root: run it with sudo, for example: sudo make demo" >&2
    exit 2
fi

. /etc/os-release
packages="debootstrap systemd-container minisign gnupg apt-utils dpkg-dev lintian openssh-client
 ansible-core python3 iproute2 e2fsprogs util-linux ca-certificates faketime sqlite3 slowhttptest wrk qemu-system-x86 git gcc libc6-dev make pkg-config liblzma-dev"
if ! command -v cargo >/dev/null; then
    # Debian 12's own rustc is too old; the one that its browsers are built with is not.
    case "${VERSION_ID:-}" in
        12) packages="$packages rustc-web cargo-web" ;;
        *) packages="$packages rustc cargo" ;;
    esac
fi
missing=
for package in $packages; do
    # A package may be there under the name of one that provides it (git on some machines is not Debian's).
    case "$package" in
        git | gcc | make) command -v "$package" >/dev/null && continue ;;
    esac
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "prepare: installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# Where the C library is newer than Debian 12's, packages are built in the build root, which has its own
# (debian/build-root.sh); Debian 13's compiler would be too old for it, too.
libc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if dpkg --compare-versions "$libc" gt 2.36; then
    exit 0
fi
if [ "$("$CACHE/tools/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $CARGO_DEB_VERSION" ]; then
    echo "prepare: building cargo-deb $CARGO_DEB_VERSION (once; it stays in $CACHE/tools)" >&2
    cargo install --quiet --locked --root "$CACHE/tools" --version "$CARGO_DEB_VERSION" cargo-deb
fi
