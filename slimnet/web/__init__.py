"""A bundle as a static web site: the networks run in the visitor's browser."""

from __future__ import annotations

from slimnet.web.runtime import VERSION, fetch_runtime
from slimnet.web.serve import SiteServer
from slimnet.web.site import Site, build_site

__all__ = ["VERSION", "Site", "SiteServer", "build_site", "fetch_runtime"]
