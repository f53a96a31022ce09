#!/usr/bin/env bash
# Makes digests.txt anew. Usage: make.sh INPUTS ENCODER=PROGRAM...
# INPUTS: a folder that `PANNIER_GZIP_INPUTS=INPUTS cargo test --lib write_inputs -- --ignored` has filled.
# ENCODER: go1.26, go1.27, 1.15.10, 1.18.2 and so on; PROGRAM: encode.go built with that Go or klauspost/compress.
set -euo pipefail

inputs=$1
shift
lines() { # MODEL FILES ENCODER ARGUMENT...
    local model=$1 files=$2 file out
    shift 2
    out=$(mktemp)
    for file in "$inputs"/$files; do # the pattern is one
        [[ -e $file ]] || continue
        "$@" <"$file" >"$out"
        printf '%s %s %s %s %s\n' "$model" "${file##*/}" "$(head -c 10 "$out" | xxd -p)" "$(stat -c %s "$out")" "$(sha256sum "$out" | cut -d' ' -f1)"
    done
    rm -f "$out"
}
short=('*-??????' '*-?????' '*-????' '*-???' '*-??' '*-?')
for pair in "$@"; do
    encoder=${pair%%=*} program=${pair#*=}
    for files in "${short[@]}"; do
        case $encoder in
            go1.27) for level in 1 5 6; do lines "klauspost-1.18.2/$level" "$files" "$program" go "$level"; done ;;
            go*) for level in -2 0 1 2 3 4 5 6 7 8 9; do lines "go/$level" "$files" "$program" go "$level"; done ;;
            *) for level in 1 5 6; do
                lines "klauspost-$encoder/$level" "$files" "$program" klauspost "$level"
                lines "pgzip-$encoder/$level/262144" "$files" "$program" pgzip "$level" 262144
            done ;;
        esac
    done
    case $encoder in
        go*) ;;
        *) lines "pgzip-$encoder/5/1048576" '*-???????' "$program" pgzip 5 1048576 ;;
    esac
done | sort -u
