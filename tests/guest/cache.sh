# Sourced by the scripts beside it: where fetched and built test assets live, and how they get there.
# Nothing here installs anything: packages are downloaded with apt-get and unpacked into the cache.

guest_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache_dir=${VBLKFLOW_TEST_CACHE:-$(dirname "$guest_dir")/.cache}
packages_dir=$cache_dir/packages
mkdir -p "$packages_dir"

# Only one preparation at a time; the lock lives as long as the script that took it.
lock_cache() {
  exec 9>"$cache_dir/lock"
  flock 9
}

# fetch_package NAME [APT_OPTION…]: prints the path of NAME's .deb, downloading it when the cache holds none.
fetch_package() {
  local name=$1 found partial
  shift
  found=$(find "$packages_dir" -maxdepth 1 -name "${name}_*.deb" | sort | tail -n 1)
  if [ -z "$found" ]; then
    partial=$(mktemp -d "$packages_dir/partial.XXXXXX")
    # Sandbox user root: apt's own user may not write into a folder of ours.
    (cd "$partial" && apt-get -o APT::Sandbox::User=root "$@" download "$name" >&2)
    mv "$partial"/*.deb "$packages_dir/"
    rmdir "$partial"
    found=$(find "$packages_dir" -maxdepth 1 -name "${name}_*.deb" | sort | tail -n 1)
  fi
  printf '%s\n' "$found"
}

# first_dependency PATTERN NAME: the first package NAME depends on that matches PATTERN.
first_dependency() {
  apt-cache depends "$2" | awk -v pattern="$1" '$1 == "Depends:" && $2 ~ pattern { print $2; exit }'
}

# is_current FOLDER KEY / mark_current FOLDER KEY: a folder is current if it was built from what KEY names.
is_current() { [ -f "$1/key" ] && [ "$(cat "$1/key")" = "$2" ]; }
mark_current() { printf '%s' "$2" >"$1/key"; }

# publish NEW FOLDER: puts a finished folder in place, so that an interrupted build never leaves half of one.
publish() {
  rm -rf "$2"
  mv "$1" "$2"
}
