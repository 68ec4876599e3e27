#!/bin/sh
# usage: dist-demo.sh
# Makes dist/demo/: four releases of Smolotchi, built from this tree, published into one signed release tree. 0.1.0 and 0.2.0
# are good, 0.3.0 has a core that aborts (feature demo-crash), 0.4.0 has a migration that can't be undone (feature
# demo-irreversible). Plain files: dist/demo/README.txt says how to use them elsewhere.
# A second run does nothing, in about a second, while the sources, the toolchain and the result stay the same.
# The secret keys stay in target/demo-keys, made once. Environment: CARGO_DEB, SMOLOTCHI_CACHE, SOURCE_DATE_EPOCH.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
umask 022
keyring_version=2026.1
current=0.2.0
target=${CARGO_TARGET_DIR:-$root/target}
keys=$root/target/demo-keys
out=$root/dist/demo
work=$root/dist/.demo.making
arch=$(dpkg --print-architecture)

say() { echo "dist-demo: $*" >&2; }

# What the result depends on: every file that git knows or would take, the compiler, the keys.
stamp() {
    {
        git ls-files -z -co --exclude-standard -- agent installer migrations systemd debian docs/guides tests/demo Cargo.toml Cargo.lock LICENSE\* \
            | sort -z -u | xargs -0 sha256sum 2>/dev/null
        rustc -vV
        echo "$arch"
        sha256sum "$keys"/*.p[gu][bp]
    } | sha256sum | cut -d' ' -f1
}

# What was made, so that a file lost or changed by hand is made again.
made() { (cd "$1" && find . -type f ! -name .stamp -printf '%p %s %T@\n' | LC_ALL=C sort | sha256sum | cut -d' ' -f1); }

mkdir -p dist target
exec 9>dist/.demo.lock
if ! flock -n 9; then
    say "another run is at work; waiting for it"
    flock 9
fi

maker=$target/debug/smolotchi-release
build_maker() { cargo build --quiet --locked -p smolotchi-release --features sign; }

if [ ! -d "$keys" ]; then
    build_maker
    "$maker" keys --out "$keys" >&2
fi
stamp=$(stamp)
if [ -f "$out/.stamp" ] && [ "$(cat "$out/.stamp")" = "$stamp $(made "$out")" ]; then
    cat "$out/CONTENTS.txt"
    exit 0
fi

build_maker
if [ -z "${CARGO_DEB:-}" ]; then
    CARGO_DEB=${SMOLOTCHI_CACHE:-/var/cache/smolotchi-lab}/tools/bin/cargo-deb
    [ -x "$CARGO_DEB" ] || CARGO_DEB=cargo-deb
    export CARGO_DEB
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/keys" "$work/bundles" "$work/built"
cp "$keys/smolotchi.pub" "$keys/smolotchi-archive-keyring.pgp" "$work/keys/"

say "building the keyring package"
sh debian/keyring/build.sh "$keys/smolotchi-archive-keyring.pgp" "$keyring_version" "$work" "$keys/smolotchi.pub" >/dev/null
keyring=$work/smolotchi-archive-keyring_${keyring_version}_all.deb
# The current version comes last, so that it is what stays in target/release.
for version in 0.1.0 0.3.0 0.4.0 "$current"; do
    say "building $version"
    case $version in
    0.3.0) features=demo-crash ;;
    0.4.0) features=demo-irreversible ;;
    *) features= ;;
    esac
    # The installer of the current version goes with all of them.
    packages=smolotchi
    [ "$version" != "$current" ] || packages="smolotchi smolotchi-install"
    # shellcheck disable=SC2086
    SMOLOTCHI_PACKAGES=$packages sh debian/build.sh "$version" "$work/built/$version" $features >/dev/null
    # Two builds at the same time share target/release: what is in the package must be what was asked for.
    dpkg-deb --fsys-tarfile "$work/built/$version/smolotchi_${version}_${arch}.deb" | tar -xO ./usr/bin/smolotchi >"$work/built/smolotchi"
    chmod 755 "$work/built/smolotchi"
    if [ "$("$work/built/smolotchi" --version)" != "smolotchi $version" ]; then
        say "the package of $version holds another version; was another build running? run this again"
        exit 1
    fi
done
# The installer has its own version: what rolls back is not part of what is rolled back.
for version in 0.1.0 0.2.0 0.3.0 0.4.0; do
    debs=$work/releases/$version/debs
    mkdir -p "$debs"
    cp -p "$work/built/$version/smolotchi_${version}_${arch}.deb" "$work/built/$current/smolotchi-install_${current}_${arch}.deb" "$keyring" "$debs/"
done
rm -rf "$work/built"

say "publishing"
publish() {
    "$maker" publish --tree "$work/repo" --keys "$keys" --channel "$1" --version "$2" --debs "$work/releases/$2/debs" --expires-days 3650 >/dev/null
}
publish oldstable 0.1.0
publish stable 0.1.0
publish stable 0.2.0
publish edge 0.1.0
publish edge 0.2.0
publish edge 0.3.0
publish beta 0.1.0
publish beta 0.2.0
publish beta 0.4.0
for pair in oldstable:0.1.0 stable:0.2.0 edge:0.3.0 beta:0.4.0; do
    "$maker" bundle --tree "$work/repo" --channel "${pair%:*}" --arch "$arch" --trust "$work/keys" \
        --out "$work/bundles/smolotchi-${pair#*:}-$arch.bundle" >/dev/null
done
"$maker" verify --tree "$work/repo" --trust "$work/keys" >"$work/.verified"
sed "s/@ARCH@/$arch/g; s/@KEYRING@/smolotchi-archive-keyring_${keyring_version}_all.deb/g" tests/demo/README.txt.in >"$work/README.txt"
{
    echo "dist/demo/"
    (cd "$work" && find . -type f ! -name '.*' ! -name CONTENTS.txt ! -path './repo/dists/*' -printf '  %P\t%s bytes\n' | LC_ALL=C sort | expand -t 72)
    echo "  repo/dists/ (the apt repository: suites oldstable, stable, edge, beta)"
    cat "$work/.verified"
    echo "how to use it elsewhere: dist/demo/README.txt"
} >"$work/CONTENTS.txt"
rm "$work/.verified"

echo "$stamp $(made "$work")" >"$work/.stamp"
rm -rf "$out"
mv "$work" "$out"
trap - EXIT
cat "$out/CONTENTS.txt"
