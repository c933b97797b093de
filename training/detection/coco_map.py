"""COCO's mean average precision of boxes, by pycocotools."""

import contextlib
import io
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from data_prep.formats.coco import CocoSet
from training.detection.data import validation_batches
from training.engine.precision import Precision

METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")  # of COCOeval.stats


@torch.no_grad()
def detections(
    detector: nn.Module, dataset: CocoSet, batch_size: int, workers: int, precision: Precision,
    shown: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:  # fmt: skip
    """(K, 7) float64: place of the picture, x, y, width, height, score, label (from 0). The detector's mode is put
    back. `shown` passes the batches on."""
    device, rows, first = torch.device(precision.device_type), [], 0
    was_training = detector.training
    detector.eval()
    try:
        for batch in shown(validation_batches(dataset.val, batch_size, workers)):
            with precision.autocast():
                found = detector([pixels.to(device).float() / 255 for pixels, _ in batch])
            for place, output in enumerate(found, start=first):
                boxes = output["boxes"].double()
                parts = [boxes[:, :2], boxes[:, 2:] - boxes[:, :2], output["scores"].double()[:, None]]
                part = torch.cat([*parts, output["labels"].double()[:, None] - 1], 1).cpu().numpy()
                rows.append(np.concatenate([np.full((len(part), 1), place), part], 1))
            first += len(batch)
    finally:
        detector.train(was_training)
    return np.concatenate(rows) if rows else np.empty((0, 7))


def mean_average_precision(dataset: CocoSet, found: np.ndarray) -> dict[str, float | None]:
    """METRICS as shares from 0 to 1; None where the validation split has no box of that kind. `found` as in
    `detections`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(dataset)
        truth.createIndex()
        results = COCO()
        results.dataset = {**truth.dataset, "annotations": result_entries(found)}
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = dict(zip(METRICS, evaluation.stats.tolist(), strict=False))
    return {name: value if value >= 0 else None for name, value in values.items()}


def ground_truth(dataset: CocoSet) -> dict:
    """COCO's form, numbered anew: pycocotools takes an annotation with id 0 for none, and does without file names."""
    split = dataset.val
    columns = (split.owners, split.labels, split.boxes, split.areas, split.crowd)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    annotations = [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for number, (image, label, box, area, crowd) in enumerate(rows, start=1)
    ]
    images = [{"id": place} for place in range(len(split.names))]
    categories = [{"id": label, "name": name} for label, name in enumerate(dataset.categories)]
    return {"images": images, "annotations": annotations, "categories": categories}


def result_entries(found: np.ndarray) -> list[dict]:
    return [
        {"id": number, "image_id": int(image), "category_id": int(label), "bbox": box, "score": score,
         "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, *box, score, label) in enumerate(found.tolist(), start=1)
    ]  # fmt: skip
