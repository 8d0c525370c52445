"""What a step minimises: cross-entropy with soft and mixed labels, class weights, and a teacher's opinion.

References:
    Hinton, Vinyals & Dean, *Distilling the Knowledge in a Neural Network*, 2015.
    Zhang, Cisse, Dauphin & Lopez-Paz, *mixup: Beyond Empirical Risk Minimization*, ICLR 2018.
    Yun et al., *CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features*, ICCV 2019.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from slimnet._modes import widened
from slimnet._torchvision import mixer
from slimnet.data import class_weights
from slimnet.evaluation.views import averaged
from slimnet.training.job import Job


class Objective:
    r"""The loss of a run.

    .. math:: L = (1 - \alpha)\, \mathrm{CE}_w(z, y) + \alpha\, T^2\, \mathrm{KL}(\sigma(z_t / T) \,\|\, \sigma(z / T))

    with logits z, targets y (labels, or shares of the classes), class weights w, the teacher's logits z_t, temperature T and
    ``distill_weight`` α; α is 0 without a teacher. Of several ``teacher_views`` z_t is the logarithm of the mean probability.
    """

    def __init__(self, job: Job) -> None:
        self._config, self._precision = job.config, job.precision
        self._teacher = None if job.teacher is None else averaged(job.teacher, job.config.teacher_views)
        self._mixer = mixer(mixup=job.config.mixup, cutmix=job.config.cutmix, classes=job.dataset.num_classes)
        self._weights: Tensor | None = None
        if job.config.class_weights:
            labels, classes = job.dataset.train.labels, job.dataset.num_classes
            weights = class_weights(labels, num_classes=classes, power=job.config.class_weights)
            self._weights = weights.to(job.team.device)

    def mixed(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch with one another, and their targets likewise, where that was asked for.

        Args:
            images: (N, C, H, W).
            targets: (N,) int64 labels or (N, classes) float32 shares.
        """
        if self._mixer is None:
            return images, targets
        images, targets = self._mixer(images, targets)
        return self._precision.images(images), targets

    def loss(self, images: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the loss over a batch: () of the logits' type, at least float32.

        Args:
            images: (N, C, H, W), as the network saw them.
            logits: (N, classes).
            targets: (N,) int64 labels or (N, classes) float32 shares.
        """
        config, logits = self._config, widened(logits)
        smoothing = config.label_smoothing
        loss = F.cross_entropy(logits, targets, weight=self._weights, label_smoothing=smoothing, reduction="sum")
        if self._teacher is None:
            return loss
        with self._precision.autocast():
            taught = widened(self._teacher(images))
        temperature, share = config.distill_temperature, config.distill_weight
        wanted = F.log_softmax(taught / temperature, dim=1)
        distance = F.kl_div(F.log_softmax(logits / temperature, dim=1), wanted, log_target=True, reduction="sum")
        return (1 - share) * loss + share * temperature**2 * distance


def right_answers(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of N rows have their largest logit where the target is largest, or one of the largest: () int64."""
    found = logits.argmax(1)
    if targets.dim() == 1:
        return (found == targets).sum()
    return (targets.gather(1, found[:, None])[:, 0] == targets.amax(1)).sum()
