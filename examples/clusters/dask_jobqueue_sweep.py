"""A sweep on Dask workers that a batch system starts: python dask_jobqueue_sweep.py

Needs `pip install dask-jobqueue` beside seedlab[cluster]. PBSCluster, SGECluster, LSFCluster and
others take the place of SLURMCluster. Leave it running on a login node, in tmux for instance: it
gives out the work and writes the store. Started again, it goes on.
"""

import os
import sys

from dask_jobqueue import SLURMCluster

import seedlab
from seedlab import cluster

EXPERIMENT = {
  "data": {"name": "digits"},
  "model": {"name": "mlp", "width": 64, "depth": 1},
  "training": {"batch_size": 32, "epochs": 20},
}
RUNS = 10_000
JOBS = 10
OUT = os.path.expanduser("~/out/digits")

if __name__ == "__main__":
  jobs = SLURMCluster(
    cores=8,
    processes=8,  # as many as cores: a process is one worker, which is bound to one core
    memory="16GB",
    walltime="04:00:00",
    python=sys.executable,  # the same installation of seedlab as here
    # A worker leaves before the time of its job is up, and others take over what it was doing.
    worker_extra_args=["--lifetime", "225m", "--lifetime-stagger", "10m"],
    # Runs agree bit for bit on one kind of processor alone: name a feature that your nodes share.
    job_extra_directives=[],  # ["--constraint=icelake"]
  )
  with jobs:
    jobs.scale(jobs=JOBS)
    # The first worker may wait in the queue for a day.
    with cluster.connect(f"dask:{jobs.scheduler_address}", patience=86_400) as executor:
      seedlab.sweep(EXPERIMENT, runs=RUNS, out=OUT, executor=executor)
