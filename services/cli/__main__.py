"""The `mesh` command. Each command is a module of its own, imported only when it is asked for."""

from __future__ import annotations

import sys

from cyclopts import App

from services.common.errors import AppError, Unavailable

app = App(name="mesh", help="Mesh: an AI model gateway whose money is right.")

# Named by text, so that an image that carries one service need not carry what the others import.
app.command("services.cli.up:up", name="up", help="The whole product on this machine.")
app.command("services.cli.admin:app", name="admin", help="Accounts, keys, models, money, logs.")
app.command("services.cli.ledger:app", name="ledger", help="The books: explain, verify, correct.")
app.command("services.cli.billing:app", name="billing", help="Payments and their inbox.")
app.command("services.cli.dlq:app", name="dlq", help="Messages that a consumer put aside.")
app.command("services.cli.topics:app", name="topics", help="The topics on Kafka.")
app.command("services.cli.usage:app", name="usage", help="The request log: rebuild, reconcile.")
app.command(
    "services.cli.check_config:check_config",
    name="check-config",
    help="Say what is wrong with the settings of every service.",
)


def main() -> None:
    """Run the command line; an error of ours is one line, not a trace."""
    try:
        app()
    except AppError as error:
        away = "is the stack running? " if isinstance(error, Unavailable) else ""
        print(f"mesh: {away}{error.message}", file=sys.stderr)
        for detail in error.details:
            place = ".".join(str(part) for part in detail.loc)
            if not error.message.startswith(place):
                print(f"  {place}: {detail.msg}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
