"""Publishes a trained network as a repository of the hub: the weights, a card, a record, evaluation results and a config.json.

timm loads the repository of a classifier where timm has its network, and trickzoo reads every repository as `hf-hub:OWNER/NAME`.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from trickzoo import loading, registry
from trickzoo.backbone import Backbone
from trickzoo.data.classes import class_list, describe_class
from trickzoo.errors import BadCheckpoint, BadData, BadOption, printable
from trickzoo.files import digest, new_folder, read_json
from trickzoo.output_files import NETWORK
from trickzoo.training.measures import MEASURES
from trickzoo.weights import convert, header, timm_form
from trickzoo.weights.record import Metric, Record, Source
from trickzoo.weights.tensors import read_tensors, save_atomically
from trickzoo.wording import count

PIPELINES = {"classification": "image-classification", "detection": "object-detection", "segmentation": "image-segmentation"}
DATA_SETS = {"imagenet1k": "ILSVRC/imagenet-1k", "imagenette": "frgfm/imagenette"}
"""The hub's data set of a class list."""
LEADING = {"classification": "top1", "detection": "coco_ap", "segmentation": "miou"}
"""The metric of each task that a leaderboard of the hub gets, which has one for each network."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a network on a data set, in percent, by the names in `MEASURES`.

    Attributes:
        data: the name of the data set, as text.
        hub: the hub's name of the data set; None if it is not on the hub.
        values: the metrics.
        n: number of images.
        date: when it was measured, in ISO format.
        preprocessing: size, crop and interpolation of a classifier's images.
    """

    data: str
    hub: str | None
    values: dict[str, float]
    n: int
    date: str | None
    preprocessing: dict[str, Any]


def prepare(
    file: Path,
    repo: str,
    folder: Path,
    *,
    licence: str,
    evaluations: Sequence[Path] = (),
    data: str | None = None,
    task_id: str | None = None,
) -> tuple[Path, ...]:
    """Write the files of the repository into an empty folder, and return their paths.

    Args:
        file: a weight file that trickzoo wrote, for any task.
        repo: the repository, "owner/name".
        folder: the folder, which is created.
        licence: the SPDX identifier of the licence of the weights.
        evaluations: result files of evaluations of this file.
        data: the hub's name of the data set of the evaluations, "owner/name"; by default that of the class list, if it has one.
        task_id: the task under which the data set's `eval.yaml` lists such results, if it is a benchmark of the hub.

    Raises BadCheckpoint if the file is not such a file, BadOption for a wrong name, a folder that is not empty, or a `task_id` without an
    evaluation on a data set of the hub, and BadData if an evaluation cannot be read or is of other weights.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise BadOption(f'--repo must be OWNER/NAME, not "{repo}"')
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
        raise BadOption(f'--licence must be the SPDX identifier of a licence, such as apache-2.0, not "{licence}"')
    if folder.exists() and not folder.is_dir():
        raise BadOption(f"{folder} is a file; name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise BadOption(f"{folder} is not empty; name a new folder")
    own = header.of_file(file)
    if own is None:
        raise BadCheckpoint(f"{file} does not name its model; write it with `trickzoo export`")
    network = loading.load(file)  # a file that cannot be used is not published
    measured = [_evaluation(path, digest(file), data, own.classes) for path in evaluations]
    entries = _entries(measured, own.task, task_id) if task_id else []
    with new_folder(folder) as place:
        config: dict[str, Any] = {"architecture": own.model, "num_classes": len(network.classes), "label_names": list(network.classes)}
        layout = own.layout
        if isinstance(network.network, Backbone):
            layout = _write_classifier(file, own, network.network, place, config, licence)
        else:
            _copy(file, own, place / NETWORK)
        record = _record(own, repo, place / NETWORK, layout, licence, network.classes, measured)
        config["trickzoo"] = {"task": own.task, "record": msgspec.to_builtins(record)}
        (place / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (place / "README.md").write_text(_card(own, repo, record, config, measured), encoding="utf-8")
        if entries:
            (place / ".eval_results").mkdir()
            (place / ".eval_results" / "trickzoo.yaml").write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def _write_classifier(file: Path, own: header.FileMetadata, model: Backbone, folder: Path, config: dict[str, Any], licence: str) -> Any:
    """Write the weights, under timm's names where timm has the network, and add timm's fields to the config. Return the layout."""
    try:
        config |= timm_form.config(model, licence)
    except BadOption:  # timm does not have it
        _copy(file, own, folder / NETWORK)
        return own.layout
    tensors = read_tensors(file).tensors
    architecture = registry.find(own.model)
    ours = convert.key_map(architecture, own.layout, model.state_dict())
    theirs = {key: name for name, key in convert.key_map(architecture, "timm", model.state_dict()).items()}
    renamed = {theirs[ours[key]]: tensor for key, tensor in tensors.items() if key in ours}
    save_atomically(renamed, folder / NETWORK, header.encoded(msgspec.structs.replace(own, layout="timm")))
    return "timm"


def _copy(file: Path, own: header.FileMetadata, target: Path) -> None:
    """Copy a weight file. The weights of a checkpoint are written as safetensors, as the suffix of the copy states."""
    if file.suffix == target.suffix:
        shutil.copyfile(file, target)
    else:
        save_atomically(read_tensors(file).tensors, target, header.encoded(own))


def _evaluation(path: Path, sha256: str, data: str | None, classes: str | tuple[str, ...] | None) -> Evaluation:
    """Read the result file of an evaluation. Raises BadData if it cannot be read or is of other weights."""
    try:
        content = read_json(path)
        (result,) = content.get("results") or [content]
        of, values = result["weights_sha256"], {name: float(result[name]) for name in MEASURES if result.get(name) is not None}
        place, n = Path(str(result["data"]["path"])), int(result.get("n") or result["data"].get("images") or result["data"]["n"])
    except FileNotFoundError:
        raise BadData(f"{path} does not exist; name the result file that `trickzoo eval --out` wrote") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror or error}); name the result file that `trickzoo eval --out` wrote") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadData(f"{path} is not the result file of one evaluation; write it with `trickzoo eval --out`") from None
    if of != sha256:
        raise BadData(f"{path} is an evaluation of weights with the SHA-256 {of}, not {sha256}; evaluate the file that is published")
    hub = data or next((place for name, place in DATA_SETS.items() if classes in (name, class_list(name))), None)
    prepared = {name: result.get("preprocessing", {}).get(name) for name in ("size", "crop", "interpolation")}
    return Evaluation("/".join(place.parts[-2:]), hub, values, n, content.get("date"), prepared)


def _record(
    own: header.FileMetadata,
    repo: str,
    file: Path,
    layout: Any,
    licence: str,
    classes: Sequence[str],
    measured: Sequence[Evaluation],
) -> Record:
    recipe = (own.training or {}).get("recipe")
    tag = re.sub(r"[^a-z0-9_]+", "_", repo.partition("/")[2].lower())
    metrics = [
        Metric(e.data, e.values["top1"], e.values["top5"], f"trickzoo-eval, {repo}", "measured", e.n, **e.preprocessing)
        for e in measured
        if {"top1", "top5"} <= e.values.keys()
    ]
    assert own.preprocessing is not None
    return Record(
        name=f"{own.model}.{tag}",
        layout=layout,
        classes=own.classes if isinstance(own.classes, str) else tuple(classes),
        licence=licence,
        sources=(Source(hub=repo, file=NETWORK, sha256=digest(file), size=file.stat().st_size),),
        preprocessing=own.preprocessing,
        options=dict(own.options),
        recipe=recipe.get("name") if isinstance(recipe, dict) else None,
        origin=f"https://huggingface.co/{repo}",
        metrics=tuple(metrics),
    )


def _entries(measured: Sequence[Evaluation], task: str, task_id: str) -> list[dict[str, Any]]:
    """Return the content of a file of `.eval_results`, from which the hub takes the leaderboards of its benchmarks.

    The format requires the id of a task in the `eval.yaml` of the data set, so nothing is written for a data set that is not a benchmark.
    Source: github.com/huggingface/hub-docs, eval_results.yaml, 242f4a1e. Raises BadOption if there is no such evaluation.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    metric = LEADING[task]
    entries = [
        EvalResultEntry(
            dataset_id=e.hub,
            task_id=task_id,
            value=e.values[metric],
            date=e.date,
            notes=f"{MEASURES[metric]} in percent, {count(e.n, 'image')}, {e.data}",
        )
        for e in measured
        if e.hub is not None and metric in e.values
    ]
    if not entries:
        raise BadOption(f"--task-id needs an --evaluation with {MEASURES[metric]}, and --dataset, its data set on the hub")
    found: list[dict[str, Any]] = eval_result_entries_to_yaml(entries)
    return found


def _card(own: header.FileMetadata, repo: str, record: Record, config: dict[str, Any], measured: Sequence[Evaluation]) -> str:
    """Return the card, README.md, whose head the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    task = PIPELINES[own.task]
    in_timm = own.task == "classification" and "pretrained_cfg" in config
    data = ModelCardData(
        license=record.licence,
        library_name="timm" if in_timm else "trickzoo",
        pipeline_tag=task,
        tags=[task, "trickzoo", *(["timm"] if in_timm else [])],
        datasets=sorted({e.hub for e in measured if e.hub}) or None,
        model_name=repo.partition("/")[2],
        eval_results=[
            EvalResult(task_type=task, dataset_type=e.hub or e.data, dataset_name=e.data, metric_type=name, metric_value=value)
            for e in measured
            for name, value in e.values.items()
        ]
        or None,
    )
    names = [describe_class(name) for name in class_list(record.classes)]
    training = own.training or {}
    lines = [f"---\n{data.to_yaml()}\n---\n", f"# {repo.partition('/')[2]}\n"]
    lines.append(f"{registry.find(own.model).summary}, for {own.task}, with {count(len(names), 'class')}. {_origin(own)}\n")
    lines += ["## Use\n", "```python", *_usage(own, repo, in_timm), "```\n"]
    if measured:
        lines += ["## Metrics\n", "| data | images | metric | percent |", "| --- | ---: | --- | ---: |"]
        lines += [f"| {_text(e.data)} | {e.n:,} | {MEASURES[name]} | {value:.2f} |" for e in measured for name, value in e.values.items()]
        lines.append("")
    about = {
        "classes": _text(", ".join(names[:20])) + ("" if len(names) <= 20 else f" and {len(names) - 20} more"),
        "preprocessing": str(record.preprocessing) if own.task == "classification" else None,
        "recipe": None if record.recipe is None else _text(record.recipe),
        "random seed": None if training.get("seed") is None else _text(training["seed"]),
        "SHA-256": f"`{record.sources[0].sha256}`",
        "licence": record.licence,
    }
    lines += ["## Record\n", "| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in about.items() if value is not None)]
    return "\n".join(lines) + "\n"


def _text(name: object) -> str:
    """Return a name as Markdown that shows it as it is, on one line, in a table too."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(printable(name), quote=False))


def _origin(own: header.FileMetadata) -> str:
    """Return where the weights come from, as a sentence."""
    training = own.training or {}
    if "origin" in training:
        return f"Converted from {_text(training.get('file', 'a file'))} of {_text(training['origin'])}."
    if own.source is not None:
        return f"The weights are {_text(own.source)} of trickzoo's zoo."
    return "Trained with trickzoo." if "seed" in training else "Written with trickzoo."


def _usage(own: header.FileMetadata, repo: str, in_timm: bool) -> list[str]:
    if own.task != "classification":
        return ["import trickzoo", "", f'model = trickzoo.{own.task}.load("hf-hub:{repo}")']
    lines = ["import trickzoo", "", f'model = trickzoo.create("{own.model}", weights="hf-hub:{repo}")']
    if in_timm:
        lines += ["", "import timm", "", f'model = timm.create_model("hf-hub:{repo}", pretrained=True)']
    return lines
