"""How the page is served: the arguments of `python app.py`, who can reach the page, and what visitors may do there."""

from __future__ import annotations

import argparse
import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from bivdiff.catalog.families import FAMILIES
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from tabs.door import Door, host_name, is_loopback

LOOPBACK = "127.0.0.1"
VISITORS_FRAMES = 64  # that a clip of theirs may have, unless the owner says another number


def build_parser() -> argparse.ArgumentParser:
    """The parser of the arguments; what is not given is left to the environment."""
    parser = argparse.ArgumentParser(
        description="BIVDiff Studio in the browser.", allow_abbrev=False,
        epilog="Environment variables, named in parentheses, serve as well; an argument goes before them.",
    )  # fmt: skip
    where = parser.add_argument_group("where it is served")
    where.add_argument(
        "--server-name", metavar="ADDRESS",
        help="address to serve at; 0.0.0.0 is every one of this machine (GRADIO_SERVER_NAME, or 127.0.0.1)",
    )  # fmt: skip
    where.add_argument(
        "--server-port", type=int, metavar="PORT", help="port (GRADIO_SERVER_PORT, or the first free from 7860)"
    )
    where.add_argument("--root-path", metavar="PATH", help="where a proxy has it, such as /studio (GRADIO_ROOT_PATH)")
    where.add_argument("--share", action="store_true", help="also open a public link, for a few days (GRADIO_SHARE)")
    where.add_argument("--inbrowser", action="store_true", help="show the page in the default browser")
    where.add_argument("--mcp", action="store_true", help="also serve the actions as MCP tools (GRADIO_MCP_SERVER)")
    who = parser.add_argument_group("who may see it")
    who.add_argument(
        "--auth", action="append", default=[], metavar="USER:PASSWORD",
        help="ask for a name and a password; may be repeated. Others on this machine can read arguments, so better "
        "use the next, or the variable, with commas between several (BIVDIFF_AUTH)",
    )  # fmt: skip
    who.add_argument("--auth-file", type=Path, metavar="FILE", help="the same from a file, one USER:PASSWORD a line")
    who.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME",
        help="another name that the page is called by, as a tunnel or proxy has it; may be repeated. Where it is "
        "served to this machine alone, no others than this machine's own are answered (BIVDIFF_ALLOWED_HOSTS)",
    )  # fmt: skip
    who.add_argument("--ssl-certfile", type=Path, metavar="FILE", help="certificate, to serve by https")
    who.add_argument("--ssl-keyfile", type=Path, metavar="FILE", help="its key")
    parser.add_argument("--device", help="auto, cpu, cuda or mps (BIVDIFF_DEVICE, or auto)")
    return parser


def serving_options(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the page's `launch`; None leaves a thing to Gradio's own environment variable.

    Raises:
        InputError: accounts or certificate cannot be used, or what MCP needs is not installed.
    """
    if (given.ssl_certfile is None) != (given.ssl_keyfile is None):
        raise InputError("https needs a certificate and its key. Give both --ssl-certfile and --ssl-keyfile.")
    if not (port := os.environ.get("GRADIO_SERVER_PORT", "")).isdecimal() and port:
        raise InputError(f"'{port}' is not a valid value for GRADIO_SERVER_PORT. Set it to a number such as 7860.")
    for path in (given.ssl_certfile, given.ssl_keyfile):
        if path is not None and not path.is_file():
            raise InputError(f"There is no file '{path.name}', which https needs. Look at the path.")
    if (given.mcp or _is_on("GRADIO_MCP_SERVER")) and importlib.util.find_spec("mcp") is None:
        raise InputError("Serving MCP tools needs the package 'mcp'. Install it: pip install 'gradio[mcp]'.")
    return {
        "server_name": given.server_name, "server_port": given.server_port,
        "share": given.share or _is_on("GRADIO_SHARE"),  # never by Gradio's own choice, as it does in notebooks
        "inbrowser": given.inbrowser, "root_path": given.root_path, "auth": accounts(given) or None,
        "ssl_certfile": _text(given.ssl_certfile), "ssl_keyfile": _text(given.ssl_keyfile),
        # Its only use is that Gradio calls its own address, which a certificate of one's own is not made out to.
        "ssl_verify": given.ssl_certfile is None,
        "mcp_server": given.mcp or None,
    }  # fmt: skip


def accounts(given: argparse.Namespace) -> list[tuple[str, str]]:
    """Names and passwords, from the arguments, the file they name, and the environment together.

    Raises:
        InputError: one is not written as user:password, or the file cannot be read.
    """
    lines = [*given.auth, *os.environ.get("BIVDIFF_AUTH", "").split(",")]
    if given.auth_file is not None:
        try:
            lines += given.auth_file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The file of --auth-file cannot be read: {error}. Look at the path.") from error
    pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if line.strip()]
    found = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and all(pair)]
    if len(found) < len(pairs):
        raise InputError("A name and a password are wanted, as in 'ada:secret', and one of those given is not so.")
    return found


def open_to_others(given: argparse.Namespace) -> bool:
    """Whether others than who sits at this machine can reach the page, as far as arguments and environment tell."""
    return _is_behind_a_proxy(given) or not is_loopback(host_name(_address(given)))


def _is_behind_a_proxy(given: argparse.Namespace) -> bool:
    """Whether requests come by way of a proxy, which says for whom: the owner's, the Hub's, a public link's."""
    return _is_far_away(given) or bool(root_of(given))


def _is_far_away(given: argparse.Namespace) -> bool:
    """Whether visitors come by way of the Hub or a public link, over the Internet."""
    return bool(given.share or _is_on("GRADIO_SHARE") or "SPACE_ID" in os.environ)


def door_of(given: argparse.Namespace) -> Door:
    """Who may come in, and by which way, as far as arguments and environment tell.

    Where the page is served to this machine alone, it may be called by this machine's names alone: else a page of
    another name, which is made to lead here, could use it in a visitor's browser.
    """
    named = [*given.allowed_host, *os.environ.get("BIVDIFF_ALLOWED_HOSTS", "").split(",")]
    hosts = tuple(host_name(name.strip()) for name in named if name.strip())
    others = open_to_others(given)
    return Door(
        pages=tuple(FAMILIES),
        hosts=None if others and not hosts else (*hosts, host_name(_address(given))),
        behind_proxy=_is_behind_a_proxy(given), from_afar=_is_far_away(given), on_space="SPACE_ID" in os.environ,
    )  # fmt: skip


def visitors_settings(settings: Settings, others: bool, locked: bool = False) -> Settings:
    """The settings, with it decided what visitors may do to models, publish, see, and how long their clips may be.

    A Space offers the built-in family alone unless its owner names others: their files must be put there first.

    Args:
        settings: may leave that open.
        others: whether there are visitors other than who sits at this machine.
        locked: whether there is a password; a link shows a result to who does not know it.

    Raises:
        InputError: one is neither yes, no nor auto.
    """
    decided = {"yes": "yes", "no": "no", "auto": "no" if others else "yes"}
    if settings.own_models not in decided:
        raise InputError(f"BIVDIFF_OWN_MODELS is '{settings.own_models}'. Set it to yes, no or auto.")
    links = {"yes": "yes", "no": "no", "auto": "no" if locked else "yes"}
    if settings.links not in links:
        raise InputError(f"BIVDIFF_LINKS is '{settings.links}'. Set it to yes, no or auto.")
    built_in = "SPACE_ID" in os.environ and "BIVDIFF_FAMILIES" not in os.environ
    families = "toybox" if built_in else settings.families
    most = (VISITORS_FRAMES if others else 0) if settings.max_frames is None else settings.max_frames
    return replace(
        settings, own_models=decided[settings.own_models], links=links[settings.links], families=families,
        max_frames=most,
    )  # fmt: skip


def open_door(given: argparse.Namespace, locked: bool) -> str:
    """What to tell who starts the app where anybody may come in; empty where that is not so, or is a Space's purpose.

    Args:
        given: the arguments.
        locked: whether there is a password.
    """
    if locked or "SPACE_ID" in os.environ or not open_to_others(given):
        return ""
    return (
        "Whoever reaches this page may use it: it is served to others than you, and asks for no password. "
        "Set one with --auth-file or BIVDIFF_AUTH, or serve at 127.0.0.1 alone."
    )


def root_of(given: argparse.Namespace) -> str:
    """Where a proxy has the page; empty where there is none."""
    return given.root_path or os.environ.get("GRADIO_ROOT_PATH") or ""


def _address(given: argparse.Namespace) -> str:
    return given.server_name or os.environ.get("GRADIO_SERVER_NAME") or LOOPBACK


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
