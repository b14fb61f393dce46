"""Nodes: which camera is meant, after numbers have moved too."""

import os
from pathlib import Path

import pytest

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.finding import find_node, node_at
from mjrelay.devices.nodes import (
    UsbDevice,
    VideoNode,
    siblings,
    stable_name,
    video_nodes,
)
from mjrelay.errors import SourceRefused, SourceUnreachable
from tests.devices.tree import Tree, device_number

BY_ID = "/dev/v4l/by-id/usb-046d_Webcam_A_B-video-index0"
BY_PATH = "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "dev").mkdir()
    return Tree(tmp_path)


def usb_at(tree: Tree, path: str) -> UsbDevice:
    device = node_at(path, tree.root).usb
    assert device
    return device


def find(tree: Tree, source: str, seen: UsbDevice | None = None) -> VideoNode:
    return find_node(V4l2Address.parse(source), seen=seen, root=tree.root)


def test_a_camera_is_read_whole(tree: Tree) -> None:
    sysfs = tree.camera("1-1.2", "video0", "video1")
    first, second = video_nodes(tree.root)
    assert (first.path, second.path) == ("/dev/video0", "/dev/video1")
    assert (first.index, second.index) == (0, 1)
    assert first.name == "driver's video0"
    assert first.number == tree.numbers["video0"]
    assert first.usb == UsbDevice(sysfs, "1-1.2", "046d", "0825", "A B", "Webcam C270")
    assert first.usb.address == "usb:046d:0825:A_B"
    assert first.usb.bus_node == Path("/dev/bus/usb/001/007")


def test_a_computer_without_cameras_has_none(tree: Tree) -> None:
    assert video_nodes(tree.root) == []


def test_this_computer_can_be_looked_at() -> None:
    assert all(node.path.startswith("/dev/") for node in video_nodes())


def test_what_a_device_does_not_say_is_made_up_or_empty(tree: Tree) -> None:
    tree.camera("1-1", "video0", serial="", model="")
    device = usb_at(tree, "/dev/video0")
    assert (device.serial, device.model) == ("", "camera 046d:0825")
    assert device.address == "usb:046d:0825"


def test_control_characters_of_a_device_do_not_reach_a_terminal(tree: Tree) -> None:
    tree.camera("1-1", "video0", model="Cam\x1b[2J")
    assert usb_at(tree, "/dev/video0").model == "Cam?[2J"


def test_a_node_that_goes_while_it_is_read_is_left_out(tree: Tree) -> None:
    sysfs = tree.camera("1-1", "video0", "video1")
    (sysfs / "1-1:1.0/video4linux/video0/dev").unlink()
    assert [node.path for node in video_nodes(tree.root)] == ["/dev/video1"]


def test_other_kinds_of_nodes_are_no_cameras(tree: Tree) -> None:
    tree.camera("1-1", "video0", "vbi0", "v4l-subdev0")
    assert [node.path for node in video_nodes(tree.root)] == ["/dev/video0"]


def test_a_camera_on_another_bus_has_no_usb_device(tree: Tree) -> None:
    path = tree.node("video0")
    node = node_at(path, tree.root)
    assert node.usb is None
    assert stable_name(node, tree.root) is None
    assert siblings(node, tree.root) == []


def test_a_container_may_call_a_node_otherwise(tree: Tree) -> None:
    tree.camera("1-1", "video2")
    (tree.root / "dev/video2").rename(tree.root / "dev/video0")
    assert [node.path for node in video_nodes(tree.root)] == ["/dev/video0"]
    assert find(tree, "/dev/video0").sysfs.name == "video2"


def test_siblings_are_the_other_nodes_of_the_same_device(tree: Tree) -> None:
    tree.camera("1-1", "video0", "video1", "video2")
    tree.camera("1-2", "video3", serial="other")
    node = node_at("/dev/video1", tree.root)
    assert [n.path for n in siblings(node, tree.root)] == ["/dev/video0", "/dev/video2"]


def test_the_stable_name_is_the_link_by_id(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    tree.link(BY_PATH, "../../video0")
    tree.link(BY_ID, "../../video0")
    assert stable_name(node_at("/dev/video0", tree.root), tree.root) == BY_ID


def test_without_links_the_stable_name_is_the_usb_address_of_the_first_node(tree: Tree) -> None:
    tree.camera("1-1", "video0", "video1")
    first, second = video_nodes(tree.root)
    assert stable_name(first, tree.root) == "usb:046d:0825:A_B"
    assert stable_name(second, tree.root) is None


def test_twins_are_told_apart_by_their_ports(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    tree.camera("1-2", "video1")
    tree.link(BY_ID, "../../video0")
    tree.link(BY_PATH, "../../video0")
    one, two = video_nodes(tree.root)
    assert stable_name(one, tree.root) == BY_PATH
    assert stable_name(two, tree.root) is None


@pytest.mark.parametrize("path", ["/dev/video0", BY_ID, "/dev/cam-front"])
def test_a_path_leads_to_its_node(tree: Tree, path: str) -> None:
    tree.camera("1-1", "video0")
    tree.link(BY_ID, "../../video0")
    tree.link("/dev/cam-front", "video0")
    assert find(tree, path).path == "/dev/video0"


def test_a_missing_path_names_the_cameras_that_are_there(tree: Tree) -> None:
    tree.camera("1-1", "video0", "video1")
    with pytest.raises(SourceUnreachable, match=r"^/dev/video7 is not there$") as caught:
        find(tree, "/dev/video7")
    assert caught.value.hint
    assert caught.value.hint.endswith("use one that is there: usb:046d:0825:A_B")


def test_with_no_camera_at_all_the_hint_says_to_plug_one_in(tree: Tree) -> None:
    with pytest.raises(SourceUnreachable) as caught:
        find(tree, "/dev/video0")
    assert caught.value.hint == "plug the camera in; `mjrelay devices` lists those that are there"


def test_another_device_is_no_camera(tree: Tree) -> None:
    tree.link("/dev/other", "/dev/null")
    with pytest.raises(SourceRefused, match="not a camera"):
        find(tree, "/dev/other")


def test_a_file_is_no_camera(tree: Tree) -> None:
    (tree.root / "dev/file").write_text("")
    with pytest.raises(SourceRefused, match="not a camera"):
        find(tree, "/dev/file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node")
def test_a_node_left_over_in_a_container_has_no_camera_behind_it(tree: Tree) -> None:
    try:
        os.mknod(tree.root / "dev/video0", 0o20600, os.makedev(81, 250))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    with pytest.raises(SourceUnreachable, match="there is no camera behind /dev/video0"):
        find(tree, "/dev/video0")


@pytest.mark.parametrize(
    "source", ["usb:046D:0825", "usb:046d:0825:A B", "usb:046d:0825:A_B", "/dev/video0"]
)
def test_a_camera_is_found_by_its_ids(tree: Tree, source: str) -> None:
    tree.camera("1-1", "video0", "video1")
    tree.camera("1-2", "video2", ids="1234:5678")
    assert find(tree, source).path == "/dev/video0"


@pytest.mark.parametrize("source", ["usb:046d:0826", "usb:046d:0825:AB"])
def test_a_camera_with_other_ids_is_not_it(tree: Tree, source: str) -> None:
    tree.camera("1-1", "video0")
    with pytest.raises(SourceUnreachable, match=f"^{source} is not there$"):
        find(tree, source)


def test_of_several_with_the_same_ids_the_user_chooses(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    tree.camera("1-2", "video1")
    tree.link(BY_PATH, "../../video0")
    with pytest.raises(SourceUnreachable, match="at the USB ports 1-1 and 1-2") as caught:
        find(tree, "usb:046d:0825")
    assert caught.value.hint == f"choose one by its port: {BY_PATH} or /dev/video1"


def test_of_several_with_the_same_ids_the_one_at_the_old_port_is_ours(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    tree.camera("1-2", "video1")
    seen = usb_at(tree, "/dev/video1")
    assert find(tree, "usb:046d:0825", seen).path == "/dev/video1"


def test_a_number_is_followed_to_our_camera(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    seen = usb_at(tree, "/dev/video0")
    tree.unplug("video0")
    tree.camera("1-2", "video1", "video2")
    tree.camera("1-3", "video3", serial="other")
    tree.link("/dev/video0", "/dev/video3")
    (tree.root / "dev/video0").unlink()
    (tree.root / "dev/video3").rename(tree.root / "dev/video0")
    assert find(tree, "/dev/video0", seen).path == "/dev/video1"


def test_a_number_that_is_gone_is_followed_too(tree: Tree) -> None:
    sysfs = tree.camera("1-1", "video0")
    seen = usb_at(tree, "/dev/video0")
    tree.unplug("video0")
    tree.node("video1", sysfs / "1-1:1.1")
    assert find(tree, "/dev/video0", seen).path == "/dev/video1"


def test_another_camera_at_our_number_is_not_shown_in_place_of_ours(tree: Tree) -> None:
    tree.camera("1-1", "video0", model="Ours")
    seen = usb_at(tree, "/dev/video0")
    tree.unplug("video0")
    tree.camera("1-2", "video1", serial="other", model="Theirs")
    (tree.root / "dev/video1").rename(tree.root / "dev/video0")
    with pytest.raises(SourceUnreachable, match=r"^another camera \(Theirs\) is at /dev") as caught:
        find(tree, "/dev/video0", seen)
    assert caught.value.hint == "plug Ours in again, or restart mjrelay to use the other one"


def test_a_twin_without_a_serial_is_not_ours_at_another_port(tree: Tree) -> None:
    tree.camera("1-1", "video0", serial="")
    seen = usb_at(tree, "/dev/video0")
    tree.camera("1-2", "video1", serial="")
    tree.unplug("video0")
    with pytest.raises(SourceUnreachable, match="/dev/video0 is not there"):
        find(tree, "/dev/video0", seen)


def test_twins_that_swapped_numbers_are_told_apart_by_port(tree: Tree) -> None:
    tree.camera("1-1", "video0", serial="")
    seen = usb_at(tree, "/dev/video0")
    tree.camera("1-2", "video1", serial="")
    dev = tree.root / "dev"
    (dev / "video0").rename(dev / "x")
    (dev / "video1").rename(dev / "video0")
    (dev / "x").rename(dev / "video1")
    assert find(tree, "/dev/video0", seen).path == "/dev/video1"


def test_our_camera_at_another_port_under_the_same_number_is_ours(tree: Tree) -> None:
    tree.camera("1-1", "video0", serial="")
    seen = usb_at(tree, "/dev/video0")
    tree.unplug("video0")
    tree.camera("1-4", "video1", serial="")
    (tree.root / "dev/video1").rename(tree.root / "dev/video0")
    assert find(tree, "/dev/video0", seen).number == tree.numbers["video1"]


def test_links_are_trusted_as_they_are(tree: Tree) -> None:
    tree.camera("1-1", "video0")
    seen = usb_at(tree, "/dev/video0")
    tree.camera("1-2", "video1", serial="other")
    tree.link(BY_PATH, "../../video1")
    assert find(tree, BY_PATH, seen).path == "/dev/video1"


def test_stand_ins_are_real_devices() -> None:
    assert device_number("null") == os.makedev(1, 3)
