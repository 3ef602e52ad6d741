#!/bin/bash
# A sweep on a cloud TPU machine that may be taken away at any time.
#   bash tpu_vm.sh
# Needs Python 3.11 to 3.13 and a checkout of seedlab in ~/seedlab, on a disk that outlives the
# machine. Only one process can use a chip, and takes all it can see: each chip trains one shard,
# and the shards are merged at the end. The same command goes on where it was stopped.
set -eu
SOURCE="$HOME/seedlab"
OUT="$HOME/out/digits"
EXPERIMENT=(--config=seedlab:digits --runs=10000)
CHIPS=4

python3 -m venv "$SOURCE/.venv"
"$SOURCE/.venv/bin/python" -m pip install "$SOURCE[tpu]"
mkdir -p "$(dirname "$OUT")"

shards=()
stopping=
# What asks this script to stop asks the shards, which save the runs under way.
trap 'stopping=yes; kill -TERM $(jobs -p)' TERM INT
for ((chip = 0; chip < CHIPS; chip++)); do
  TPU_VISIBLE_DEVICES=$chip TPU_CHIPS_PER_PROCESS_BOUNDS=1,1,1 TPU_PROCESS_BOUNDS=1,1,1 \
  TPU_MESH_CONTROLLER_ADDRESS=localhost:$((8476 + chip)) TPU_MESH_CONTROLLER_PORT=$((8476 + chip)) \
    "$SOURCE/.venv/bin/seedlab" sweep "${EXPERIMENT[@]}" --out="$OUT" --workers=1 \
    --shard=$((chip + 1))/$CHIPS &
  shards+=($!)
done

status=0
for shard in "${shards[@]}"; do
  while true; do
    wait "$shard" && ended=0 || ended=$?
    kill -0 "$shard" 2> /dev/null || break  # the signal ended the wait and not the shard
  done
  [ "$ended" -eq 0 ] || status=$ended
done
[ "$stopping" ] && exit 143
[ "$status" -eq 0 ] || exit "$status"

"$SOURCE/.venv/bin/seedlab" merge "$OUT"
"$SOURCE/.venv/bin/seedlab" report "$OUT"
