#!/usr/bin/env bash
# Fuzzes the device for as long as you like: prints cases a second by generator, and each finding with the command that replays it.
#
#   tests/fuzz.sh MINUTES [SEED [GENERATOR...]]
#   tests/fuzz.sh --replay GENERATOR:SEED     one round, ten times: what depends on a race shows in some runs only
#
# The exit code is 1 when something was found.
set -euo pipefail
cd "$(dirname "$0")/.."
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1

project=tests/VirtioBlkFlow.FuzzTests
case ${1:-} in
  --replay) arguments=(replay "${2:?--replay needs a round: GENERATOR:SEED}") ;;
  [0-9]*) arguments=(hunt "$@") ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

dotnet build "$project" -c Release -v quiet
exec dotnet exec "$project/bin/Release/net10.0/VirtioBlkFlow.FuzzTests.dll" "${arguments[@]}"
