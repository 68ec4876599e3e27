#!/bin/sh
# usage: build-root.sh COMMAND…
# Runs COMMAND at the top of this source tree, inside a Debian 12 build root with Debian's own Rust. What is linked there
# starts on Debian 12 and 13; what a newer C library links doesn't start on 12. The root is made once and kept in the cache.
# Environment: SMOLOTCHI_CACHE (default /var/cache/smolotchi-lab).
set -eu

cd "$(dirname "$0")/.."
tree=$(pwd)
CARGO_DEB_VERSION=$(sed -n 's/^CARGO_DEB_VERSION=//p' tests/prepare.sh)
cache=${SMOLOTCHI_CACHE:-/var/cache/smolotchi-lab}
root=$cache/build-root
if [ ! -d "$root" ]; then
    echo "build-root: making a Debian 12 build root in $root (once)" >&2
    rm -rf "$root.new"
    mkdir -p "$root.new"
    # The mirrors of the host's own apt; debootstrap's default where that tells none.
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep '/debian$' | head -n 1)
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,make,git,dpkg-dev,pkg-config,liblzma-dev bookworm "$root.new" ${mirror:+"$mirror"} >"$cache/build-root.log"
    cp /etc/resolv.conf "$root.new/etc/resolv.conf"
    # The security suite has the newer compiler, which cargo-deb needs.
    sed -n 's/^\(deb [^ ]*\)debian bookworm main$/\1debian-security bookworm-security main/p' "$root.new/etc/apt/sources.list" \
        >"$root.new/etc/apt/sources.list.d/security.list"
    chroot "$root.new" apt-get update -qq
    chroot "$root.new" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web cargo-web >>"$cache/build-root.log"
    mv "$root.new" "$root"
fi
# Its own cargo-deb: the host's may be linked against the newer library too.
cargo_home=$cache/build-root-cargo
mkdir -p "$cargo_home"
inside() {
    systemd-nspawn --quiet --register=no --keep-unit --as-pid2 --console=pipe --directory="$root" --resolv-conf=copy-host \
        --bind="$tree" --chdir="$tree" --bind="$cargo_home" --bind-ro=/etc/ssl/certs --bind-ro=/usr/share/ca-certificates \
        --setenv=CARGO_HOME="$cargo_home" --setenv=CARGO_TARGET_DIR="$tree/target/build-root" \
        --setenv=CARGO_DEB="$cargo_home/bin/cargo-deb" --setenv=SMOLOTCHI_IN_BUILD_ROOT=1 \
        --setenv=SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
        ${SMOLOTCHI_PACKAGES:+--setenv=SMOLOTCHI_PACKAGES="$SMOLOTCHI_PACKAGES"} \
        ${SSL_CERT_FILE:+--setenv=SSL_CERT_FILE="$SSL_CERT_FILE"} "$@"
}
if [ "$(inside "$cargo_home/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $CARGO_DEB_VERSION" ]; then
    echo "build-root: building cargo-deb $CARGO_DEB_VERSION (once)" >&2
    inside cargo install --quiet --locked --version "$CARGO_DEB_VERSION" cargo-deb
fi
inside "$@"
