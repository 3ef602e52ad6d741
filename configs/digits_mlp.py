"""The instant look at seed variance: a small MLP on 500 handwritten digits.

Claim: a thousand networks that differ in nothing but their seed spread over more than two
percentage points of accuracy on the other 1,297 digits.
Cost: 300 steps of batch 32 a run; a thousand runs in half a minute on two cores.
Command: seedlab sweep --config=seedlab:digits_mlp --runs=1000 --out=out/digits_mlp

Scales: `laptop` is the one to use; `smoke` shows in a moment that everything works; `paper`,
a wider network trained longer, has no published protocol behind it.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.errors import choice_error

_SCALES = {"smoke": (16, 2), "laptop": (64, 20), "paper": (512, 100)}  # width, epochs


def get_config(scale: str = "laptop") -> ConfigDict:
  if scale not in _SCALES:
    raise choice_error("scale", scale, _SCALES)
  width, epochs = _SCALES[scale]
  return to_config_dict(
    {
      "data": {"name": "digits"},
      "model": {"name": "mlp", "width": width, "depth": 1},
      "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
      "schedule": {"name": "linear"},
      "training": {"batch_size": 32, "epochs": epochs},
      "evaluation": {"every_epochs": 5},
    }
  )
