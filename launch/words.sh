# shellcheck shell=bash
# shellcheck disable=SC2034 # COMMAND is read by the scripts that source this
# What every script here that a person calls stands on: messages, options, words as one types them.

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || {
  echo "error: this needs bash 4.4 or newer and is run by $BASH_VERSION; on a Mac: brew install bash" >&2
  exit 2
}

say() { printf '%s\n' "$*"; }

# die SENTENCE...: say what is wrong and what to do, and end.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# quoted WORD...: the words as one types them into a shell.
quoted() {
  local word head out=''
  for word; do
    head=''
    if [[ $word =~ ^(--[a-z-]+=)(.*)$ ]]; then
      head=${BASH_REMATCH[1]} word=${BASH_REMATCH[2]}
    fi
    if [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ && ! ($head && -z $word) ]]; then
      word="'${word//\'/\'\\\'\'}'"
    fi
    out+=" $head$word"
  done
  printf '%s' "${out# }"
}

# read_options ARGS...: every option to the script's take_flag OPTION, which fails for one that it does
# not know, or else to its take_value OPTION VALUE; what comes after -- into COMMAND.
read_options() {
  while (($#)); do
    if take_flag "$1"; then
      shift
      continue
    fi
    case $1 in
    --)
      COMMAND=("${@:2}")
      break
      ;;
    --*=*) take_value "${1%%=*}" "${1#*=}" ;;
    --*)
      take_value "$1" "${2:-}"
      shift
      ;;
    *) die "'$1' is one word too many: options start with --, and the run's own arguments come after --" ;;
    esac
    shift
  done
}
