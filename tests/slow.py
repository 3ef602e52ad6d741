"""A Trainer that can be slowed down from outside, and says on disk how far it is."""

import dataclasses
import os
import pathlib
import time

import toy

SEGMENTS = 300


def make(folder: str):
  """`toy.make` with batches from the host, each of which is noted in `folder`/fed.

  While there is a file `folder`/slow, each segment of six steps takes at least 0.1 s.
  """
  trainer = toy.make(steps=toy.EPOCH * SEGMENTS, fed=True, explode_below=50)
  place = pathlib.Path(folder)

  def feed(seeds, first, steps):
    with open(place / "fed", "a") as file:
      file.write(f"{os.getpid()} {first}\n")
    if (place / "slow").exists():
      time.sleep(0.1)
    return trainer.feed(seeds, first, steps)

  return dataclasses.replace(trainer, feed=feed)
