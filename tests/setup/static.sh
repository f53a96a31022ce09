#!/usr/bin/env bash
# Builds the static programs that images and pods of the tests use, pause and podmain, into target/tools/static.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${PANNIER_TOOLS:-$here/../../target/tools}/static
mkdir -p "$out"
for program in pause podmain; do
    [[ $out/$program -nt $here/$program.c ]] && continue
    # Same source, same compiler, same bytes: no build id, no paths.
    gcc -std=c11 -Os -Wall -Wextra -Werror -D_GNU_SOURCE -static -s -Wl,--build-id=none -o "$out/$program.$$" "$here/$program.c"
    mv "$out/$program.$$" "$out/$program"
done
