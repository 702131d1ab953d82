"""A page that shows a scene before and after, in one file that needs no network.

``viewer.js`` is what is written by hand; ``viewer.min.js`` is the same with the parts of three.js
that it uses (MIT, its notice is in the file), made by ``npm run build`` in its folder.
"""

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("page")


def page(payload: Mapping[str, object], *, title: str) -> bytes:
    """Returns the page.

    Args:
        payload: what the script reads (`cbs_core.scene.meshes.payload` and that of splats).
        title: of the page.
    """
    template = (FOLDER / "viewer.html").read_text(encoding="utf-8")
    script = (FOLDER / "viewer.min.js").read_text(encoding="utf-8")
    # "</" would end the element that holds it.
    data = json.dumps(payload).replace("</", "<\\/")
    parts = {"@TITLE@": html.escape(title), "@DATA@": data, "@SCRIPT@": script}
    return re.sub("@[A-Z]+@", lambda found: parts[found[0]], template).encode()
