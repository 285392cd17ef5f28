"""Commands run in this process."""

from click.testing import CliRunner

from sktl._cli import commands


def run(*arguments, status=0, input=None):
    """Run a command; return what it wrote to standard output and standard error."""
    done = CliRunner().invoke(commands.main, [str(argument) for argument in arguments], input, prog_name="sktl")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done.stdout, done.stderr
