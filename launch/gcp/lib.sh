# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # names in capitals are shared by the files that tpu_vm.sh sources
# What every command of tpu_vm.sh stands on: gcloud, the tables, the state file.

LAUNCH_FOLDER=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
SOURCE_TREE=$(cd -- "$LAUNCH_FOLDER/../.." && pwd)
# shellcheck source=launch/words.sh
source "$LAUNCH_FOLDER/../words.sh"
STATE_FOLDER=${LILITH_LAUNCH_STATE:-$HOME/.lilith/launch}
POLL_SECONDS=${LILITH_LAUNCH_POLL:-60}
ERRORS=$(mktemp) # what the last gcloud call wrote to stderr
# Dry runs print commands here, past the capture of a command's output.
exec 3>&1

note() { ((!DRY_RUN)) || printf '# %s\n' "$*" >&3; }

# command_line WORD...: run it, or with --dry-run print it.
command_line() {
  if ((DRY_RUN)); then
    printf '%s\n' "$(quoted "$@")" >&3
  else
    "$@"
  fi
}

# cloud ARGS...: gcloud with its messages kept in $ERRORS, for explain.
cloud() { command_line gcloud "$@" 2>"$ERRORS"; }

# explain WHAT: end with one sentence for what gcloud said last.
explain() {
  local text
  text=$(<"$ERRORS")
  case $text in
  *"active account"* | *"eauthenticat"* | *"auth tokens"* | *UNAUTHENTICATED* | *invalid_grant* | *"gcloud auth login"*)
    die "gcloud has no valid credentials: run 'gcloud auth login' and the same command again" ;;
  *SERVICE_DISABLED* | *"has not been used in project"*)
    die "the Cloud TPU API is off in project $PROJECT: run 'gcloud services enable tpu.googleapis.com --project=$PROJECT' and the same command again" ;;
  *[Qq]"uota limit"* | *"Quota '"* | *RESOURCE_EXHAUSTED* | *QUOTA_EXCEEDED*)
    die "$(quota_sentence "$(last_line "$text")")" ;;
  *ALREADY_EXISTS* | *"already exists"*) die "$(name_sentence)" ;;
  *PERMISSION_DENIED* | *"ermission"*" denied"*)
    die "project $PROJECT or zone $ZONE does not let you do this (or does not exist): check both names, and ask for the role roles/tpu.admin ($1: $(last_line "$text"))" ;;
  *) die "$1 failed: $(last_line "$text")" ;;
  esac
}

last_line() { printf '%s' "$1" | grep -v '^[[:space:]]*$' | tail -n 1 || true; }

quota_sentence() {
  local kind='on-demand'
  ((SPOT)) && kind='spot (preemptible)'
  printf '%s' "project $PROJECT has too little $kind quota for $TYPE in zone $ZONE${1:+ ($1)}: ask for ${TYPE##*-} of ${QUOTA[SPOT]} on https://console.cloud.google.com/iam-admin/quotas?project=$PROJECT, delete old queued resources (they hold quota too), or take another zone"
}

name_sentence() {
  printf '%s' "the name $NAME is in use in zone $ZONE of project $PROJECT: take another name, or look at it with 'gcloud compute tpus queued-resources describe $NAME --zone=$ZONE --project=$PROJECT'"
}

not_found() { grep -q -e NOT_FOUND -e 'was not found' -- "$ERRORS"; }

# --- the tables ---------------------------------------------------------------------------------

# read_type: the facts of $TYPE into CHIPS, HOSTS, AXES, DEFAULT_RUNTIME and QUOTA.
read_type() {
  local family=${TYPE%-*} number=${TYPE##*-} cores one_host sizes runtime on_demand spot
  local line known
  line=$(awk -F '\t' -v f="$family" '$1 == f' "$LAUNCH_FOLDER/accelerators.tsv")
  known=$(awk -F '\t' '!/^#/ { printf "%s%s", sep, $1; sep = ", " }' "$LAUNCH_FOLDER/accelerators.tsv")
  [[ $TYPE == *-* && $line ]] ||
    die "there is no accelerator type $TYPE here: the families are $known, as in v5p-8 (launch/gcp/accelerators.tsv)"
  IFS=$'\t' read -r _ cores one_host sizes AXES runtime on_demand spot <<<"$line"
  size_exists "$number" "$sizes" ||
    die "there is no accelerator type $TYPE: $family comes in ${sizes/+/, and in multiples of } (N:MAX is every N up to MAX; launch/gcp/accelerators.tsv)"
  CHIPS=$((number / cores)) HOSTS=1 DEFAULT_RUNTIME=$runtime QUOTA=("$on_demand" "$spot")
  ((CHIPS <= one_host)) || HOSTS=$((CHIPS / 4))
}

# size_exists NUMBER SIZES: is the number in a list such as 8,16+128:4096?
size_exists() {
  [[ $1 =~ ^[1-9][0-9]{0,5}$ ]] || return 1
  local listed=${2%%+*} step=${2##*+}
  [[ ,$listed, == *,$1,* ]] && return
  [[ $2 == *+* ]] && (($1 % ${step%:*} == 0 && $1 <= ${step#*:}))
}

# read_price: dollars per chip and hour of $TYPE in $ZONE's region into CHIP_PRICE, the sum into PRICE;
# 1 if the table does not know.
read_price() {
  local table=$LAUNCH_FOLDER/prices.tsv region=${ZONE%-*} column=3
  ((SPOT)) && column=4
  PRICE=unknown
  PRICE_DATE=$(sed -n 's/^#.*date: *\([0-9-]*\).*/\1/p' "$table" | head -n 1)
  CHIP_PRICE=$(awk -F '\t' -v f="${TYPE%-*}" -v r="$region" -v c="$column" '$1 == f && $2 == r { print $c; exit }' "$table")
  [[ $CHIP_PRICE ]] || return 1
  PRICE=$(awk -v p="$CHIP_PRICE" -v n="$CHIPS" 'BEGIN { printf "%.2f", p * n }')
}

say_price() {
  local kind='on demand' day
  ((SPOT)) && kind=spot
  day=$(awk -v p="$PRICE" 'BEGIN { printf "%.0f", p * 24 }')
  say "$TYPE: $CHIPS chips, hosts: $HOSTS, $kind in $ZONE"
  say "about \$$PRICE an hour while it is ready (\$$CHIP_PRICE a chip), \$$day a day"
  say "(prices of $PRICE_DATE in launch/gcp/prices.tsv; they change and must be checked:" \
    "https://cloud.google.com/tpu/pricing)"
}

# confirm QUESTION: go on only with --yes or a typed yes.
confirm() {
  ((!YES && !DRY_RUN)) || return 0
  [[ -t 0 ]] || die "this asks '$1' and nobody is at the terminal: add --yes if you mean it"
  local answer
  read -r -p "$1 [yes/no] " answer
  [[ $answer == yes ]] || die "not confirmed: nothing was done"
}

# --- the state file: what was created from here ---------------------------------------------------

STATE_KEYS=(PROJECT ZONE TYPE RUNTIME SPOT WORKDIR SERVICE_ACCOUNT NETWORK SUBNETWORK OWNER)

state_file() { printf '%s' "$STATE_FOLDER/$NAME.state"; }

write_state() {
  local key
  ((!DRY_RUN)) || return 0
  mkdir -p -- "$STATE_FOLDER"
  for key in "${STATE_KEYS[@]}"; do printf '%s=%s\n' "$key" "${!key}"; done >"$(state_file)"
}

# load_state: the options of create. What the command line says must agree; another --workdir is
# another run on the same TPU.
load_state() {
  local key value given
  if [[ -f $(state_file) ]]; then
    while IFS='=' read -r key value; do
      given=${!key:-}
      [[ $key != @(PROJECT|ZONE|TYPE) || -z $given || $given == "$value" ]] ||
        die "$NAME was created with ${key,,} $value, not $given (see $(state_file)): leave that option out, or name another TPU"
      [[ $key == WORKDIR && $given ]] || printf -v "$key" '%s' "$value"
    done <"$(state_file)"
  elif ((DRY_RUN)); then
    [[ $PROJECT && $ZONE && $TYPE ]] ||
      die "nothing named $NAME was created from here: a dry run needs --project, --zone and --type to print its commands"
    check_names
  else
    die "$NAME was not created by this script from this machine (no $(state_file)): run 'tpu_vm.sh create $NAME ...' first, or if it is yours use gcloud itself"
  fi
  read_type
  RUNTIME=${RUNTIME:-$DEFAULT_RUNTIME} OWNER=${OWNER:-id-of-create}
  read_price || true # stopping and deleting must not need the table
  PLACE=(--zone="$ZONE" --project="$PROJECT")
}
