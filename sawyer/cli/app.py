"""The command `sawyer`: one small function a command, heavy imports inside, errors as one paragraph."""

import sys
from typing import Annotated

import typer

from sawyer import __version__
from sawyer.cli import feedback, keys, models
from sawyer.cli.evaluate import evaluate
from sawyer.cli.methods import compare_methods
from sawyer.cli.options import HomeOption, RecipeArgument, SetOption
from sawyer.cli.plan import plan
from sawyer.cli.reward_report import reward_report
from sawyer.cli.rounds import round_
from sawyer.errors import SawyerError
from sawyer.quiet import quieten

app = typer.Typer(
    name="sawyer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A chatbot trained in three stages, served side by side, learning from the people who talk to it.",
)
app.add_typer(feedback.app, name="feedback")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.command()(evaluate)
app.command()(compare_methods)
app.command()(reward_report)
app.command()(plan)
app.command("round")(round_)

ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
DrainOption = Annotated[
    float, typer.Option("--drain-seconds", min=0, help="Longest wait for running replies when told to end.")
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
OpenOption = Annotated[
    bool, typer.Option("--open", help="Let in everybody who reaches the address, with or without an API key.")
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sawyer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Common options."""


@app.command()
def demo(
    port: PortOption = 7860,
    host: HostOption = "127.0.0.1",
    home: HomeOption = None,
    open_to_all: OpenOption = False,
    drain_seconds: DrainOption = 30,
) -> None:
    """Talk to the shipped nano model: the API and the page in one process."""
    from sawyer.cli.serving import run_server

    run_server("nano", home, host=host, port=port, with_page=True, open_to_all=open_to_all, drain_seconds=drain_seconds)


@app.command()
def serve(
    recipe: RecipeArgument,
    port: PortOption = 8000,
    host: HostOption = "127.0.0.1",
    home: HomeOption = None,
    engine: Annotated[
        str, typer.Option(metavar="local|tgi|vllm", help="Where the model runs: here, or in a server at --url.")
    ] = "local",
    url: Annotated[
        str | None, typer.Option(help="Address of the TGI or vLLM server; its token in SAWYER_REMOTE_TOKEN.")
    ] = None,
    remote_model: Annotated[str | None, typer.Option(help="vLLM's name of the base model, if it has several.")] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            "--print-launch", metavar="vllm|tgi", help="Print a script that starts such a server and SAWYER, and end."
        ),
    ] = None,
    open_to_all: OpenOption = False,
    drain_seconds: DrainOption = 30,
) -> None:
    """Serve a recipe's stages: OpenAI-compatible chat, comparison and votes."""
    from sawyer.cli.remote import choose_engine, print_launch
    from sawyer.cli.serving import run_server

    if launch is not None:
        print_launch(launch, recipe, home)
        return
    run_server(
        recipe,
        home,
        host=host,
        port=port,
        with_page=False,
        open_to_all=open_to_all,
        drain_seconds=drain_seconds,
        remote=choose_engine(engine, url, remote_model),
    )


@app.command()
def ui(
    api: Annotated[str, typer.Option("--api", help="Address of a running `sawyer serve`.")] = "http://127.0.0.1:8000",
    port: PortOption = 7860,
    host: HostOption = "127.0.0.1",
    open_to_all: OpenOption = False,
) -> None:
    """Serve the page alone, on an API that runs elsewhere; SAWYER_API_KEY is the page's key there."""
    from sawyer.cli.serving import run_page

    run_page(api, host=host, port=port, open_to_all=open_to_all)


@app.command()
def chat(recipe: Annotated[str, typer.Argument(metavar="[RECIPE]")] = "nano", home: HomeOption = None) -> None:
    """Talk to the stages side by side in the terminal."""
    from sawyer.cli.chat import run_chat

    run_chat(recipe, home)


@app.command()
def train(
    step: Annotated[
        str,
        typer.Argument(
            metavar="STEP", help="base, sft, reward, judge, or for rlf ppo, grpo, rloo, dpo, ipo, kto, orpo or spin."
        ),
    ],
    recipe: RecipeArgument,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    home: HomeOption = None,
) -> None:
    """Train one step and promote its result."""
    from sawyer.cli.training import run_train

    run_train(step, recipe, overrides or [], resume, home)


@app.command()
def pipeline(
    recipe: RecipeArgument, overrides: SetOption = None, resume: ResumeOption = False, home: HomeOption = None
) -> None:
    """Train every step the recipe names, promote the results and evaluate them."""
    from sawyer.cli.training import run_all

    run_all(recipe, overrides or [], resume, home)


@app.command()
def doctor(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Folder of a run of PPO, GRPO or RLOO, or its recipe's name.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Check this machine, or diagnose a run of PPO, GRPO or RLOO: exit code 1 if something is wrong."""
    from sawyer.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(run, home))


def main() -> None:
    """Entry point: exit codes 0 done, 1 failure, 2 usage or recipe error, 3 refused by a gate."""
    quieten()
    try:
        app()  # Typer prints usage errors itself (exit code 2) and turns Ctrl-C into 130
    except SawyerError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_unforeseen(error))


def _say(text: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _unforeseen(error: Exception) -> int:
    """A full disk, and faults of ours: one paragraph, the traceback into a file."""
    import errno
    import tempfile
    import traceback

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
        _say(f"The disk cannot be written ({error.strerror}: {error.filename}). Free some space, then use --resume.")
        return 1
    with tempfile.NamedTemporaryFile("w", prefix="sawyer-error-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    _say(
        f"Something went wrong that SAWYER did not foresee: {type(error).__name__}: {str(error)[:300]}. The details "
        f"are in {file.name}; please report them."
    )
    return 1


if __name__ == "__main__":
    main()
