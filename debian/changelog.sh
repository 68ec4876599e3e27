#!/bin/sh
# usage: changelog.sh PACKAGE VERSION EPOCH
# Prints the Debian changelog of a package: its one entry points to the product's own changelog.
set -eu

cat <<END
$1 ($2) stable; urgency=medium

  * Release $2. What changed stands in CHANGELOG.md of the product.

 -- The Smolotchi maintainers <maintainers@smolotchi.invalid>  $(date -u -R -d "@$3")
END
