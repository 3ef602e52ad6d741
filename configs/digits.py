"""The demo: a small convolutional network on 500 of scikit-learn's handwritten digits.

Claim: luck alone moves the accuracy on the other 1,297 digits by more than a percentage point.
Cost: 250 steps of batch 50 a run.
Command: seedlab sweep --config=seedlab:digits --runs=1000 --out=out/digits

Scales: `laptop` trains until the loss is flat; `smoke` shows in a moment that everything works;
`paper`, a wider network trained longer, has no published protocol behind it.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.errors import choice_error

_SCALES = {"smoke": (8, 2), "laptop": (16, 25), "paper": (64, 100)}  # width, epochs


def get_config(scale: str = "laptop") -> ConfigDict:
  if scale not in _SCALES:
    raise choice_error("scale", scale, _SCALES)
  width, epochs = _SCALES[scale]
  return to_config_dict(
    {
      "data": {"name": "digits"},
      "model": {"name": "cnn", "width": width},
      "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
      "schedule": {"name": "linear"},
      "training": {"batch_size": 50, "epochs": epochs},
      "evaluation": {"every_epochs": 5},
    }
  )
