#!/usr/bin/env bash
# Makes everything that is handed out, below target/dist: `make dist`.
#
# The same tree gives the same bytes: paths are remapped, times are those of the commit, lists are sorted.
#   SOURCE_DATE_EPOCH   seconds since 1970 that every time is set to [the commit's]
#   TARGETS             x86_64-unknown-linux-gnu and, where tests/setup/install.sh arm64 ran, aarch64-unknown-linux-gnu [the machine's]
#   SIGN_KEY            an SSH key that signs SHA256SUMS (`ssh-keygen -Y sign`, namespace pannier-release-v1)
#   PROFILE             release, or dev for one that is built faster
#   PROGRAM             a static program that is packed instead of one that is built, to try the packaging
#   DIST                where it all goes [target/dist]
set -euo pipefail
trap 'echo "dist: stopped at line $LINENO" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
tools=${PANNIER_TOOLS:-$root/target/tools}
export PATH=$tools/cargo-deb/bin:$tools/cargo-generate-rpm/bin:$tools/cargo-cyclonedx/bin:$PATH
host=$(rustc -vV | sed -n 's/^host: //p')
targets=${TARGETS:-$host}
profile=${PROFILE:-release}
out=${DIST:-$root/target/dist}
version=$(sed -nE 's/^version = "(.*)"/\1/p' Cargo.toml | head -n 1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export TZ=UTC LC_ALL=C
umask 022

say() { printf 'dist: %s\n' "$*" >&2; }

# Whatever a program or a debugger would be told of this machine: where the tree, the crates and the toolchain are.
remap() {
    local from
    for from in "$root=/pannier" "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$(rustc --print sysroot)=/rust"; do printf '%s\n' "$from"; done
}

build() { # TARGET
    local target=$1 flags='' c='' from variable linker=()
    for from in $(remap); do
        flags+=" --remap-path-prefix=$from"
        c+=" -ffile-prefix-map=$from"
    done
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUSTFLAGS
    [[ $target == "$host" ]] || linker=("RUSTC=$tools/rust-arm64/rustc" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc)
    say "cargo build $target"
    env "${linker[@]}" "$variable=-C target-feature=+crt-static$flags" "CFLAGS_${target//-/_}=$c" \
        cargo build --locked --profile "$profile" --bin pannier --target "$target" --target-dir "$root/target/dist-build"
}

# What a package puts where.
stage() { # TARGET ROOT
    local target=$1 to=$2 folder=${profile/#dev/debug} file
    local program=${PROGRAM:-$root/target/dist-build/$target/$folder/pannier}
    rm -rf "$to"
    install -Dm755 "$program" "$to/usr/bin/pannier"
    "${strip[@]}" --strip-unneeded --remove-section=.comment "$to/usr/bin/pannier"
    # Of another processor's program the texts are the same as of this one's.
    install -d "$to/usr/share/man/man1" "$to/usr/share/doc/pannier" "$to/usr/lib/systemd/system" "$to/usr/lib/udev/rules.d"
    "$own" man --out "$to/usr/share/man/man1" >/dev/null
    for file in "$to"/usr/share/man/man1/*.1; do gzip -9n "$file"; done
    install -d "$to/usr/share/bash-completion/completions" "$to/usr/share/zsh/vendor-completions" "$to/usr/share/fish/vendor_completions.d"
    "$own" completions bash >"$to/usr/share/bash-completion/completions/pannier"
    "$own" completions zsh >"$to/usr/share/zsh/vendor-completions/_pannier"
    "$own" completions fish >"$to/usr/share/fish/vendor_completions.d/pannier.fish"
    "$own" --quiet install-units --root "$to/units" --program /usr/bin/pannier >/dev/null
    mv "$to"/units/etc/systemd/system/* "$to/usr/lib/systemd/system/"
    mv "$to"/units/etc/udev/rules.d/* "$to/usr/lib/udev/rules.d/"
    rm -r "$to/units"
    install -Dm644 packaging/lintian-overrides "$to/usr/share/lintian/overrides/pannier"
    changelog | gzip -9n >"$to/usr/share/doc/pannier/changelog.gz"
    find "$to" -type f ! -perm -u+x -exec chmod 644 {} +
    find "$to" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}

changelog() {
    printf 'pannier (%s) unstable; urgency=medium\n\n  * What changed is in CHANGELOG.md of the sources.\n\n -- %s  %s\n' \
        "$version" "$(sed -nE 's/^maintainer = "(.*)"/\1/p' Cargo.toml)" "$(date -R --date "@$SOURCE_DATE_EPOCH")"
}

# CycloneDX, without what differs from run to run.
sbom() { # TARGET FILE
    cargo cyclonedx --quiet --format json --target "$1" --override-filename sbom >/dev/null
    python3 - sbom.json "$2" "$root" <<'PYTHON'
import json, os, sys, time
text = open(sys.argv[1]).read().replace("file://" + sys.argv[3], "file:///pannier").replace(sys.argv[3], "/pannier")
document = json.loads(text)
document.pop("serialNumber", None)
epoch = int(os.environ["SOURCE_DATE_EPOCH"])
document["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
with open(sys.argv[2], "w") as file:
    json.dump(document, file, indent=1, sort_keys=True)
    file.write("\n")
PYTHON
    rm -f sbom.json
}

own=${PROGRAM:-$root/target/dist-build/$host/${profile/#dev/debug}/pannier}
[[ -n ${PROGRAM:-} ]] || build "$host"
rm -rf "$out"
mkdir -p "$out"
for target in $targets; do
    arch=${target%%-*} strip=(strip)
    [[ $target == "$host" ]] || strip=(aarch64-linux-gnu-strip)
    [[ $target == "$host" ]] || build "$target"
    # Where the assets of Cargo.toml's metadata are taken from.
    stage "$target" "$root/target/dist-root"
    if readelf --wide --program-headers target/dist-root/usr/bin/pannier | grep -q INTERP; then
        say "the program needs a loader: it is not static"
        exit 1
    fi
    install -m755 target/dist-root/usr/bin/pannier "$out/pannier-$version-$arch"
    cargo deb --quiet --no-build --no-strip --target "$target" --output "$out/"
    cargo generate-rpm --target "$target" --arch "$arch" --payload-compress gzip --source-date "$SOURCE_DATE_EPOCH" --output "$out/"
    sbom "$target" "$out/pannier-$version-$arch.cdx.json"
done
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu -C target/dist-root/usr/share \
    -cf - man bash-completion zsh fish | gzip -9n >"$out/pannier-$version-man-and-completions.tar.gz"
(cd "$out" && sha256sum -- * >SHA256SUMS)
if [[ -n ${SIGN_KEY:-} ]]; then
    ssh-keygen -q -Y sign -n pannier-release-v1 -f "$SIGN_KEY" "$out/SHA256SUMS"
fi
find "$out" -exec touch --date "@$SOURCE_DATE_EPOCH" {} +
cat "$out/SHA256SUMS"
