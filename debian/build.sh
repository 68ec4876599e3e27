#!/bin/sh
# usage: build.sh VERSION OUT [FEATURES]
# Builds the packages smolotchi and smolotchi-install of VERSION into the folder OUT.
#   VERSION   of the packages and in the binaries; migrations of later releases are left out
#   OUT       a folder; it is made if it is missing (in this tree, where the build root is used)
#   FEATURES  of the agent, comma-separated (for releases that are meant to fail in the lab)
# Environment: SOURCE_DATE_EPOCH (default: the last commit), CARGO_TARGET_DIR (default: target/packages), CARGO_DEB (the
# program), SMOLOTCHI_PACKAGES (default: both; "smolotchi" leaves the installer out). The same tree, version and toolchain give the same bytes. One build at a time: a second one waits.
# smolotchi-archive-keyring is made by keyring/build.sh.
# On a host whose C library is newer than Debian 12's it builds in a Debian 12 build root (build-root.sh).
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
# What a newer C library links doesn't start on Debian 12.
host_libc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if [ -z "${SMOLOTCHI_IN_BUILD_ROOT:-}" ] && dpkg --compare-versions "$host_libc" gt 2.36; then
    mkdir -p "$2"
    exec sh "$(dirname "$0")/build-root.sh" sh debian/build.sh "$1" "$(cd "$2" && pwd)" ${3:+"$3"}
fi
# One function, so that the shell has read all of it before it begins: a build takes minutes, and the file may change.
build() {
    version=$1
    features=${3:-}
    mkdir -p "$2"
    out=$(cd "$2" && pwd)
    cd "$(dirname "$0")/.."
    root=$(pwd)

    export SMOLOTCHI_VERSION="$version"
    export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
    # Not the folder of everyday builds: other flags there would make each build the other's again from scratch.
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target/packages}"
    # Paths of the build machine would make every machine's bytes different.
    remap="$root=/usr/src/smolotchi"
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$remap --remap-path-prefix=$cargo_home=/usr/src/cargo"
    # Relocations that need no table of 200 KB. The C library of Debian 12 is the first that can.
    RUSTFLAGS="$RUSTFLAGS -C link-arg=-Wl,-z,pack-relative-relocs"
    export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$remap -ffile-prefix-map=$cargo_home=/usr/src/cargo"
    export TZ=UTC LC_ALL=C.UTF-8
    umask 022
    # Two builds at the same time would package each other's binaries, or what else lies in target/dist.
    mkdir -p "$root/target"
    exec 8>"$root/target/.packaging.lock"
    flock 8

    packages=${SMOLOTCHI_PACKAGES:-smolotchi smolotchi-install}
    bin=$CARGO_TARGET_DIR/release
    for package in $packages; do
        with=
        [ "$package" != smolotchi ] || with=$features
        # The moment is for what is packed. C compilers take it for __DATE__, which nothing here uses; with it in the environment
        # SQLite would be compiled anew for every commit.
        env -u SOURCE_DATE_EPOCH cargo build --release --locked -p "$package" ${with:+--features "$with"}
        sh debian/glibc-gate.sh 2.36 "$bin/$package"
    done

    # cargo-deb takes what the packages hold besides the binaries from here.
    dist=$root/target/dist
    rm -rf "$dist"
    for package in $packages; do
        mkdir -p "$dist/$package"
        "$bin/$package" docs "$dist/$package"
        sh debian/changelog.sh "$package" "$version" "$SOURCE_DATE_EPOCH" | gzip -9n >"$dist/$package/changelog.gz"
        gzip -9n "$dist/$package"/man/*.1
    done
    "$bin/smolotchi" maint release-toml >"$dist/smolotchi/release.toml"

    for package in $packages; do
        "${CARGO_DEB:-cargo-deb}" --quiet --no-build --package "$package" --deb-version "$version" --compress-type gz --output "$out" >/dev/null
        deb=$(find "$out" -name "${package}_${version}_*.deb")
        # An empty list means that the libraries' packages could not be found, which cargo-deb calls a success.
        if ! dpkg-deb -f "$deb" Depends | grep -q 'libc6 '; then
            echo "build: $deb: Depends does not name libc6" >&2
            exit 1
        fi
        echo "$deb"
    done
}

build "$@"
exit
