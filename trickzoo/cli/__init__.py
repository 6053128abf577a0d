"""The command line: parse, call, print. Commands are imported when they are asked for."""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError

import trickzoo as package
from trickzoo.cli import printing
from trickzoo.cli.options import EVERY
from trickzoo.data.layouts import LAYOUTS
from trickzoo.errors import StoppedByOtherProcess, TrickzooError

zoo = App(
    name="trickzoo",
    help="Trick-trained image backbones with verified weights.",
    version=package.__version__,
    help_format="plaintext",
    default_parameter=EVERY,
)
zoo.command("trickzoo.cli.models:list_", name="list", help="List the models.")
zoo.command("trickzoo.cli.models:describe", name="describe", help="Show a model or a weight: cost, weights, accuracy, sources.")

weights_app = App(name="weights", help="List, fetch, verify, pin and remove weights.")
weights_app.command(
    "trickzoo.cli.weights:list_", name="list", help="List weights with accuracy, licence, and whether they are on this machine."
)
weights_app.command("trickzoo.cli.weights:fetch", name="fetch", help="Download weights, verify them and print their paths.")
weights_app.command("trickzoo.cli.weights:verify", name="verify", help="Compute the digests of weights again and compare them.")
weights_app.command("trickzoo.cli.weights:path", name="path", help="Print the path of a weight's file without using the network.")
weights_app.command("trickzoo.cli.weights:lock", name="lock", help="Pin revision and digest of weights in the lock file.")
weights_app.command("trickzoo.cli.weights:rm", name="rm", help="Delete weights from this machine.")
zoo.command(weights_app)
zoo.command(
    "trickzoo.cli.predict:predict", name="predict", help="Print the most probable classes of each image, or draw its boxes or masks."
)
zoo.command(
    "trickzoo.cli.export:export",
    name="export",
    help="Write a model's weights, or the whole network as ONNX, torch.export or OpenVINO. A detector or segmenter then takes one image.",
)
zoo.command("trickzoo.cli.ladder:ladder", name="ladder", help="Train the paper's ladder with several seeds: which tricks help?")
zoo.command(
    "trickzoo.cli.transfer:transfer",
    name="transfer",
    help="Fine-tune a ladder's backbones as detectors and segmenters: does the gain transfer?",
)
zoo.command("trickzoo.cli.split:split", name="split", help="Divide a folder of classes into training and validation images.")
zoo.command("trickzoo.cli.shapes:shapes", name="shapes", help="Write generated images, named after the shape that they show.")

FIGURES = {"detection": "box AP", "segmentation": "mean IoU of masks"}
"""The measure of each task, for the help texts."""
evaluation = App(
    name="trickzoo-eval",
    help="Evaluate models on data sets.",
    version=package.__version__,
    help_format="plaintext",
    default_parameter=EVERY,
)
evaluation.command("trickzoo.cli.imagenet:imagenet", name="imagenet", help="Top-1, top-5 and calibration on an ImageNet-style set.")
for _name, _layout in LAYOUTS.items():
    _figures = " and ".join(FIGURES[task] for task in _layout.readers)
    evaluation.command(f"trickzoo.cli.annotated:{_name}", name=_name, help=f"{_figures[0].upper()}{_figures[1:]} on {_layout.what}.")


def run(app: App, tokens: list[str] | None = None) -> None:
    """Run a command line: a user's mistake, or a full disk, ends in one line on stderr and exit status 2, never in a traceback."""
    printing.prepare()
    try:
        try:
            app(tokens, console=printing.console(), print_error=False, exit_on_error=False)
        finally:
            printing.flush()
    except TrickzooError as error:
        if not isinstance(error, StoppedByOtherProcess):
            printing.complain(str(error))
        status = error.status
    except CycloptsError as error:
        command = " ".join([app.name[0], *(error.command_chain or ())])
        printing.complain(f"{' '.join(str(error).split())} (`{command} --help` lists the options)")
        status = 2
    except BrokenPipeError:  # `trickzoo list | head`
        status = 141
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        if (reason := printing.of_the_machine(error)) is None:
            raise
        printing.complain(reason)
        status = 2
    printing.silence()
    sys.exit(status)


def trickzoo() -> None:
    """Entry point of `trickzoo`."""
    run(zoo)


def trickzoo_eval() -> None:
    """Entry point of `trickzoo-eval`."""
    run(evaluation)


def trickzoo_train() -> None:
    """Entry point of `trickzoo-train`."""
    from trickzoo.cli.train import app

    run(app)


def trickzoo_finetune() -> None:
    """Entry point of `trickzoo-finetune`."""
    from trickzoo.cli.finetune import app

    run(app)
