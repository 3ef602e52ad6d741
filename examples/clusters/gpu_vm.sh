#!/bin/bash
# A sweep on a cloud machine with NVIDIA GPUs that may be taken away at any time.
#   bash gpu_vm.sh
# Needs a driver (nvidia-smi), Python 3.11 to 3.13 and a checkout of seedlab in ~/seedlab, on a disk
# that outlives the machine's stops. It installs seedlab and makes the sweep a service: systemd asks
# it to stop when the machine is taken away, and starts it again when the machine is back.
set -eu
SOURCE="$HOME/seedlab"
OUT="$HOME/out/digits"
EXPERIMENT="--config=seedlab:digits --runs=10000"

nvidia-smi --list-gpus
python3 -m venv "$SOURCE/.venv"
"$SOURCE/.venv/bin/python" -m pip install "$SOURCE[cuda]"
mkdir -p "$(dirname "$OUT")"

sudo tee /etc/systemd/system/seedlab-sweep.service > /dev/null <<UNIT
[Unit]
Description=seedlab sweep into $OUT
After=local-fs.target network-online.target
Wants=network-online.target

[Service]
User=$USER
WorkingDirectory=$HOME
ExecStart=$SOURCE/.venv/bin/seedlab sweep $EXPERIMENT --out=$OUT
# SIGTERM to seedlab alone, which has its workers save what they are at and then exits with 143.
KillMode=mixed
TimeoutStopSec=90
SuccessExitStatus=143
# After a failure it goes on; after the end, and where the input is wrong, it does not.
Restart=on-failure
RestartSec=30
RestartPreventExitStatus=2

[Install]
WantedBy=multi-user.target
UNIT
sudo systemctl daemon-reload
sudo systemctl enable --now seedlab-sweep.service
echo "journalctl -fu seedlab-sweep shows how far it is; then: $SOURCE/.venv/bin/seedlab report $OUT"
