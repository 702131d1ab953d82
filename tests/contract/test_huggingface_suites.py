"""Checkpoints of transformers keep the contract: one with score maps, one with objects."""

import copy

import pytest
import torch

from cbs_core import testing
from cbs_core.choose.registry import segmenters
from tests import tiny_sam
from tests.tiny_transformers import save

pytest.importorskip("transformers", reason="needs transformers: the extra [huggingface]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("transformers")
    return lambda family: save(family, base / family)


@pytest.fixture(scope="module")
def segformer(folder):
    return folder("segformer")


@pytest.fixture(scope="module")
def mask2former(folder):
    return folder("mask2former")


@pytest.fixture(scope="module")
def eomt(folder):
    return folder("eomt")


@pytest.fixture(scope="module")
def clipseg(folder):
    return folder("clipseg")


class TestSegFormer(testing.SegmenterSuite):
    plugin = "segmenter/huggingface"

    @pytest.fixture(autouse=True)
    def _folder(self, segformer):
        self.folder = segformer

    def create(self):
        return segmenters.create("huggingface", model=str(self.folder))


class TestMask2Former(testing.InstanceSegmenterSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, mask2former):
        self.folder = mask2former

    def create(self):
        return segmenters.create("huggingface", model=str(self.folder), threshold=0.3)


class TestPaddedEoMT(testing.InstanceSegmenterSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, eomt):
        self.folder = eomt

    def create(self):
        return segmenters.create("huggingface", model=str(self.folder), threshold=0.3)


class TestPrompted(testing.PromptableSuite):
    plugin = "segmenter/prompted"

    @pytest.fixture(autouse=True)
    def _folder(self, clipseg):
        self.folder = clipseg

    def create(self):
        return segmenters.create("prompted", model=str(self.folder))


class TestPromptedSegmenter(testing.SegmenterSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, clipseg):
        self.folder = clipseg

    def create(self):
        return segmenters.create("prompted", model=str(self.folder)).prompted(("a", "b c"))


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    folder = tiny_sam.save("sam", tmp_path_factory.mktemp("transformers") / "sam")
    return segmenters.create("sam", model=str(folder))


class TestSam(testing.PointSegmenterSuite):
    plugin = "segmenter/sam"

    @pytest.fixture(autouse=True)
    def _net(self, sam):
        self.net = sam

    def create(self):
        self.net.reset()
        return self.net


class TestSamsState(testing.StatefulSuite):
    @pytest.fixture(autouse=True)
    def _net(self, sam):
        self.net = sam

    def create(self):
        plugin = copy.copy(self.net)  # one net, and a state each
        plugin.reset()
        return plugin

    def step(self, plugin, index):
        image = testing.picture(48, 64, seed=1).roll(index, 3)
        (found,) = plugin.instances_at(image, (0.5, 0.5))
        return torch.cat([found.masks.flatten(), found.scores])


def test_the_objects_are_not_nothing(mask2former):
    plugin = segmenters.create("huggingface", model=str(mask2former), threshold=0.3)
    with torch.inference_mode():
        found = plugin.instances(torch.rand(4, 3, 64, 96))
    assert sum(len(one.masks) for one in found)
