#!/usr/bin/env bash
# Installs what building and testing Pannier needs and is missing here.
# Usage: tests/setup/install.sh [build|node|peers|faults|lint|fuzz|heap|dist|arm64|all]...    (none: all but fuzz, heap, dist and arm64)
#
# Programs of this Debian release come from apt. Those of other releases are unpacked, never installed,
# below target/tools (or $PANNIER_TOOLS), from a sources list and package lists of their own.
set -euo pipefail
trap 'echo "install: stopped at line $LINENO" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${PANNIER_TOOLS:-$root/target/tools}
# shellcheck source=tests/setup/apt.sh
. "$root/tests/setup/apt.sh"
policy=/usr/sbin/policy-rc.d
missing=() # packages that this machine lacks
failed=()  # what could not be had, one line each

say() { printf 'install: %s\n' "$*" >&2; }

packages_of() {
    case $1 in
        build) echo gcc libc6-dev make git pkg-config protobuf-compiler libprotobuf-dev python3 ;;
        node) echo crun util-linux ;;
        peers) echo skopeo docker-registry squid umoci zstd gzip pigz apache2-utils openssl openssh-client python3 python3-zstandard python3-jsonschema time ;;
        faults) echo strace faketime systemd exfat-fuse exfatprogs e2fsprogs squashfs-tools erofs-utils fuse3 ;;
        lint) echo shellcheck python3 ;;
        fuzz) echo g++ python3 ;;
        heap) echo heaptrack python3 ;;
        dist) echo lintian mmdebstrap openssh-client rpm python3 ;;
        arm64) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static binutils ;;
        *)
            say "unknown group '$1': build, node, peers, faults, lint, fuzz, heap, dist, arm64, all"
            exit 2
            ;;
    esac
}

# Pinned: a newer one may find something new in an unchanged tree, or want a newer Rust.
cargo_deny=0.20.2
cargo_fuzz=0.13.2
cargo_deb=3.8.0
cargo_generate_rpm=0.21.1
cargo_cyclonedx=0.5.9

# The containerds are unpacked, the one of this release too: installing it would remove Docker's own where that is in use.
unpacked_of() {
    case $1 in
        node)
            unpack containerd-1.6 containerd 1.6 bookworm
            unpack containerd-1.7 containerd 1.7 trixie
            unpack containerd-2.1 containerd 2.1+ forky sid
            ;;
        peers)
            unpack crane crane '' forky sid
            unpack oras oras '' forky sid
            ;;
    esac
}

# ---- packages of this release, by apt -----------------------------------------------------------------------------

# One dpkg-query for all: its start is most of its time.
find_missing() {
    local present
    present=" $({ dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^installed //p' | tr '\n' ' ') "
    local package
    for package in "$@"; do
        [[ $present == *" $package "* ]] || missing+=("$package")
    done
}

# Servers start when their package is installed; policy-rc.d forbids that for as long as the installation takes.
block_services() {
    if [[ -e $policy && ! -e $policy.before-pannier ]] && ! grep -qs 'pannier tests/setup' "$policy"; then
        mv "$policy" "$policy.before-pannier"
    fi
    printf '#!/bin/sh\n# pannier tests/setup/install.sh, while it installs\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

unblock_services() {
    if [[ -e $policy.before-pannier ]]; then
        mv "$policy.before-pannier" "$policy"
    elif grep -qs 'pannier tests/setup' "$policy"; then
        rm -f "$policy"
    fi
}

apt_install() {
    if [[ $(id -u) != 0 ]]; then
        failed+=("not root, so not installed; run: sudo apt-get install --no-install-recommends $*")
        return
    fi
    exec 9>/run/lock/pannier-install.lock
    flock 9 # two runs at once would restore each other's policy-rc.d
    trap unblock_services EXIT
    block_services
    say "apt-get install $*"
    local log
    log=$(mktemp)
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-remove --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install "$@"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        failed+=("apt-get could not install: $*")
    fi
    rm -f "$log"
    unblock_services
    trap - EXIT
    # On a booted machine a new server is also enabled for the next boot: not wanted either. Only those just installed.
    if [[ -d /run/systemd/system ]]; then
        local package
        for package in "$@"; do
            case $package in docker-registry | squid) systemctl disable --quiet "$package" || true ;; esac
        done
    fi
    exec 9>&-
}

# ---- programs of other releases, unpacked -------------------------------------------------------------------------

# Whether VERSION (1:2.1.9+ds1-5) is of the series EXPECTED: "" any, "1.7" that one, "2.1+" 2.1 or a later 2.x.
in_series() {
    local version=${1#*:} expected=$2
    [[ -n $expected ]] || return 0
    local want_major=${expected%%.*} want_minor=${expected#*.} major minor
    major=${version%%.*} minor=${version#*.} minor=${minor%%[!0-9]*}
    [[ $major == "$want_major" ]] || return 1
    case $want_minor in
        *+) ((minor >= ${want_minor%+})) ;;
        *) [[ $minor == "$want_minor" ]] ;;
    esac
}

unpack() { # FOLDER PACKAGE EXPECTED SUITE...: the first suite whose version fits, into target/tools/FOLDER
    local folder=$tools/$1 package=$2 expected=$3 suite version='' seen='' scratch
    shift 3
    [[ -e $folder/.version ]] && return
    for suite in "$@"; do
        apt_lists "$tools/apt/$suite" "$suite" || { seen+=" $suite: no package lists;" && continue; }
        version=$(APT_CONFIG=$tools/apt/$suite/apt.conf apt-cache show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p' | head -n 1)
        in_series "${version:-0.0}" "$expected" && break
        seen+=" $suite has ${version:-none};"
        version=
    done
    if [[ -z $version ]]; then
        failed+=("no $package${expected:+ of series $expected} found:$seen nothing unpacked into ${folder#"$root"/}")
        return
    fi
    if [[ -n $expected && $version != "${expected%+}".* && $version != *:"${expected%+}".* ]]; then
        say "NOTE: $package $version ($suite) stands in for ${expected%+}, which $suite no longer has"
    fi
    scratch=$(mktemp -d "$tools/.unpack.XXXXXX")
    if ! (cd "$scratch" && APT_CONFIG=$tools/apt/$suite/apt.conf apt-get -qq download "$package=$version" && dpkg -x ./*.deb new); then
        rm -rf "$scratch"
        failed+=("$package $version from $suite could not be fetched")
        return
    fi
    printf '%s %s %s\n' "$package" "$version" "$suite" >"$scratch/new/.version"
    rm -rf "$folder"
    mv "$scratch/new" "$folder"
    rm -rf "$scratch"
    say "unpacked $package $version ($suite)"
}

# ---- from crates.io -----------------------------------------------------------------------------------------------

# Not optimised and without debug information: it runs for a second, and building it is what takes time.
build_cargo_tool() { # NAME VERSION
    local name=$1 version=$2 folder=$tools/$1
    [[ -e $folder/.version && $(<"$folder/.version") == "$version" ]] && return
    command -v cargo >/dev/null || return 0 # said at the end
    say "cargo install $name (a few minutes, once)"
    if CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --force --root "$folder" --version "$version" "$name" >&2; then
        echo "$version" >"$folder/.version"
    else
        failed+=("$name $version could not be built")
    fi
}

# ---- what is needed on a machine that is not Debian ---------------------------------------------------------------

commands_of() {
    case $1 in
        build) echo gcc make git pkg-config protoc python3 ;;
        node) echo crun unshare ;;
        peers) echo skopeo docker-registry squid umoci zstd gzip pigz htpasswd openssl ;;
        faults) echo strace faketime systemd-analyze mount.exfat-fuse mkfs.exfat mkfs.ext4 mksquashfs mkfs.erofs fusermount3 setpriv losetup ;;
        lint) echo shellcheck python3 ;;
        fuzz) echo g++ python3 ;;
        heap) echo heaptrack python3 ;;
        dist) echo lintian mmdebstrap ssh-keygen rpm python3 ;;
        arm64) echo aarch64-linux-gnu-gcc qemu-aarch64-static ;;
        *) packages_of "$1" ;; # says that the group is unknown
    esac
}

elsewhere() {
    local group command PATH=$PATH:/usr/sbin:/sbin
    for group in "$@"; do
        for command in $(commands_of "$group"); do
            command -v "$command" >/dev/null || failed+=("$group needs the command '$command'")
        done
        case $group in
            node) for command in 1.6 1.7 2.1; do
                [[ -x $tools/containerd-$command/usr/bin/containerd ]] ||
                    failed+=("node needs containerd $command at $tools/containerd-$command/usr/bin/{containerd,ctr,containerd-shim-runc-v2}")
            done ;;
            peers) for command in crane oras; do
                [[ -x $tools/$command/usr/bin/$command ]] || failed+=("peers needs $tools/$command/usr/bin/$command")
            done ;;
        esac
    done
}

# ---- main ---------------------------------------------------------------------------------------------------------

groups=("$@")
[[ ${#groups[@]} -gt 0 && " ${groups[*]} " != *" all "* ]] || groups=(build node peers faults lint)
mkdir -p "$tools"

# shellcheck disable=SC1091
distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown}")
if [[ $distribution == debian ]]; then
    wanted=()
    for group in "${groups[@]}"; do
        # shellcheck disable=SC2207 # a list of plain words
        wanted+=($(packages_of "$group"))
    done
    if [[ $(id -u) == 0 ]] && grep -qs 'pannier tests/setup' "$policy"; then # left by a run that was killed, or another at work
        (flock 9 && unblock_services) 9>/run/lock/pannier-install.lock
    fi
    find_missing "${wanted[@]}"
    [[ ${#missing[@]} == 0 ]] || apt_install "${missing[@]}"
    exec 8>"$tools/.lock"
    flock 8
    for group in "${groups[@]}"; do unpacked_of "$group"; done
else
    say "this machine runs '$distribution'; packages are installed on Debian only, so here only what is absent is named"
    elsewhere "${groups[@]}"
fi
[[ " ${groups[*]} " != *" lint "* ]] || build_cargo_tool cargo-deny "$cargo_deny"
[[ " ${groups[*]} " != *" fuzz "* ]] || build_cargo_tool cargo-fuzz "$cargo_fuzz"
if [[ " ${groups[*]} " == *" dist "* ]]; then
    build_cargo_tool cargo-deb "$cargo_deb"
    build_cargo_tool cargo-generate-rpm "$cargo_generate_rpm"
    build_cargo_tool cargo-cyclonedx "$cargo_cyclonedx"
fi

if [[ " ${groups[*]} " =~ " "(build|lint|fuzz|dist)" " ]] && ! command -v cargo >/dev/null; then
    failed+=("no cargo: get Rust from https://rustup.rs, or the distribution's rustc and cargo where they are as new as Cargo.toml's rust-version")
fi

if [[ ${#failed[@]} -gt 0 ]]; then
    say "NOT COMPLETE:"
    printf 'install:   - %s\n' "${failed[@]}" >&2
    exit 1
fi
