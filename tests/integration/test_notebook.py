"""The notebook runs, cell by cell, and shows pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples/restyle.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert [picture.shape[:2] for picture in shown] == [(320, 320)] * 4
    plain, soft, matte, both = shown
    assert (plain != soft).any()
    assert 0.2 < (matte > 127).mean() < 0.8
    outside = matte == 0
    assert (both[outside] != soft[outside]).mean() > 0.5, "the background is restyled too"
