"""Knowledge distillation (section 5.3, after Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional as F

from trickzoo.errors import BadOption, check_choice

Form = Literal["paper", "official"]


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    hard_loss: Tensor,
    *,
    temperature: float = 20.0,
    form: Form = "paper",
    hard_weight: float = 0.5,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the sum of the student's loss and T² times the cross-entropy between the softened predictions of teacher and student.

    Args:
        student: (N, K) logits of the student.
        teacher: (N, K) logits of the teacher for the same images, which mixup may have mixed. They get no gradients.
        hard_loss: scalar loss against the labels.
        temperature: T, which is 20 in the paper.
        form: "paper": hard + T² · soft. "official": hard_weight · hard + (1 - hard_weight) · T² · soft, as in the released script.
        hard_weight: weight of the student's loss in the form "official".
        weights: (N,) weights of the images in the mean of the second loss; None if all are 1.

    Raises:
        BadOption: for another form, unless student and teacher give (N, K) logits of the same shape and the weights are (N,), or if T is
            not above 0.
    """
    check_choice("distillation: form", form, get_args(Form))
    if student.ndim != 2 or student.shape != teacher.shape:
        shapes = f"the student's have the shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
        raise BadOption(f"distillation: student and teacher must give logits (N, K) of the same images and classes; {shapes}")
    if temperature <= 0:
        raise BadOption(f"distillation: the temperature must be above 0, not {temperature}")
    if weights is not None and weights.shape != student.shape[:1]:
        raise BadOption(f"distillation: weights must be ({len(student)},), one for each image, not of shape {tuple(weights.shape)}")
    soft_target = F.softmax(teacher.detach().float() / temperature, 1)
    of_images = -(soft_target * F.log_softmax(student.float() / temperature, 1)).sum(1)
    soft = (of_images if weights is None else weights * of_images).mean() * temperature**2
    return hard_loss + soft if form == "paper" else hard_weight * hard_loss + (1 - hard_weight) * soft
