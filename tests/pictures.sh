#!/bin/sh
# Takes the pictures of docs/guides/web.md anew: every page, empty and full, at phone and desktop width, dark and light.
# As root, with chromium, sqlite3, graphicsmagick and optipng installed. All go to the folder given; the guide's few, and a sheet
# of all for each width and fill, to docs/pictures/web.
set -eu
cd "$(dirname "$0")/.."
all=${1:-target/pictures}
mkdir -p "$all" docs/pictures/web
SMOLOTCHI_PICTURES=$(realpath "$all") cargo test -q -p smolotchi --test web -- --ignored --exact pictures
for name in now-full-desktop-light now-full-phone-dark findings-full-desktop-dark findings-3-full-phone-light readings-full-desktop-dark \
    jobs-full-phone-dark; do
    cp "$all/$name.png" "docs/pictures/web/$name.png"
    optipng -quiet -o5 -strip all "docs/pictures/web/$name.png"
done

# sheet NAME SIZE TILES PICTURE...: all of them, smaller, on one picture.
sheet() {
    to=docs/pictures/web/all-$1.png size=$2 tiles=$3
    shift 3
    gm montage -geometry "$size+6+6" -tile "$tiles" -background '#808080' "$@" "$to"
    gm convert "$to" +dither -colors 64 "$to"
    optipng -quiet -o3 -strip all "$to"
}
sheet empty-desktop 640x450 3x3 "$all"/*-empty-desktop-dark.png
sheet empty-phone 300x649 4x2 "$all"/*-empty-phone-light.png
sheet full-desktop 640x450 3x4 "$all"/*-full-desktop-light.png
sheet full-phone 300x649 6x2 "$all"/*-full-phone-dark.png
