#!/bin/sh
# The OCI runtime of the tests' nodes (BinaryName in containerd's configuration): crun, taking newer specs than it knows.
# containerd 1.7 and later mark a bundle as runtime spec 1.2, which crun 1.8 (Debian 12) refuses for that number alone:
# nothing that a test pod uses came after 1.0. `base_runtime_spec` does not help, sandboxes do not follow it.
previous=
for argument in "$@"; do
    if [ "$previous" = --bundle ]; then
        sed -i 's/"ociVersion": *"1\.[1-9][^"]*"/"ociVersion":"1.0.2"/' "$argument/config.json"
    fi
    previous=$argument
done
exec crun "$@"
