"""The face for PyTorch users: ``fit`` trains their module, ``Batches`` takes a DataLoader's place.

``configure_batch_size`` says which batch size and which learning rate, ``compare`` how stochastic, mini-batch and
batch gradient descent differ. For others' trainers there are ``descend.torch.lightning`` and
``descend.torch.huggingface``, imported by their names. Module, loss, optimizer class and data are used as they are;
nothing has to inherit from anything. Needs the extra ``descend[torch]``; nothing else of descend imports PyTorch, but
for what makes modules of trained models.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "descend.torch needs PyTorch, which is not installed; install it with: pip install 'descend[torch]'"
    ) from error

from descend.errors import TrainingError
from descend.torch.batches import Batches
from descend.torch.comparing import compare
from descend.torch.configuring import configure_batch_size
from descend.torch.fitting import fit

__all__ = ["Batches", "TrainingError", "compare", "configure_batch_size", "fit"]
