#!/usr/bin/env bash
# What runs on each TPU VM: setup | start ARGS... | status | stop | end | log; tpu_vm.sh calls it by ssh.
# A run is one process group with its files beside the source tree: run.pid, run.log, run.status.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

PYTHON=${LILITH_PYTHON:-$PWD/.venv/bin/python}
STOP_SECONDS=${LILITH_STOP_SECONDS:-600}

# The number in run.pid may be another process's after a reboot.
alive() { [[ -f run.pid && $(ps -ww -o args= -p "$(<run.pid)" 2>/dev/null) == *'worker.sh supervise'* ]]; }

# setup WORKDIR: Python 3.11 and the packages that the tests ran with; then can this VM write there?
setup() {
  python3 -m pip install --quiet --user uv
  [[ -x .venv/bin/python ]] || python3 -m uv venv --quiet --python 3.11 .venv
  python3 -m uv pip install --quiet --python .venv/bin/python --constraint constraints.txt \
    --editable '.[tpu,gcs]'
  local probe
  probe=$1/write_probe_$(hostname)_$$
  if ! printf 'x' | gcloud storage cp - "$probe" --quiet || ! gcloud storage rm "$probe" --quiet; then
    echo "error: this TPU VM can not write to $1: give its service account the role roles/storage.objectUser on the bucket" >&2
    exit 2
  fi
  echo "lilith: set up"
}

# start ARGS...: the command, unless it is running already. SIGTERM is passed on: the run saves.
start() {
  if alive; then
    echo "lilith: running"
    return
  fi
  rm -f run.status run.requested
  setsid bash "${BASH_SOURCE[0]}" supervise "$@" >>run.log 2>&1 </dev/null &
  echo "$!" >run.pid
  echo "lilith: running"
}

supervise() {
  local child code=0 stopped='' interrupted=''
  # Without its TPU a worker must fail, not train on its CPU.
  JAX_PLATFORMS=${JAX_PLATFORMS:-tpu,cpu} PYTHONUNBUFFERED=1 "$PYTHON" -m experiments.run "$@" &
  child=$!
  trap 'stopped=yes interrupted=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  # A signal ends a wait with a code of its own: then wait again, for the child's.
  while :; do
    code=0 interrupted=''
    wait "$child" || code=$?
    if [[ -z $interrupted ]] || ((code <= 128)); then break; fi
  done
  # A run that was told to stop ends with code 0 as a finished one does: they must not look alike.
  if [[ -f run.requested ]]; then
    echo "requested $code" >run.status
  elif [[ $stopped ]]; then
    echo "stopped $code" >run.status
  else
    echo "exit $code" >run.status
  fi
}

status() {
  if alive; then
    echo 'lilith: running'
  elif [[ -f run.status ]]; then
    echo "lilith: $(<run.status)"
  elif [[ -f run.pid ]]; then
    echo 'lilith: exit 137' # killed with its supervisor
  else
    echo 'lilith: none'
  fi
}

# terminate: SIGTERM, and wait; 1 if the run outlives the time.
terminate() {
  local ticks=0
  alive || return 0
  kill -TERM "$(<run.pid)"
  while alive; do
    ((ticks < STOP_SECONDS * 10)) || return 1
    sleep 0.1
    ticks=$((ticks + 1))
  done
}

stop() {
  if alive; then touch run.requested; fi
  terminate || {
    echo "error: the run did not end within $STOP_SECONDS s; it is still saving, or hangs" >&2
    exit 1
  }
  status
}

# end: for a run whose other hosts have failed; what hangs is killed.
end() {
  terminate || kill -KILL -- "-$(<run.pid)"
  status
}

log() { cat run.log 2>/dev/null || echo 'no log yet'; }

case ${1:-} in
setup | start | supervise | status | stop | end | log) "$@" ;;
*)
  echo "usage: worker.sh setup WORKDIR | start ARGS... | status | stop | end | log" >&2
  exit 2
  ;;
esac
