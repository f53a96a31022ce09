#!/usr/bin/env bash
# Unpacks a compiler with a standard library for arm64 below target/tools/rust-arm64, from Debian sid: its rustc for this
# machine, its libstd-rust-dev for both processors, and the libraries that this rustc is linked with. Nothing is installed.
# What it links with is this release's: gcc-aarch64-linux-gnu and libc6-dev-arm64-cross (tests/setup/install.sh arm64).
set -euo pipefail
trap 'echo "rust-arm64: stopped at line $LINENO" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${PANNIER_TOOLS:-$root/target/tools}
to=$tools/rust-arm64
[[ ! -x $to/rustc ]] || exit 0
[[ $(uname -m) == x86_64 ]] || { echo "rust-arm64: for x86-64 machines; others have no such way" >&2; exit 1; }
# shellcheck source=tests/setup/apt.sh
. "$root/tests/setup/apt.sh"

state=$tools/apt/sid-arm64
apt_lists "$state" sid
if ! grep -q Architectures "$state/apt.conf"; then
    echo 'APT::Architectures { "amd64"; "arm64"; };' >>"$state/apt.conf"
fi
export APT_CONFIG=$state/apt.conf
apt-get -qq update

packages=(rustc libstd-rust-dev:amd64 libstd-rust-dev:arm64)
# Everything that rustc is linked with, as its packages say: the depth is that of libLLVM's libraries.
for package in $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances libstd-rust-dev:amd64 |
    sed -nE 's/^(lib[a-z0-9.+-]+|zlib1g)$/\1/p' | sort -u); do
    packages+=("$package:amd64")
done
scratch=$(mktemp -d "$tools/.unpack.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get -qq download "${packages[@]}"
for package in *.deb; do dpkg -x "$package" root; done
cat >root/rustc <<'WRAPPER'
#!/bin/sh
# rustc of Debian sid with the C library that it was built for, on a machine of another release.
root=$(dirname "$(readlink -f "$0")")
lib=$root/usr/lib/x86_64-linux-gnu
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
WRAPPER
chmod 755 root/rustc
./root/rustc -vV | sed -n 's/^release: /rust-arm64: unpacked rustc /p' >&2
rm -rf "$to"
mv root "$to"
