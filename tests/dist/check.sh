#!/usr/bin/env bash
# Looks at what `make dist` made, below target/dist: sums, signature, lintian, and the packages installed, run and removed
# in bare roots of Debian 12 and 13, which mmdebstrap makes below target/tools/debian. As root.
set -euo pipefail
trap 'echo "dist: FAILED at line $LINENO" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${PANNIER_TOOLS:-$root/target/tools}
dist=${DIST:-$root/target/dist}
# shellcheck source=tests/setup/apt.sh
. "$root/tests/setup/apt.sh"
say() { printf 'dist: %s\n' "$*"; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
say "SHA256SUMS are right"
if [[ -e $dist/SHA256SUMS.sig ]]; then
    ssh-keygen -Y check-novalidate -n pannier-release-v1 -s "$dist/SHA256SUMS.sig" <"$dist/SHA256SUMS" >/dev/null
    say "the signature is over SHA256SUMS"
fi
for program in "$dist"/pannier-*-x86_64; do
    # REHEARSAL: one that was packed with PROGRAM was built without remapped paths.
    if [[ -z ${REHEARSAL:-} ]] && strings "$program" | grep -q -F -e "$root" -e "$HOME/.cargo"; then
        say "$program tells where it was built"
        exit 1
    fi
done
for sbom in "$dist"/*.cdx.json; do
    python3 - "$sbom" <<'PYTHON'
import json, sys
document = json.load(open(sys.argv[1]))
names = {component["name"] for component in document["components"]}
assert document["bomFormat"] == "CycloneDX" and len(names) > 50 and {"zstd", "containerd-client"} <= names, names
PYTHON
done
say "the lists of what is in it name the crates"

# Errors and warnings; what is overridden is said in packaging/lintian-overrides, with why.
for package in "$dist"/*.deb; do
    lintian --allow-root --fail-on error,warning "$package"
done
say "lintian is content"

for package in "$dist"/*.rpm; do
    rpm -qp --nosignature --qf '%{NAME} %{VERSION} %{ARCH} %{LICENSE}\n' "$package"
    [[ $(rpm -qlp --nosignature "$package") == *"/usr/bin/pannier"* ]]
    # Nothing that a machine without a network would have to get first.
    if rpm -qp --nosignature --requires "$package" | grep -v -e '^rpmlib(' -e '^/bin/sh$'; then exit 1; fi
done

bare() { # SUITE: the path of a root with nothing but what is essential and apt
    local suite=$1 tarball=$tools/debian/$1.tar mirror
    if [[ ! -e $tarball ]]; then
        mkdir -p "$tools/debian"
        mirror=$(apt_mirror Debian)
        mmdebstrap --quiet --variant=apt --aptopt='APT::Sandbox::User "root"' --format=tar "$suite" "$tarball.new" \
            "deb ${mirror:+[signed-by=${mirror#*|}] }${mirror%%|*} $suite main" >&2
        mv "$tarball.new" "$tarball"
    fi
    mkdir -p "$scratch/$suite"
    tar -C "$scratch/$suite" -xf "$tarball"
    printf '%s\n' "$scratch/$suite"
}

files_of() { find "$1" -xdev \( -path "$1/proc" -o -path "$1/var/lib/dpkg" -o -path "$1/var/log" -o -path "$1/var/cache" -o -path "$1/var/lib/apt" \) -prune -o -print | sed "s|^$1||" | sort; }

for suite in bookworm trixie; do
    at=$(bare "$suite")
    files_of "$at" >"$scratch/before"
    cp "$dist"/*_amd64.deb "$at/tmp/pannier.deb"
    cp -r "$root/fixtures/layout-edition-1" "$root/fixtures/vectors/0.1.0/plain" "$at/tmp/"
    inside() { chroot "$at" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
    inside dpkg --install /tmp/pannier.deb >/dev/null
    # The demo: a set onto a medium, which is whole; and what another machine wrote.
    inside pannier --quiet export --from oci:/tmp/layout-edition-1 --all --platform linux/amd64 --to /tmp/stick
    inside pannier --quiet verify --deep /tmp/stick
    inside pannier list /tmp/stick | grep -q docker.io/library/app:1
    inside pannier --quiet verify --deep /tmp/plain
    for file in /usr/share/man/man1/pannier.1.gz /usr/share/bash-completion/completions/pannier /usr/lib/systemd/system/pannier-watch.service; do
        [[ -e $at$file ]] || { say "$suite: $file is missing"; exit 1; }
    done
    grep -q 'ExecStart=/usr/bin/pannier watch' "$at/usr/lib/systemd/system/pannier-watch.service"
    inside dpkg --purge pannier >/dev/null
    rm -rf "$at"/tmp/*
    files_of "$at" >"$scratch/after"
    diff "$scratch/before" "$scratch/after"
    say "$suite: installed, run, removed, nothing left"
done
say "passed"
