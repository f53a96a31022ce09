# Sourced: apt with package lists of our own, for suites that this machine does not follow. Nothing of the system's apt changes.
# shellcheck shell=bash

# The mirror and keyring this machine's own apt uses for LABEL (Debian, Debian-Security), as "URI|KEYRING" (no keyring: apt's trusted set).
apt_mirror() {
    local label=$1 line uri file keyring query
    # shellcheck disable=SC2016 # apt's own fields
    query=(apt-get indextargets --format '$(REPO_URI) $(SOURCESENTRY)' 'Created-By: Packages' 'Origin: Debian' "Label: $label")
    line=$("${query[@]}" | head -n 1)
    if [[ -z $line && $(id -u) == 0 ]]; then # a machine whose lists were never fetched does not know its labels
        apt-get -qq update >&2 || true
        line=$("${query[@]}" | head -n 1)
    fi
    [[ -n $line ]] || return 1
    uri=${line%% *} file=${line#* } file=${file%:*}
    keyring=$(sed -nE 's/^[Ss]igned-[Bb]y: *(\/.*)$/\1/p; s/^deb .*\[.*signed-by=(\/[^] ]*).*$/\1/p' "$file" | head -n 1)
    printf '%s|%s\n' "$uri" "$keyring"
}

# Fetches the lists of the suites into the folder STATE; afterwards APT_CONFIG=STATE/apt.conf makes apt use them alone.
# Once a run only.
apt_fetched=' '
apt_lists() { # STATE SUITE...
    local state=$1 suite label mirror keyring
    shift
    [[ $apt_fetched == *" $state "* ]] && return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/sources.list"
    for suite in "$@"; do
        label=Debian
        [[ $suite == *-security ]] && label=Debian-Security
        if ! mirror=$(apt_mirror "$label"); then
            echo "this machine's apt has no source labelled $label, so the mirror for $suite is not known" >&2
            return 1
        fi
        keyring=${mirror#*|}
        printf 'deb %s%s %s main\n' "${keyring:+[signed-by=$keyring] }" "${mirror%%|*}" "$suite" >>"$state/sources.list"
    done
    cat >"$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$state/lists";
Dir::Cache "$state/cache";
APT::Sandbox::User "root";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
    APT_CONFIG=$state/apt.conf apt-get -qq update >&2 || return 1
    apt_fetched+="$state "
}
