"""`trickzoo-eval imagenet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from trickzoo import catalogue
from trickzoo.cli import options
from trickzoo.cli.options import Flag
from trickzoo.cli.printing import say, table
from trickzoo.errors import BadOption, UnknownName
from trickzoo.weights.record import Interpolation


def imagenet(
    *,
    data: Annotated[str, Parameter(help="Class folders, validation folder or tar, tar shards, CIFAR-10, Places365, or hf:OWNER/NAME.")],
    model: Annotated[
        list[str],
        Parameter(help="Models, weights, shell patterns of models, or files that trickzoo wrote; repeat for several.", negative=""),
    ],
    weights: Annotated[str | None, Parameter(help="Tag, file or hf-hub: reference; by default each model's default weight.")] = None,
    out: Annotated[Path | None, Parameter(help="Write the results to this JSON file.")] = None,
    per_class: Annotated[Path | None, Parameter(help="Write accuracy by class to this CSV file.")] = None,
    predictions: Annotated[Path | None, Parameter(help="Write the five likeliest classes of every image to this CSV file.")] = None,
    split: Annotated[Literal["val", "train"], Parameter(help="Which folder, where DATA has train/ and val/.")] = "val",
    devkit: Annotated[Path | None, Parameter(help="Devkit folder or archive, or LOC_val_solution.csv, if not beside DATA.")] = None,
    classes: Annotated[str | None, Parameter(help="imagenet1k, imagenette, folders or a text file, where the weights do not say.")] = None,
    size: Annotated[int | None, Parameter(help="Input side in pixels, in place of the weights' own.")] = None,
    crop: Annotated[float | None, Parameter(help="Fraction of the resized image that the crop keeps.")] = None,
    interpolation: Annotated[Interpolation | None, Parameter(help="Resize filter.")] = None,
    batch_size: Annotated[int, Parameter(help="Images a batch, on each process.")] = 64,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    skip_corrupt: Annotated[bool, Flag, Parameter(help="Leave out files that are no readable images, and count them.")] = False,
    skip_unknown: Annotated[bool, Flag, Parameter(help="Leave out class folders that the model does not know, and count them.")] = False,
) -> None:
    """Evaluate models on an ImageNet-style set: top-1, top-5, 95 % intervals, calibration, and the published figure beside them.

    Preprocessing is the weights' own and is printed. On a set of fewer classes, the score among these alone is given too.
    Under `torchrun` or `accelerate launch` each process takes its share, and the result is the same.
    """
    names = _models(model)
    if weights is not None and len(names) > 1:
        raise BadOption("--weights is for one --model; name weights as MODEL.TAG to evaluate several")
    for name, path in (("--per-class", per_class), ("--predictions", predictions)):
        if path is not None and len(names) > 1:
            raise BadOption(f"{name} is for one --model")
    if batch_size < 1:
        raise BadOption(f"--batch-size must be 1 or more, not {batch_size}")
    if workers is not None and workers < 0:
        raise BadOption(f"--workers must be 0 or more, not {workers}")
    options.check_preprocessing(size, crop)

    from trickzoo import evidence
    from trickzoo.classification import evaluate as run
    from trickzoo.cli.common import classes_of, loaded, preprocessing_of, progress_bar
    from trickzoo.data.open import open_set
    from trickzoo.training.processes import default_workers, processes

    evidence.check_apart({"--out": out, "--per-class": per_class, "--predictions": predictions})
    for path in filter(None, (out, per_class, predictions)):
        evidence.check_writable(path)
    images = open_set(data, split=split, devkit=devkit)
    state = processes(use_cpu=device == "cpu")
    chief = state.is_main_process
    results: list[dict[str, Any]] = []
    for name in names:
        network = loaded(name, weights)
        assert network.weights is not None
        outputs = classes_of(network, classes, images.order or images.classes)
        preprocessing = preprocessing_of(network, size=size, crop=crop, interpolation=interpolation)
        known, unknown = run.match_classes(images, outputs, skip_unknown=skip_unknown)
        if chief:
            say(f"{network.weights.name}: {preprocessing}")
        with progress_bar(network.weights.name, len(known.entries), chief, state.num_processes) as tick:
            found = run.predict(
                network,
                known,
                outputs,
                preprocessing,
                state=state,
                batch_size=batch_size,
                workers=default_workers() if workers is None else workers,
                precision=precision,
                skip_corrupt=skip_corrupt,
                progress=tick,
            )
        summary = run.summarise(found)
        record = network.weights.record
        published = record.published(preprocessing) if record else None
        results.append(
            {
                "model": network.name,
                "weights": network.weights.name,
                "weights_sha256": network.weights.digest(),
                "weights_revision": network.weights.revision,
                "preprocessing": _plain(preprocessing),
                **summary,
                "published": run.compare(summary, published, preprocessing, len(outputs)),
                "data": {
                    "path": str(images.root),
                    "layout": known.layout,
                    "classes": len(known.classes),
                    "digest": found.digest,
                    "empty_classes": list(images.empty),
                    "unknown_left_out": unknown,
                    "exif_orientation": {"images": found.oriented, "turned_upright": known.upright},
                    "corrupt_left_out": [{"image": image, "reason": reason} for image, reason in found.skipped],
                },
                "precision": precision,
                "device": str(state.device),
                "processes": state.num_processes,
                "wall_seconds": round(found.seconds, 2),
            }
        )
        if chief:
            _print(results[-1])
            if per_class is not None:
                rows = ((c, n, f"{a:.4f}", f"{b:.4f}") for c, n, a, b in run.per_class(found, outputs))
                evidence.write_csv(per_class, ("class", "n", "top1", "top5"), rows)
            if predictions is not None:
                _write_predictions(predictions, found, outputs)
    if chief:
        if len(results) > 1:
            _table(results)
        if out is not None:
            evidence.write_json(out, {"what": "imagenet evaluation", **evidence.environment(), "results": results})
    if state.num_processes > 1:
        state.destroy_process_group()


def _models(patterns: list[str]) -> list[str]:
    names: list[str] = []
    for pattern in patterns:
        path = Path(pattern)
        if any(sign in pattern for sign in "*?[") and len(path.parts) == 1 and not path.is_file():
            matched = catalogue.list_weights(pattern) if "." in pattern else catalogue.list_models(pattern, pretrained=True)
            if not matched:
                raise UnknownName("model with a default weight", pattern, catalogue.list_models(pretrained=True))
            names += matched
        else:
            names.append(pattern)
    return list(dict.fromkeys(names))


def _plain(preprocessing: Any) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(preprocessing), "resize": preprocessing.short_side}


def _print(r: dict[str, Any]) -> None:
    data = r["data"]
    say(f"  {r['n']:,} images of {data['classes']} classes ({data['layout']}), {r['images_per_second']:g} images/s")
    _accuracy("", r)
    if "restricted" in r:
        _accuracy(f" among the {r['restricted']['classes']} classes of this set", r["restricted"])
    say(f"  ECE    {r['ece']:.2f} %")
    p = r["published"]
    if p["comparable"]:
        inside = "inside" if p["within_interval"] else "OUTSIDE"
        say(f"  published {p['top1']:.3f} / {p['top5']:.3f} ({p['data']}, {p['source']}): {inside} the interval")
    elif "top1" in p:
        say(f"  published {p['top1']:.3f} / {p['top5']:.3f} ({p['data']}, {p['source']}): not comparable, {p['reason']}")
    else:
        say(f"  {p['reason']}")
    if data["corrupt_left_out"]:
        say(f"  {len(data['corrupt_left_out'])} unreadable files left out")
    if empty := data["empty_classes"]:
        say(f"  {len(empty)} empty class folders left out: {', '.join(empty[:8])}{', …' if len(empty) > 8 else ''}")
    if oriented := data["exif_orientation"]["images"]:
        how = "turned upright" if data["exif_orientation"]["turned_upright"] else "used as stored, as for the published figures"
        say(f"  {oriented} image{'s' * (oriented > 1)} with an EXIF orientation, {how}")
    if data["unknown_left_out"]:
        say(f"  {data['unknown_left_out']} images of unknown classes left out")


def _accuracy(of: str, r: dict[str, Any]) -> None:
    for k in (1, 5):
        low, high = r[f"top{k}_interval"]
        say(f"  top-{k}  {r[f'top{k}']:.3f} %{of}  (95 %: {low:.2f} … {high:.2f})")


def _table(results: list[dict[str, Any]]) -> None:
    rows = []
    for r in results:
        low, high = r["top1_interval"]
        published = f"{r['published']['top1']:.3f}" if "top1" in r["published"] else "–"
        interval = f"{low:.2f} … {high:.2f}"
        figures = (f"{r['top1']:.3f}", interval, f"{r['top5']:.3f}", f"{r['ece']:.2f}", published, f"{r['images_per_second']:g}")
        rows.append((r["weights"], *figures))
    say()
    table(("weight", "top-1", "95 %", "top-5", "ECE", "published", "images/s"), rows, left=("weight",))


def _write_predictions(path: Path, found: Any, outputs: tuple[str, ...]) -> None:
    from trickzoo.evidence import write_csv

    width = found.top.shape[1]
    header = ["image", "class", *(f"top{k}" for k in range(1, width + 1)), *(f"p{k}" for k in range(1, width + 1))]
    rows = (
        [name, outputs[label], *(outputs[i] for i in top), *(f"{p:.6f}" for p in probability)]
        for name, label, top, probability in zip(found.names, found.labels, found.top, found.confidence, strict=True)
    )
    write_csv(path, header, rows)
