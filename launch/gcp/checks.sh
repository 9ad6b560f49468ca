# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # names in capitals are shared by the files that tpu_vm.sh sources
# What create checks before anything is billed. Each check ends with one sentence or returns.

check_tools() {
  ((DRY_RUN)) || command -v gcloud >/dev/null ||
    die "there is no gcloud on the PATH: install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install) and run 'gcloud init'"
}

# check_names: spelling, before any call.
check_names() {
  [[ $NAME =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "the name $NAME does not fit: a lower-case letter, then letters, digits and dashes, 40 at most"
  [[ $TYPE ]] || die "create needs --type, an accelerator type such as v5p-8"
  [[ $ZONE ]] || die "create needs --zone, such as us-east5-a"
  [[ $ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z0-9]+$ ]] ||
    die "$ZONE is not a zone: a zone has a letter at its end, such as us-east5-a"
}

# check_not_created: a name of ours, in any zone.
check_not_created() {
  [[ ! -f $(state_file) ]] ||
    die "the name $NAME is in use: it was created from here ($(state_file)); 'tpu_vm.sh run $NAME' goes on with it, 'tpu_vm.sh delete $NAME' ends it"
}

check_price() {
  read_price ||
    die "launch/gcp/prices.tsv has no price for ${TYPE%-*} in ${ZONE%-*}: look it up on https://cloud.google.com/tpu/pricing, add its line, and run the same command again"
}

check_workdir() {
  [[ $WORKDIR =~ ^gs://[a-z0-9][a-z0-9._-]+(/[^/]+)+$ ]] ||
    die "--workdir is '$WORKDIR': name the run's folder in a bucket, gs://BUCKET/RUN, as a machine's own disk is lost with the machine"
}

check_runtime() {
  local owner
  RUNTIME=${RUNTIME:-$DEFAULT_RUNTIME}
  owner=$(awk -F '\t' -v r="$RUNTIME" '$6 == r { print $1; exit }' "$LAUNCH_FOLDER/accelerators.tsv")
  [[ -z $owner || $owner == "${TYPE%-*}" ]] ||
    die "the runtime $RUNTIME is for $owner and the type is $TYPE: leave --runtime-version out, or say --runtime-version=$DEFAULT_RUNTIME"
}

# check_topology: --topology says for which shape the program was compiled; it must be this type's.
check_topology() {
  [[ $TOPOLOGY ]] || return 0
  [[ $TOPOLOGY =~ ^[0-9]+(x[0-9]+)+$ ]] || die "--topology is '$TOPOLOGY': write it as 4x4x4"
  local sizes size chips=1
  IFS=x read -r -a sizes <<<"$TOPOLOGY"
  for size in "${sizes[@]}"; do chips=$((chips * 10#$size)); done
  ((${#sizes[@]} == AXES)) ||
    die "the topology $TOPOLOGY has ${#sizes[@]} axes and ${TYPE%-*} has $AXES: give $AXES sizes"
  ((chips == CHIPS)) ||
    die "the topology $TOPOLOGY has $chips chips and $TYPE has $CHIPS: change one of the two"
}

check_account() {
  local account
  account=$(cloud auth list --filter=status:ACTIVE '--format=value(account)') || explain 'gcloud auth list'
  ((DRY_RUN)) || [[ $account ]] ||
    die "gcloud has no valid credentials: run 'gcloud auth login' and the same command again"
}

check_project() {
  [[ -z $PROJECT ]] || return 0
  PROJECT=$(cloud config get-value project) || explain 'gcloud config get-value project'
  ((DRY_RUN)) && PROJECT=PROJECT
  [[ $PROJECT && $PROJECT != '(unset)' ]] ||
    die "no project is chosen: add --project=ID, or run 'gcloud config set project ID'"
}

# check_type: does the zone offer the type, in this topology, and the runtime?
check_type() {
  local shapes
  shapes=$(cloud compute tpus tpu-vm accelerator-types describe "$TYPE" "${PLACE[@]}" \
    '--format=value(acceleratorConfigs[].topology.list())') || {
    not_found && die "zone $ZONE does not offer $TYPE: see 'gcloud compute tpus tpu-vm accelerator-types list --zone=$ZONE --project=$PROJECT', or take another zone"
    explain "looking up $TYPE"
  }
  [[ -z $TOPOLOGY || -z $shapes || ,$shapes, == *,$TOPOLOGY,* ]] ||
    die "$TYPE in zone $ZONE has the topology $shapes, not $TOPOLOGY: compile for that one, or take another type"
  cloud compute tpus tpu-vm versions describe "$RUNTIME" "${PLACE[@]}" '--format=value(version)' >/dev/null || {
    not_found && die "zone $ZONE does not know the runtime $RUNTIME: see 'gcloud compute tpus tpu-vm versions list --zone=$ZONE --project=$PROJECT'"
    explain "looking up the runtime $RUNTIME"
  }
}

# check_quota: the limit of this zone, if the Cloud Quotas API tells it.
check_quota() {
  local rows limit
  rows=$(cloud beta quotas info describe "${QUOTA[SPOT]}" --service=tpu.googleapis.com --project="$PROJECT" --quiet \
    '--flatten=dimensionsInfos[]' \
    '--format=value[separator="|"](dimensionsInfos.dimensions.zone,dimensionsInfos.details.value,dimensionsInfos.applicableLocations.list())') || {
    say "(the quota could not be read: $(last_line "$(<"$ERRORS")"); without quota the service refuses, and bills nothing)"
    return 0
  }
  limit=$(awk -F '|' -v z="$ZONE" '
    $1 == z { own = $2 } $1 == "" && index("," $3 ",", "," z ",") { common = $2 }
    END { print own != "" ? own : common }' <<<"$rows")
  [[ -z $limit || $limit == -1 ]] || ((limit >= ${TYPE##*-})) ||
    die "$(quota_sentence "the limit is $limit")"
}

check_name_is_free() {
  read_state
  case $STATE in
  GONE) ;;
  UNKNOWN) explain "looking up the name $NAME" ;;
  *) die "$(name_sentence)" ;;
  esac
  read_node_state
  [[ $NODE_STATE == GONE ]] || die "$(name_sentence)"
}

# check_bucket: write one small object of a name that nobody has, and remove that one again.
check_bucket() {
  local probe=$WORKDIR/write_probe_$OWNER
  note "writes one byte to the bucket and removes it again"
  ((DRY_RUN)) || printf 'x' >"$SCRATCH/probe"
  cloud storage cp "$SCRATCH/probe" "$probe" --quiet >/dev/null ||
    die "the folder $WORKDIR can not be written ($(last_line "$(<"$ERRORS")")): create the bucket with 'gcloud storage buckets create gs://$(bucket) --location=${ZONE%-*} --project=$PROJECT', or ask for the role roles/storage.objectUser on it"
  cloud storage rm "$probe" --quiet >/dev/null ||
    die "the folder $WORKDIR can be written but not deleted from ($(last_line "$(<"$ERRORS")")): old checkpoints could not be removed; ask for the role roles/storage.objectUser, and remove $probe"
}

bucket() {
  local path=${WORKDIR#gs://}
  printf '%s' "${path%%/*}"
}
