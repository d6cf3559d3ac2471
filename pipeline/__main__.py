"""The front door: `sketchstack COMMAND`, or `python -m pipeline COMMAND`. A command is a file of pipeline/commands."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from pipeline.foundation.commandline import nearest
from pipeline.foundation.errors import replace_what_cannot_be_shown

# group → command → its help line; `export-model` is pipeline/commands/export_model.py.
COMMANDS: dict[str, dict[str, str]] = {
    "run": {
        "repro": "run what has changed, raw drawings to ranked submissions",
        "fetch": "bring a competition's raw files to data/NAME",
        "profile": "copy profiles/NAME.yaml to params.yaml",
        "check": "check params.yaml and the data before anything is trained",
        "reproduce": "make a recorded submission again and compare its bytes",
        "clean": "set aside models that params.yaml no longer names",
    },
    "look": {
        "report": "write the report of this run as one HTML page, or as Markdown",
        "preview": "draw drawings, as they are or as a learner sees them",
        "score": "score a CSV of guesses against known labels",
    },
    "use": {
        "predict": "guess what drawings show, with the trained ensemble",
        "pack": "pack the ensemble into one file that runs anywhere",
        "serve": "serve a pack over HTTP: an API, and a page to draw on",
    },
    "compare": {
        "compare": "say whether B is better than A: learners, submissions, revisions",
        "experiments": "list the experiments of `dvc exp run`, best first",
    },
    "try": {
        "tune": "search for better params of a learner",
        "relabel": "export suspected mislabels and take corrections",
    },
    "share": {
        "submit": "check, send or record a submission",
        "export": "write drawings as TFRecords or memory maps",
        "export-model": "write a fitted learner as an ONNX file",
    },
}
NAMES = [name for commands in COMMANDS.values() for name in commands]


class Command(click.Command):
    """A command of pipeline/commands, which reads its own arguments.

    Args:
        name: its name; its module is imported when it is called.
        line: its help line.
    """

    def __init__(self, name: str, line: str) -> None:
        settings: dict[str, Any] = {"ignore_unknown_options": True, "help_option_names": []}
        words = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, shell_complete=_files)
        super().__init__(name, settings, self._run, [words], help=line, add_help_option=False)

    def _run(self, arguments: tuple[str, ...]) -> None:
        importlib.import_module(f"pipeline.commands.{str(self.name).replace('-', '_')}").main(list(arguments))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The options that `--help` names."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            self._run(("--help",))
        options = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.getvalue()))
        return [CompletionItem(option) for option in options if option.startswith(incomplete)]


def _files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


class Commands(click.Group):
    """The commands in groups; a module is imported when its command is called."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click does it, on a stdout of any encoding."""
        replace_what_cannot_be_shown()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the groups; the shell completes them."""
        return NAMES

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, which reads its own arguments."""
        if cmd_name not in NAMES:
            return None
        return Command(cmd_name, next(commands[cmd_name] for commands in COMMANDS.values() if cmd_name in commands))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it, but an unknown command names the nearest."""
        if args and args[0] not in NAMES and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{nearest(args[0], NAMES)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line per command, below the name of its group."""
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`sketchstack COMMAND --help` has the options and an example. `make repro` or `dvc repro` run the stages. "
    'Shell completion: eval "$(_SKETCHSTACK_COMPLETE=bash_source sketchstack)" (or zsh_source, fish_source).',
)
def main() -> None:
    """Stroke drawings in, ranked and validated submissions out."""


if __name__ == "__main__":
    main(prog_name="sketchstack" if sys.argv[0].endswith("__main__.py") else None)
