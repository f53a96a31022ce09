#!/usr/bin/env bash
# Builds the fuzz targets and runs each for SECONDS.
# Usage: tests/fuzz/run.sh SECONDS [TARGET]...    (none: all, one after the other)
#
# Corpora, and whatever crashed a target, are kept in target/fuzz or below $FUZZ_CORPORA. On the stable
# toolchain: RUSTC_BOOTSTRAP lets it take the options for coverage. Without address sanitizer, which would
# take the memory that is being limited; what is fuzzed has no unsafe code of ours.
set -euo pipefail

seconds=${1:?seconds for each target}
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
corpora=${FUZZ_CORPORA:-$root/target/fuzz}
cargo_fuzz=$(command -v cargo-fuzz || echo "${PANNIER_TOOLS:-$root/target/tools}/cargo-fuzz/bin/cargo-fuzz")
host=$(rustc -vV | sed -n 's/^host: //p')
binaries=$root/target/fuzz/build/$host/release

mapfile -t targets < <(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' "$root/tests/fuzz/Cargo.toml")
[[ $# == 0 ]] || targets=("$@")
mkdir -p "$corpora"
cd "$root"
RUSTC_BOOTSTRAP=1 "$cargo_fuzz" build --fuzz-dir tests/fuzz --sanitizer none --target-dir target/fuzz/build

for target in "${targets[@]}"; do
    mkdir -p "$corpora/$target/corpus" "$corpora/$target/found"
    python3 -B tests/fuzz/seeds.py "$target" "$corpora/$target/corpus"
    echo "fuzz: $target, $seconds s"
    log=$corpora/$target/log
    if ! "$binaries/$target" -max_total_time="$seconds" -rss_limit_mb=256 -timeout=10 -max_len=65536 -dict=tests/fuzz/words.dict \
        -artifact_prefix="$corpora/$target/found/" "$corpora/$target/corpus" >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "fuzz: $target FAILED; what it fell over is in $corpora/$target/found" >&2
        exit 1
    fi
    grep -E '^(Done|stat::)' "$log" || tail -n 1 "$log"
done
