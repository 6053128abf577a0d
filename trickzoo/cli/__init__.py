"""The command line: parse, call, print. The modules of the commands are imported when they are asked for."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from cyclopts import App, ArgumentCollection, CycloptsError, Group
from cyclopts.help import format_usage

from trickzoo.cli import printing
from trickzoo.cli.options import SETTINGS
from trickzoo.cli.usage_errors import usage_error
from trickzoo.data.layouts import LAYOUTS
from trickzoo.errors import StoppedByOtherProcess, TrickzooError

FIGURES = {"detection": "box AP", "segmentation": "mean IoU of masks"}
"""The measure of each task, for the help texts."""
COMMANDS = {
    "Networks": {
        "predict": ("trickzoo.cli.predict:predict", "Print the most probable classes of each image, or draw its boxes or masks."),
        "calibrate": ("trickzoo.cli.calibrate:calibrate", "Calibrate a classifier, so that its confidence matches its accuracy."),
        "export": ("trickzoo.cli.export:export", "Write a model's weights, or the whole network for other programs."),
        "publish": ("trickzoo.cli.publish:publish", "Publish a weight file on the Hugging Face Hub, with a card and metrics."),
        "list": ("trickzoo.cli.models:list_", "List the models."),
        "describe": ("trickzoo.cli.models:describe", "Show a model, a weight or a weight file: cost, accuracy, sources."),
    },
    "Training and evaluation": {
        "train": ("trickzoo.cli.train:train", "Train a classifier by a recipe."),
        "finetune": ("trickzoo.cli.finetune:finetune", "Fine-tune a backbone as a detector or a segmenter."),
    },
    "Studies": {
        "probe": ("trickzoo.cli.probe:probe", "Find the weights whose features suit your images, in minutes and without training."),
        "tune": ("trickzoo.cli.tune:tune", "Find a learning rate and other fields for your images by successive halving."),
        "ladder": ("trickzoo.cli.ladder:ladder", "Train the paper's ladder with several seeds: which tricks help?"),
        "compare": ("trickzoo.cli.compare:compare", "Compare two networks of one task on the same images."),
        "transfer": (
            "trickzoo.cli.transfer:transfer",
            "Fine-tune a ladder's backbones as detectors and segmenters: does the gain transfer?",
        ),
    },
    "Images and this program": {
        "split": ("trickzoo.cli.split:split", "Divide a folder of classes into training and validation images."),
        "masks": ("trickzoo.cli.masks:masks", "Draw the outlines of objects as masks, to train a segmenter on."),
        "shapes": ("trickzoo.cli.shapes:shapes", "Write generated images, named after the shape that they show."),
        "completion": ("trickzoo.cli.completion:completion", "Print a script that completes commands and options in a shell."),
    },
}
"""The commands of `trickzoo` in the groups of its help: the function that runs each, and the line that the list of commands shows."""
WEIGHTS = {
    "list": ("list_", "List weights with accuracy, licence, and whether they are on this machine."),
    "fetch": ("fetch", "Download weights, verify them and print their paths."),
    "verify": ("verify", "Compute the digests of weights again and compare them."),
    "path": ("path", "Print the path of a weight's file without using the network."),
    "lock": ("lock", "Pin revision and digest of weights in the lock file."),
    "import-gluoncv": ("import_gluoncv", "Write a .params file of GluonCV as a weight file of trickzoo."),
    "rm": ("rm", "Delete weights from this machine."),
}
"""The commands of `trickzoo weights`, likewise."""


def _evaluation(name: str, **settings: Any) -> App:
    """Return the commands that evaluate networks, as a program or as a command."""
    app = App(name=name, help="Evaluate models on data sets.", **settings)
    app.command("trickzoo.cli.imagenet:imagenet", name="imagenet", help="Evaluate classifiers on ImageNet or on images of other classes.")
    for layout, about in LAYOUTS.items():
        figures = " and ".join(FIGURES[task] for task in about.readers)
        about_it = f"{figures[0].upper()}{figures[1:]} on {about.what}."
        app.command(f"trickzoo.cli.annotated:{layout}", name=layout, help=about_it)
    return app


ABOUT = "Bag of Tricks for Image Classification (arXiv 1812.01187): weights, training, evaluation, detectors, segmenters and studies."
zoo = App(name="trickzoo", help=ABOUT, **SETTINGS)
groups = {title: Group(title, sort_key=number) for number, title in enumerate(COMMANDS)}
for _title, _commands in COMMANDS.items():
    for _name, (_function, _help) in _commands.items():
        zoo.command(_function, name=_name, help=_help, group=groups[_title])
weights_app = App(name="weights", help="List, fetch, verify, pin, import and remove weights.", group=groups["Networks"])
for _name, (_function, _help) in WEIGHTS.items():
    weights_app.command(f"trickzoo.cli.weights:{_function}", name=_name, help=_help)
zoo.command(weights_app)
zoo.command(_evaluation("eval", group=groups["Training and evaluation"]))
evaluation = _evaluation("trickzoo-eval", **SETTINGS)


class Command(App):
    """The program of a single command. It keeps the options once cyclopts has read them; a help would otherwise read them three times."""

    _options: ArgumentCollection | None = None

    def assemble_argument_collection(self, **_: Any) -> ArgumentCollection:
        """Return the options. Docstrings are not read, because each option states its help itself."""
        if self._options is None:
            self._options = super().assemble_argument_collection()
        return self._options


def _asked(app: App, words: list[str]) -> tuple[App, list[str]]:
    """Return the program of the command that these words name, and the other words; without such a command, what was given.

    Its help is the whole docstring of the command; the list of commands shows one line of it.
    """
    chain, apps, _ = app.parse_commands([word for word in words if not word.startswith("-")])
    function = apps[-1].default_command
    if function is None or tuple(word for word in words if word not in app.help_flags)[: len(chain)] != chain:
        return app, words
    others = list(words)
    for word in chain:
        others.remove(word)
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    about = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)  # the terminal breaks the lines, at its own width
    command = Command(name=" ".join([app.name[0], *chain]), help=about, **SETTINGS)
    command.default(function)
    for flag in (*command.help_flags, *command.version_flags):
        command[flag].show = not chain  # cyclopts lists these two flags in the help of a program, but not of its commands
    if not set(words).isdisjoint(app.help_flags):
        command.usage = _usage(command)
    return command, others


def _usage(command: Command) -> str:
    """Return the first line of a command's help, in which cyclopts calls all optional arguments ARGS, with their own names."""
    optional = [
        f"[{argument.name}{'...' if argument.field_info.kind is argument.field_info.VAR_POSITIONAL else ''}]"
        for argument in command.assemble_argument_collection()
        if argument.field_info.is_positional and not argument.required
    ]
    return format_usage(command, ()).plain.replace("[ARGS...]", "[ARGS]").replace("[ARGS]", " ".join(optional)).strip()


def run(app: App, tokens: list[str] | None = None) -> None:
    """Run a command line: a user's mistake, or a full disk, ends in one line on stderr and exit status 2, never in a traceback."""
    printing.prepare()
    words = sys.argv[1:] if tokens is None else tokens
    try:
        try:
            app, words = _asked(app, words)
            app(words, console=printing.console(), print_error=False, exit_on_error=False)
        finally:
            printing.flush()
    except TrickzooError as error:
        if not isinstance(error, StoppedByOtherProcess):
            printing.complain(str(error))
        status = error.status
    except CycloptsError as error:
        command = " ".join([app.name[0], *(error.command_chain or ())])
        printing.complain(f"{usage_error(error)} (`{command} --help` lists the options)")
        status = 2
    except BrokenPipeError:  # for example by `trickzoo list | head`
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
