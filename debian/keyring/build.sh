#!/bin/sh
# usage: build.sh OPENPGP-KEY VERSION OUT MINISIGN-PUB…
# Builds smolotchi-archive-keyring_VERSION_all.deb into the folder OUT.
#   OPENPGP-KEY   public key of the apt repository, binary (gpg --export)
#   MINISIGN-PUB  public keys that may sign releases, each NAME.pub
# Environment: SOURCE_DATE_EPOCH (default: the last commit). cargo-deb can't make packages for all architectures.
set -eu

if [ $# -lt 4 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
key=$1
version=$2
out=$3
shift 3
here=$(cd "$(dirname "$0")/.." && pwd)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}"
name=smolotchi-archive-keyring
umask 022

# apt takes an armoured key for a binary one, and then trusts nothing at all.
case "$(head -c 10 "$key")" in
    -----BEGIN*)
        echo "keyring: $key is armoured; export it without --armor" >&2
        exit 1
        ;;
esac

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
install -D -m 644 "$key" "$tree/usr/share/keyrings/$name.pgp"
for pub in "$@"; do
    case "$pub" in
        *.pub) ;;
        *)
            echo "keyring: $pub is not named NAME.pub" >&2
            exit 1
            ;;
    esac
    install -D -m 644 "$pub" "$tree/usr/share/$name/$(basename "$pub")"
done
doc=$tree/usr/share/doc/$name
install -D -m 644 "$here/copyright" "$doc/copyright"
sh "$here/changelog.sh" "$name" "$version" "$SOURCE_DATE_EPOCH" | gzip -9n >"$doc/changelog.gz"

mkdir "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<END
Package: $name
Version: $version
Architecture: all
Maintainer: The Smolotchi maintainers <maintainers@smolotchi.invalid>
Section: misc
Priority: optional
Multi-Arch: foreign
Homepage: https://smolotchi.invalid
Installed-Size: $(find "$tree/usr" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
Description: keys that Smolotchi's releases and repository are signed with
 The OpenPGP key of the apt repository, for Signed-By, and the minisign keys
 that smolotchi-install accepts releases from.
END
(cd "$tree" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
dpkg-deb --root-owner-group -Zgzip --build "$tree" "$out/${name}_${version}_all.deb" >/dev/null
echo "$out/${name}_${version}_all.deb"
