#!/bin/sh
# usage: build-root.sh COMMAND…
# Runs COMMAND at the top of this source tree, inside a Debian 12 build root with Debian's own Rust. What is linked there
# starts on Debian 12 and 13; what a newer C library links doesn't start on 12. The root is made once and kept in the cache.
# Environment: SMOLOTCHI_CACHE (default /var/cache/smolotchi-lab).
set -eu

cd "$(dirname "$0")/.."
tree=$(pwd)
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
    chroot "$root.new" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web cargo-web >>"$cache/build-root.log"
    mv "$root.new" "$root"
fi
mkdir -p "$cache/build-root-cargo" "$cache/tools"
exec systemd-nspawn --quiet --register=no --keep-unit --as-pid2 --console=pipe --directory="$root" --resolv-conf=copy-host \
    --bind="$tree" --chdir="$tree" --bind="$cache/build-root-cargo" --bind-ro="$cache/tools" \
    --bind-ro=/etc/ssl/certs --bind-ro=/usr/share/ca-certificates \
    --setenv=CARGO_HOME="$cache/build-root-cargo" --setenv=CARGO_TARGET_DIR="$tree/target/build-root" \
    --setenv=SMOLOTCHI_IN_BUILD_ROOT=1 --setenv=SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
    ${CARGO_DEB:+--setenv=CARGO_DEB="$CARGO_DEB"} ${SSL_CERT_FILE:+--setenv=SSL_CERT_FILE="$SSL_CERT_FILE"} \
    "$@"
