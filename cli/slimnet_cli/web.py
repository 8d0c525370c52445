"""``slimnet web``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number, percent, say
from slimnet_cli._options import BundlePath, as_json, detector_given, existing, folder_out, force
from slimnet_cli._quick import refuse_missing_bundle, refuse_out


@click.command("web")
@click.argument("bundle", type=BundlePath())
@folder_out
@click.option("--title", help="Heading of the page (default: the name of the bundle's folder).")
@click.option("--example", "examples", type=existing, multiple=True, metavar="IMAGE", help="A picture to offer; may be repeated.")
@click.option("--webgpu/--no-webgpu", default=True, show_default=True, help="With what WebGPU needs (4 MB more).")
@click.option(
    "--detector",
    default="auto",
    show_default=True,
    metavar="NAME|FILE",
    help="What finds faces on the page: blazeface (fetched once, 5 MB), FILE with its weights, none, or auto: for a classifier "
    "of faces blazeface, if it is at hand.",
)
@click.option("--runtime", type=existing, metavar="FILE", help="onnxruntime-web's npm package (default: kept, or fetched once).")
@click.option("--registry", metavar="URL", help="npm registry to fetch from (default: npm_config_registry, or npm's own).")
@click.option(
    "--serve",
    type=click.IntRange(0, 65535),
    is_flag=False,
    flag_value=8000,
    metavar="[PORT]",
    help="Then serve the site on this computer until interrupted.  [port: 8000; 0: any]",
)
@force
@as_json
def command(bundle: Path, out: Path, serve: int | None, as_json: bool, detector: str, **options: Any) -> None:
    """Write a static web page that runs the networks of BUNDLE in the browser.

    BUNDLE is a folder, or the name of a bundle that slimnet ships.

    \b
    slimnet web expressions --out site --serve
    slimnet web expressions --out site --detector blazeface
    slimnet web build/r56 --out site
    python -m http.server -d site          # or any other static host
    """
    from slimnet.names import CHOSEN_PAGE_DETECTORS

    found = detector_given(detector, CHOSEN_PAGE_DETECTORS)
    refuse_missing_bundle(bundle)
    refuse_out(out, force=options["force"])
    from slimnet.web import build_site

    site = build_site(bundle, out, detector=found, **options)
    if as_json:
        emit_json(site.as_dict())
    else:
        _table(site)
    if serve is not None:
        _serve(site, serve)


def _table(site: Any) -> None:
    rows = [("network", "accuracy", "bytes")]
    for network in site.networks:
        accuracy = (network["accuracy"] or {}).get("value")
        rows.append((network["name"], percent(accuracy), number(network["bytes"])))
    emit_table(rows)
    echo(f"{len(site.files)} files, {number(site.bytes)} bytes in all")
    echo(str(site.path))


def _serve(site: Any, port: int) -> None:
    from slimnet.web import SiteServer

    with SiteServer(site.path, site.files, port) as server:
        say(f"{server.url} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")
