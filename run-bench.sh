#!/usr/bin/env bash
# Runs the benchmarks and keeps their results with the machine they ran on. See perf/README.md.
set -euo pipefail

cd "$(dirname "$0")"
exec < /dev/null

usage() {
  cat <<'TEXT'
Usage: ./run-bench.sh MODE [ARGUMENT…]

  quick           vblkflow beside qemu-storage-daemon and fio, three cells: two minutes
  full            the same with all cells and six restarts of each server: the better part of an hour
  compare PEER…   the same against the peers named: qemu-storage-daemon, fio, or NAME=COMMAND
                  for any other server, where COMMAND has {socket} and {file}
  self            vblkflow beside itself with one thing changed (merging, a shared core, sizes, queues, neighbours, …),
                  its start, its memory, and what it does when idle: half an hour
  study           pipeline architectures compared: a hand-written loop, our blocks, stock blocks on
                  the reactor, batches and requests on the thread pool; in one process, then each
                  as a server on a socket: the better part of an hour
  micro           ratios of pipeline and hand-written loop, and BenchmarkDotNet at full length: an hour
  --help          this text

ARGUMENTs of quick, full, compare and study go to the comparison, over what the mode has set:
  --cells BEGINNINGS  --peer NAME=COMMAND  --restarts N  --runs N  --seconds N  --file-mib N
  --server-cpu LIST  --client-cpu LIST  --our-options "OPTIONS"  (study: without --our-options)
Of study alone:
  --rounds N          turns of each architecture in one process; default 300
Those of self:
  --cells BEGINNINGS  --published PATH  --restarts N  --runs N  --seconds N  --idle-seconds N  --settle-seconds N
  --file-mib N  --server-cpu LIST  --client-cpu LIST

Environment:
  BENCH_OUT           folder for results; default: perf/results/TIME for full, else artifacts/bench/TIME
  VBLKFLOW_BENCH_DIR  folder for the test file; default: BENCH_OUT. Not on tmpfs
  BENCH_BUILD_ARGS    more arguments for dotnet build, such as --artifacts-path DIR
TEXT
}

mode="${1:-}"
case "$mode" in
  quick | full | compare | self | study | micro) shift ;;
  --help | -h) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
if [ "$mode" = micro ] && [ $# -gt 0 ]; then
  usage >&2
  exit 2
fi

rounds=300
if [ "$mode" = study ]; then
  # Not the comparison's: taken out of the arguments.
  rest=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --rounds) rounds="${2:?--rounds takes a number}"; shift 2 ;;
      --rounds=*) rounds="${1#--rounds=}"; shift ;;
      *) rest+=("$1"); shift ;;
    esac
  done
  set -- "${rest[@]}"
fi

time="$(date -u +%Y%m%dT%H%M%SZ)"
if [ "$mode" = full ]; then
  out="${BENCH_OUT:-perf/results/$time}"
else
  out="${BENCH_OUT:-artifacts/bench/$time}"
fi
mkdir -p "$out"
out="$(realpath "$out")"
export VBLKFLOW_BENCH_DIR="${VBLKFLOW_BENCH_DIR:-$out}"

# build PROJECT: prints where its output is.
build() {
  # Split on purpose: several arguments.
  # shellcheck disable=SC2086
  dotnet build "$1" -c Release -v quiet --nologo ${BENCH_BUILD_ARGS:-} >&2
  # shellcheck disable=SC2086
  dotnet build "$1" -c Release ${BENCH_BUILD_ARGS:-} -getProperty:TargetPath
}

program="$(build perf/VirtioBlkFlow.Benchmarks)"
daemon="$(build src/VirtioBlkFlow.Daemon)"
daemon="${daemon%.dll}"

# given OPTION ARGUMENT…: whether the option is among the arguments.
given() {
  local option="$1" argument
  shift
  for argument in "$@"; do
    if [ "$argument" = "$option" ] || [ "${argument%%=*}" = "$option" ]; then
      return 0
    fi
  done
  return 1
}

# measure COMMAND DEFAULTS… -- ARGUMENTS…: an option given is not set again.
measure() {
  local command="$1" settings=()
  shift
  while [ "$1" != -- ]; do
    if ! given "$1" "${@:3}"; then
      settings+=("$1" "$2")
    fi
    shift 2
  done
  shift
  dotnet "$program" "$command" --program "$daemon" --folder "$VBLKFLOW_BENCH_DIR" --json "$out/$command.json" "${settings[@]}" "$@" | tee "$out/$command.txt"
}

# What the figures of micro belong to; the comparison writes its own.
machine() {
  {
    echo "command: ./run-bench.sh $mode"
    echo "time: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "commit: $(git rev-parse HEAD 2> /dev/null || echo unknown)$(test -z "$(git status --porcelain -- src perf 2> /dev/null)" || echo ', with local changes')"
    echo "kernel: $(uname -s) $(uname -r | sed "s,-.*,,") $(uname -m)"
    echo "cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "memory: $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "file system: $(stat -f -c %T "$VBLKFLOW_BENCH_DIR")"
    echo "dotnet: SDK $(dotnet --version)"
    echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg)"
  } | tee "$out/machine.txt"
}

case "$mode" in
  quick)
    measure compare --cells quick --restarts 3 --runs 1 --seconds 2 --file-mib 256 -- "$@"
    ;;
  full)
    measure compare --cells full --restarts 6 --runs 2 --seconds 2 --file-mib 1024 -- "$@"
    ;;
  compare)
    measure compare --cells full --restarts 3 --runs 2 --seconds 2 --file-mib 1024 -- "$@"
    ;;
  self)
    measure self --cells full --restarts 6 --runs 1 --seconds 2 --file-mib 512 -- "$@"
    ;;
  study)
    # .NET's libraries, the stock blocks among them, are compiled here like everything else: as they are delivered they would stay slower.
    export DOTNET_ReadyToRun=0
    dotnet "$program" study --rounds "$rounds" --json "$out/study.json" | tee "$out/study.txt"
    # By a variable, which the shell that starts a server puts in: where programs lie on this machine is nobody's business in results.
    export STUDY_PROGRAM="$program"
    contestants=()
    for variant in our-blocks hand-written stock-blocks pool-batches pool-requests; do
      serve="dotnet \"\$STUDY_PROGRAM\" serve $variant --socket-path {socket}"
      for disk in "null=$serve --disk null" "cache=$serve --blk-file {file}" "direct=$serve --blk-file {file} --direct"; do
        test "$variant" != our-blocks || contestants+=(--ours)
        contestants+=("$variant@$disk")
      done
    done
    cells=null-randread-4k-qd1,null-randread-4k-qd8,null-randread-4k-qd32,null-randread-4k-qd128,cache-randread-4k-qd1,cache-randread-4k-qd32
    measure compare --cells "$cells" --restarts 6 --runs 2 --seconds 2 --file-mib 1024 -- "${contestants[@]}" "$@"
    ;;
  micro)
    machine
    dotnet "$program" ratio --disk null --rounds 300 --json "$out/ratio-null.json" | tee "$out/ratio-null.txt"
    dotnet "$program" ratio --disk file --rounds 300 --json "$out/ratio-file.json" | tee "$out/ratio-file.txt"
    dotnet "$program" --filter '*' --artifacts "$out/benchmarkdotnet" --exporters json
    echo "load after: $(cut -d ' ' -f 1-3 /proc/loadavg)" | tee -a "$out/machine.txt"
    ;;
esac
echo "Results: $out"
