#!/usr/bin/env bash
# Submits train.sbatch: see usage.
set -euo pipefail
FOLDER=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/words.sh
source "$FOLDER/../words.sh"

usage() {
  cat <<'END'
usage: submit.sh [options] -- --config pretrain_code --workdir /shared/runs/NAME ...

  --nodes N            nodes (default: 1)
  --gpus N             GPUs on each node (default: 8)
  --per gpu|node       one process a GPU, or one a node (default: gpu)
  --time D-HH:MM:SS    the time limit; saved and queued again before it ends (default: 24:00:00)
  --retries N          how often a run that loses a host or hangs goes back into the queue without a
                       new checkpoint (default: 3)
  --partition P, --account A, --qos Q, --name N
  --dry-run            print the exact command and submit nothing
What comes after -- are the arguments of experiments.run; --workdir must be a folder that every node
sees. Run it from the source tree, with LILITH_PYTHON naming another Python than .venv/bin/python.
END
}

defaults() {
  NODES=1 GPUS=8 PER=gpu TIME=24:00:00 RETRIES='' DRY_RUN=0 WORKDIR=''
  PASSED=() COMMAND=()
}

take_value() {
  [[ $2 ]] || die "$1 needs a value"
  case $1 in
  --nodes) NODES=$2 ;;
  --gpus) GPUS=$2 ;;
  --per) PER=$2 ;;
  --time) TIME=$2 ;;
  --retries) RETRIES=$2 ;;
  --name) PASSED+=(--job-name="$2") ;;
  --partition | --account | --qos) PASSED+=("$1=$2") ;;
  *) die "there is no option $1: see submit.sh --help" ;;
  esac
}

# take_flag OPTION: an option that has no value.
take_flag() {
  case $1 in
  -h | --help)
    usage
    exit 0
    ;;
  --dry-run) DRY_RUN=1 ;;
  *) return 1 ;;
  esac
}

# find_workdir: what the run's own --workdir says.
find_workdir() {
  local index
  for ((index = 0; index < ${#COMMAND[@]}; index++)); do
    case ${COMMAND[index]} in
    --workdir=*) WORKDIR=${COMMAND[index]#*=} ;;
    --workdir) WORKDIR=${COMMAND[index + 1]:-} ;;
    --processes* | --process | --process=* | --coordinator*)
      die "leave ${COMMAND[index]} out: the processes find each other through Slurm" ;;
    esac
  done
}

check() {
  [[ $NODES =~ ^[1-9][0-9]{0,4}$ ]] || die "--nodes is '$NODES': give a whole number from 1"
  [[ $GPUS =~ ^[1-9][0-9]?$ ]] || die "--gpus is '$GPUS': give the number of GPUs on each node, from 1"
  [[ $PER == @(gpu|node) ]] || die "--per is '$PER': say gpu or node"
  [[ $TIME =~ ^([0-9]+-)?[0-9]{1,2}:[0-9]{2}:[0-9]{2}$ ]] || die "--time is '$TIME': write it as 24:00:00 or 2-00:00:00"
  [[ -z $RETRIES || $RETRIES =~ ^[0-9]+$ ]] || die "--retries is '$RETRIES': give a whole number"
  ((${#COMMAND[@]})) || die "the arguments of experiments.run are missing: submit.sh ... -- --config pretrain_code --workdir /shared/runs/NAME"
  [[ $WORKDIR ]] || die "--workdir is missing after --: name a folder that every node sees, the run's checkpoints are there"
  local parent=$WORKDIR
  if [[ $WORKDIR != *://* ]]; then # a bucket is tried by the run itself, before anything else
    while [[ ! -e $parent ]]; do parent=$(dirname -- "$parent"); done
    [[ -d $parent && -w $parent ]] || die "the workdir $WORKDIR can not be made or written ($parent is not a folder that you can write): choose another"
  fi
  ((DRY_RUN)) || command -v sbatch >/dev/null || die "there is no sbatch on the PATH: run this on a login node of a Slurm cluster"
}

main() {
  defaults
  read_options "$@"
  find_workdir
  check
  local tasks=1
  [[ $PER == node ]] || tasks=$GPUS
  [[ -z $RETRIES ]] || PASSED+=(--export="ALL,LILITH_RETRIES=$RETRIES")
  local words=(sbatch --nodes="$NODES" --ntasks-per-node="$tasks" --gpus-per-node="$GPUS" --time="$TIME"
    "${PASSED[@]}" "$FOLDER/train.sbatch" "${COMMAND[@]}")
  if ((DRY_RUN)); then
    say "$(quoted "${words[@]}")"
  else
    "${words[@]}"
  fi
}

main "$@"
