"""Networks that have learned the same clips, and whose answers another network learns.

Networks of one recipe that drew other random numbers make different mistakes, so the mean of their answers is right
more often than each of them. A network that learns these answers keeps a part of that.
Source: Hinton 2015 (arXiv:1503.02531). The teachers hear exactly the mixed and cropped window that the network hears,
as in Beyer 2022 (arXiv:2106.05237).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.compute import Compute
from training.networks import Network

ANSWER_SHARE = 0.7  # of the answers in the targets; the rest are the true classes


@dataclass(frozen=True)
class Teachers:
    """Networks in eval mode, with heads for the same classes.

    compute  the device and the precision of their answers
    """

    networks: tuple[Network, ...]
    compute: Compute

    @torch.no_grad()
    def teach(self, log_mel: Tensor, targets: Tensor) -> Tensor:
        """The true classes and the teachers' answers, mixed: [batch, n_classes], rows that sum to 1.

        log_mel  [batch, frames, 64];  targets [batch, n_classes], rows that sum to 1, on the same device
        """
        device, dtype = self.compute.device, self.compute.dtype
        windows = log_mel.to(device)
        with torch.autocast(device.type, dtype, dtype is not torch.float32):
            scores = [network(windows).float() for network in self.networks]  # each [batch, n_classes]
        answers = torch.stack([each.softmax(1) for each in scores]).mean(0)
        return torch.lerp(targets, answers.to(targets.device), ANSWER_SHARE)
