"""Settings of the study of language: arguments of `seedlab.recipes.language`, by scale.

  text      characters of the King James Bible, where it is at hand; else `babble`
  babble    the made-up language, for the claim that needs a world without end

`laptop` was chosen on runs 1,000,000 and up (docs/language.md). `paper` is nanoGPT's character
model (10.8 million parameters: width 384, depth 6, context 256, batches of 64, 5,000 steps of
AdamW) but for its dropout, which the network here does not have; and PolyPythias' smallest model
in shape (width 128, depth 6, 4 heads, rotary positions), on characters instead of its tokens.
"""

from typing import Any

FILE = "text/kjv.txt.gz"

_SMALL = {"context": 32, "width": 32, "depth": 2, "heads": 4, "batch_size": 16}
_MUON = {"optimizer": "muon", "learning_rate": 0.02, "schedule": "linear", "warmup_steps": 40}

_TEXT: dict[str, dict[str, Any]] = {
  "smoke": {
    "context": 8, "width": 8, "depth": 1, "heads": 2, "batch_size": 4, "steps": 8,
    "warmup_steps": 2, "test_examples": 16, "book_examples": 16, "contexts": 8, "draws": 2,
    "samples": 4, "prompt": 2, "run_length": 3,
  },
  "laptop": {
    **_SMALL, **_MUON, "steps": 400, "test_examples": 512, "book_examples": 512, "contexts": 128,
    "draws": 4, "samples": 32, "prompt": 8,
  },
  "paper": {
    "context": 256, "width": 384, "depth": 6, "heads": 6, "batch_size": 64, "steps": 5000,
    "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1, "schedule": "cosine",
    "warmup_steps": 100, "test_examples": 1024, "book_examples": 1024, "contexts": 256, "draws": 8,
    "samples": 64, "prompt": 16, "precision": "tf32",
  },
}  # fmt: skip
# Evaluated often, and nothing is written.
COURSE: dict[str, dict[str, Any]] = {
  "smoke": {"draws": 0, "evaluate_every_steps": 2},
  "laptop": {"draws": 0, "test_examples": 128, "book_examples": 64, "evaluate_every_steps": 20},
  "paper": {"draws": 0, "test_examples": 256, "book_examples": 64, "evaluate_every_steps": 100},
}
PYTHIA = {"width": 128, "depth": 6, "heads": 4, "positions": "rotary"}
# Windows of the real world, how often they are evaluated, and how many steps there are.
_BABBLE: dict[str, dict[str, Any]] = {
  "smoke": {**_TEXT["smoke"], "draws": 0, "train_examples": 4, "evaluate_every_steps": 1},
  "laptop": {
    **_SMALL, **_MUON, "steps": 800, "train_examples": 800, "evaluate_every_steps": 50,
    "test_examples": 512, "book_examples": 64, "contexts": 0, "draws": 0,
  },
  "paper": {
    **_TEXT["paper"], "steps": 5000, "train_examples": 16_000, "evaluate_every_steps": 125,
    "contexts": 0, "draws": 0,
  },
}  # fmt: skip
_FINETUNED: dict[str, dict[str, Any]] = {
  "smoke": {
    "steps": 4,
    "warmup_steps": 1,
    "batch_size": 4,
    "train_examples": 16,
    "test_examples": 16,
  },
  "laptop": {"steps": 60, "learning_rate": 2e-3, "train_examples": 960, "test_examples": 512},
  "paper": {"steps": 300, "learning_rate": 3e-4, "train_examples": 9600, "test_examples": 2048},
}
_SIZES = ("context", "width", "depth", "heads")

_ACTIVATIONS = {
  "smelu": {"name": "smelu", "beta": 1.0},
  "relu": "relu",
  "squared_relu": "squared_relu",
}  # beside GELU


def text(scale: str, file: str, **changes: Any) -> dict[str, Any]:
  """Arguments of `make` for the text, or for `babble` in its place."""
  return {"file": file, **_TEXT[scale], **changes}


def activations(scale: str) -> dict[str, Any]:
  """Those that are trained beside GELU, by the names of their sweeps."""
  names = list(_ACTIVATIONS)[: 2 if scale == "smoke" else None]
  return {name: _ACTIVATIONS[name] for name in names}


def babble(scale: str, world: str) -> dict[str, Any]:
  return {**_BABBLE[scale], "world": world}


def finetuned(scale: str, file: str) -> dict[str, Any]:
  """Arguments of `classify`, for networks that `text` trained."""
  sizes = {name: _TEXT[scale][name] for name in _SIZES}
  return {"file": file, **sizes, **_FINETUNED[scale]}


def repeats(scale: str, steps: int) -> float:
  """How often each window of the real world of `babble` has been trained on."""
  one = _BABBLE[scale]
  return steps * one["batch_size"] / one["train_examples"]
