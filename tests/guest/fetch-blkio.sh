#!/usr/bin/env bash
# Fetches libblkio and nbdkit's plug-in for it, which Debian has from release 13 on, into <cache>/blkio. On Debian 12 they are
# loaded from there with LD_LIBRARY_PATH; nothing of Debian 13 gets installed. libblkio's examples are built as small clients.
set -euo pipefail
. "$(dirname "$0")/cache.sh"
lock_cache

out=$cache_dir/blkio
suite=trixie

key=$(cat "$guest_dir/cache.sh" "$guest_dir/fetch-blkio.sh" | sha256sum | cut -d' ' -f1)
if is_current "$out" "$key"; then
  exit 0
fi

work=$(mktemp -d "$cache_dir/blkio.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The mirror is the machine's own: the first http source of Debian's archive that apt knows.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -v -e security -e '^file:' | grep -m 1 debian || true)
mkdir -p "$work"/apt/{lists,cache}/partial
cat >"$work/apt/$suite.sources" <<SOURCES
Types: deb
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
apt_options=(
  -o "Dir::State::Lists=$work/apt/lists"
  -o "Dir::Cache=$work/apt/cache"
  -o "Dir::Etc::SourceList=$work/apt/$suite.sources"
  -o "Dir::Etc::SourceParts=/dev/null"
  -o "Acquire::Languages=none"
  -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"
  -o "APT::Sandbox::User=root"
)
apt-get "${apt_options[@]}" -q update >&2

mkdir "$work/out"
for package in libblkio1 libblkio-dev nbdkit; do
  dpkg -x "$(fetch_package "$package" "${apt_options[@]}")" "$work/out"
done

lib=$work/out/usr/lib/x86_64-linux-gnu
examples=$work/out/usr/share/doc/libblkio-dev/examples
mkdir "$work/out/bin"
for example in blkio-info blkio-copy blkio-bench; do
  gcc -O2 -I "$work/out/usr/include" -o "$work/out/bin/$example" "$examples/$example.c" -L "$lib" -lblkio -pthread
done
mark_current "$work/out" "$key"
publish "$work/out" "$out"
echo "fetched libblkio and nbdkit's plug-in from Debian's $suite"
