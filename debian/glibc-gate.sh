#!/bin/sh
# usage: glibc-gate.sh MAXIMUM FILE…
# Fails if a binary needs a symbol of a newer GLIBC than MAXIMUM (2.36: Debian 12). Such a binary would not even start.
set -eu

maximum=$1
shift
for file in "$@"; do
    newest=$(objdump -T "$file" | sed -n 's/.*(\{0,1\}GLIBC_\([0-9.]*\).*/\1/p' | sort -V | tail -n 1)
    if [ -z "$newest" ]; then
        echo "glibc-gate: $file: no GLIBC symbol found; is it a dynamically linked binary?" >&2
        exit 1
    fi
    if [ "$(printf '%s\n%s\n' "$newest" "$maximum" | sort -V | tail -n 1)" != "$maximum" ]; then
        echo "glibc-gate: $file: needs GLIBC_$newest, at most $maximum is allowed" >&2
        exit 1
    fi
done
