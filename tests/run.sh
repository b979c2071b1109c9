#!/usr/bin/env bash
# Builds the solution and runs every test project; the last line says how it went: "N passed, N failed".
#
#   tests/run.sh [--filter EXPRESSION] [PROJECT…]
#
# EXPRESSION goes to `dotnet test --filter`; PROJECT is a project's name or its last part (UnitTests). On Debian 12 and 13 the
# programs the tests need are installed first (as root, or with a sudo that asks nothing). A skipped test counts as failed, and so
# does a project that runs no test, unless a filter was given.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

# Nothing may outlive this script and hold its output open.
export MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DEBIAN_FRONTEND=noninteractive

packages=(
  gcc libc6-dev qemu-system-x86 seabios qemu-utils fio nbdkit user-mode-linux busybox-static e2fsprogs xfsprogs util-linux mount xz-utils chromium
  ceph-mon ceph-osd ceph-common librbd1
)
# What the unit tests want: a compiler for layouts, NBD servers, losetup.
unit_packages=(gcc libc6-dev nbdkit qemu-utils util-linux mount)

filter=
wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --filter) filter=${2:?--filter needs an expression}; shift 2 ;;
    -*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) wanted+=("$1"); shift ;;
  esac
done

fail() {
  echo "tests/run.sh: $*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n --preserve-env=DEBIAN_FRONTEND "$@"
  fi
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

prepare_machine() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || fail "these tests need Debian 12 or 13 (dpkg, apt-get)"
  local missing
  mapfile -t missing < <(missing_packages)
  # With a kernel: it is never installed, only downloaded, so apt has to know it.
  if [ ${#missing[@]} -gt 0 ] || { [ "$1" = with-kernel ] && ! apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; }; then
    as_root true 2>/dev/null || fail "run as root, or first: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    echo "installing: ${missing[*]:-nothing, only updating the list of packages}"
    as_root apt-get -q update >/dev/null
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    as_root apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
  fi
}

# Sets `selected` to the project files to run.
select_projects() {
  local project name want
  selected=()
  for project in tests/*Tests/*.csproj; do
    name=$(basename "$project" .csproj)
    if [ ${#wanted[@]} -eq 0 ]; then
      selected+=("$project")
      continue
    fi
    for want in "${wanted[@]}"; do
      if [ "$name" = "$want" ] || [ "${name##*.}" = "$want" ]; then
        selected+=("$project")
      fi
    done
  done
  [ ${#selected[@]} -gt 0 ] || fail "no test project is called ${wanted[*]}"
}

# counter NAME FILE: one of the counters a test run ends its report (.trx) with; 0 without a report.
counter() {
  local value
  value=$(grep -o '<Counters [^>]*' "$2" 2>/dev/null | grep -o " $1=\"[0-9]*\"" | tr -dc 0-9 || true)
  echo "${value:-0}"
}

command -v dotnet >/dev/null || fail "the .NET SDK 10 is missing: https://dotnet.microsoft.com/download"
dotnet --version >/dev/null || fail "the .NET SDK that global.json asks for is missing: https://dotnet.microsoft.com/download"
select_projects

case "${selected[*]}" in
  *EndToEndTests*)
    started=$SECONDS
    prepare_machine with-kernel
    tests/guest/build-initramfs.sh
    tests/guest/build-grub.sh
    tests/guest/fetch-blkio.sh
    echo "machine and guests are prepared ($((SECONDS - started)) s)"
    ;;
  *UnitTests*)
    packages=("${unit_packages[@]}")
    prepare_machine without-kernel
    ;;
esac

started=$SECONDS
dotnet build VirtioBlkFlow.sln -c Release -v quiet
echo "the solution is built ($((SECONDS - started)) s)"

results=tests/.cache/results
mkdir -p "$results"
passed=0
failed=0
summary=()
for project in "${selected[@]}"; do
  name=$(basename "$project" .csproj)
  report=$results/$name.trx
  rm -f "$report"
  started=$SECONDS
  code=0
  # Under nohup SIGHUP is ignored, and stays so in what the tests start; some of them send it.
  env --default-signal=HUP dotnet test "$project" --no-build -c Release ${filter:+--filter "$filter"} \
    --logger 'console;verbosity=minimal' --logger "trx;LogFileName=$name.trx" --results-directory "$results" \
    --blame-hang-timeout 10m --blame-hang-dump-type none || code=$?

  total=$(counter total "$report")
  project_passed=$(counter passed "$report")
  project_failed=$((total - project_passed))
  note=
  if [ "$total" = 0 ] && [ -z "$filter" ]; then
    project_failed=1
    note=", NO TEST WAS RUN"
  elif [ "$total" -gt "$(counter executed "$report")" ]; then
    note=", $((total - $(counter executed "$report"))) SKIPPED, which counts as failed"
  fi
  if [ $code -ne 0 ] && [ "$project_failed" = 0 ]; then
    project_failed=1
    note=", BUT dotnet test ENDED WITH EXIT CODE $code"
  fi
  passed=$((passed + project_passed))
  failed=$((failed + project_failed))
  summary+=("$name: $project_passed passed, $project_failed failed in $((SECONDS - started)) s$note")
done

printf '%s\n' "" "${summary[@]}"
if [ $((passed + failed)) -eq 0 ]; then
  echo "no test matches the filter"
  failed=1
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
