#!/bin/sh
# Takes the pictures of docs/guides/web.md anew: every page, empty and full, at phone and desktop width, dark and light.
# As root, with chromium, sqlite3 and optipng installed. All go to the folder given; the guide's few to docs/pictures/web.
set -eu
cd "$(dirname "$0")/.."
all=${1:-target/pictures}
mkdir -p "$all" docs/pictures/web
SMOLOTCHI_PICTURES=$(realpath "$all") cargo test -q -p smolotchi --test web -- --ignored --exact pictures
for name in now-full-desktop-light now-full-phone-dark findings-full-desktop-dark findings-3-full-phone-light readings-full-desktop-dark \
    jobs-full-phone-dark; do
    optipng -quiet -o5 -strip all -out "docs/pictures/web/$name.png" -clobber "$all/$name.png"
done
