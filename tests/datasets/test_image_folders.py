"""Layouts of image folders: what is normal, anomalous, a mask, or passed over, and what is refused.

A folder is described in lines: a path with "{a..b}" for numbers, and after it what the file is: "image" (the
default), "mask" (a part is marked), "empty", "full", or "text". "a -> b" is a symbolic link.
"""

import json
import os
import re
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from mmad_utils.datasets.image_folders import _words_of, folder_label, read_pictures
from mmad_utils.datasets.record import DatasetError

PIXELS = {"image": np.arange(80).reshape(8, 10) + 40, "mask": np.eye(8, 10) * 255, "empty": 0, "full": 255}


def build(root, text):
    for line in filter(None, map(str.strip, text.splitlines())):
        if " -> " in line:
            link, target = line.split(" -> ")
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(target, root / link)
            continue
        path, _, kind = line.partition(" : ")
        numbers = re.search(r"\{(\d+)\.\.(\d+)\}", path)
        for i in range(int(numbers[1]), int(numbers[2]) + 1) if numbers else [0]:
            file = root / (path.replace(numbers[0], f"{i:03d}") if numbers else path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if kind == "text":
                file.write_text("text")
            else:
                pixels = np.broadcast_to(PIXELS[kind or "image"], (8, 10)).astype(np.uint8)
                Image.fromarray(pixels).save(file)
    return root


MVTEC = """
    train/good/{0..3}.png
    test/good/{0..1}.png
    test/crack/{0..2}.png
    test/cut/{0..1}.png
    ground_truth/crack/{0..2}_mask.png : mask
    ground_truth/cut/{0..1}_mask.png : mask
    license.txt : text
"""
# description, (layout, normal, anomalous, masks) and a part of the notes
READ = {
    "MVTec AD": (MVTEC, ("MVTec AD", 6, 5, 7 - 2), "1 .txt"),
    "MVTec AD, from the folder above": (
        "\n".join(f"bottle/{line.strip()}" for line in MVTEC.strip().splitlines()),
        ("MVTec AD", 6, 5, 5),
        "1 .txt",
    ),
    "MVTec AD without masks": ("train/good/{0..3}.png\ntest/good/0.png\ntest/hole/0.png", ("MVTec AD", 5, 1, 0), ""),
    "MVTec AD without normal test images": (
        "train/good/{0..3}.png\ntest/crack/{0..1}.png\nground_truth/crack/{0..1}_mask.png : mask",
        ("MVTec AD", 4, 2, 2),
        "",
    ),
    "MVTec AD, kinds of defects named like a label": (
        "train/good/{0..3}.png\ntest/good/0.png\ntest/faulty_imprint/0.png\ntest/damaged_case/0.png\ntest/bad/1.png",
        ("MVTec AD", 5, 3, 0),
        "",
    ),
    "MVTec AD 2": (
        "train/good/{0..3}.png\nvalidation/good/0.png\ntest_public/good/0.png\ntest_public/bad/{0..1}.png\n"
        "test_public/ground_truth/bad/{0..1}_mask.png : mask",
        ("MVTec AD", 6, 2, 2),
        "",
    ),
    "MVTec LOCO AD, a folder of masks for each image": (
        "train/good/{0..2}.png\nvalidation/good/{0..1}.png\ntest/good/000.png\ntest/logical_anomalies/{0..1}.png\n"
        "ground_truth/logical_anomalies/000/000.png : mask\nground_truth/logical_anomalies/001/000.png : mask\n"
        "ground_truth/logical_anomalies/001/001.png : mask",
        ("MVTec AD", 6, 2, 3),
        "",
    ),
    "MVTec LOCO AD, two masks of one of two images": (
        "train/good/{0..2}.png\ntest/logical_anomalies/{0..1}.png\n"
        "ground_truth/logical_anomalies/001/{0..1}.png : mask",
        ("MVTec AD", 3, 2, 2),
        "1 of 2 anomalous images have a mask",
    ),
    "MPDD": (
        "train/good/{0..3}.png\ntest/good/0.png\ntest/parts_mismatch/{0..1}.png\ntest/hole/000.png\n"
        "ground_truth/parts_mismatch/{0..1}_mask.png : mask\nground_truth/hole/000_mask.png : mask",
        ("MVTec AD", 5, 3, 3),
        "",
    ),
    "BTAD": (
        "train/ok/{0..3}.bmp\ntest/ok/{0..1}.bmp\ntest/ko/{0..2}.bmp\nground_truth/ko/{0..2}.png : mask",
        ("BTAD", 6, 3, 3),
        "",
    ),
    "VisA": (
        "Images/Normal/{0..3}.JPG\nImages/Anomaly/{0..2}.JPG\nMasks/Anomaly/{0..2}.png : mask",
        ("VisA", 4, 3, 3),
        "",
    ),
    "VisA, folders in the singular": (
        "image/Normal/{0..3}.png\nimage/Anomaly/0.png\nmask/Anomaly/0.png : mask",
        ("VisA", 4, 1, 1),
        "",
    ),
    "VisA, a whole category": (
        "Data/Images/Normal/{0..3}.JPG\nData/Images/Anomaly/{0..2}.JPG\nData/Masks/Anomaly/{0..2}.png : mask\n"
        "image_anno.csv : text",
        ("VisA", 4, 3, 3),
        "1 .csv",
    ),
    "VisA, split like MVTec AD, masks called like images": (
        "train/good/{0..3}.JPG\ntest/good/0.JPG\ntest/bad/{0..1}.JPG\nground_truth/bad/{0..1}.png : mask",
        ("MVTec AD", 5, 2, 2),
        "",
    ),
    "VisA with masks that cover everything": (
        "Images/Normal/{0..3}.png\nImages/Anomaly/{0..1}.png\nMasks/Anomaly/{0..1}.png : full",
        ("VisA", 4, 2, 2),
        "2 masks of anomalous images do not mark a part of the image (first: Masks/Anomaly/000.png: everything)",
    ),
    "KolektorSDD": (
        "kos01/Part{0..2}.jpg\nkos01/Part{0..1}_label.bmp : empty\nkos01/Part002_label.bmp : mask\n"
        "kos02/Part{0..1}.jpg\nkos02/Part{0..1}_label.bmp : empty",
        ("KolektorSDD", 4, 1, 5),
        "",
    ),
    "KolektorSDD2": (
        "train/1{0..3}.png\ntrain/1{0..3}_GT.png : empty\ntest/2{0..1}.png\ntest/2000_GT.png : mask\n"
        "test/2001_GT.png : empty",
        ("KolektorSDD", 5, 1, 6),
        "",
    ),
    "a folder of masks beside one of images, a mask for each": (
        "images/{0..3}.png\nmasks/{0..2}.png : empty\nmasks/003.png : mask",
        ("KolektorSDD", 3, 1, 4),
        "",
    ),
    "good and bad": ("good/{0..3}.png\nbad/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "good and bad, nested above": (
        "line1/2024-01/good/{0..1}.png\nline1/2024-01/bad/{0..1}.png\nline2/good/{0..1}.png",
        ("folders of normal", 4, 2, 0),
        "",
    ),
    "good and bad, nested below": (
        "good/2024/01/{0..1}.png\ngood/{0..1}.png\nbad/scratch/deep/{0..1}.png\nbad/dent/{0..0}.png",
        ("folders of normal", 4, 3, 0),
        "",
    ),
    "OK and NG": ("OK/{0..3}.png\nNG/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "numbers and other words in the names": (
        "01_Good-Parts/{0..3}.png\n02_defective_samples/{0..1}.png",
        ("folders of normal", 4, 2, 0),
        "01_Good-Parts",
    ),
    "negations": ("no_defect/{0..3}.png\nnot-ok/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "kinds of defects beside normal": (
        "normal/{0..3}.png\ncrack/0.png\ndent/0.png",
        ("folders of normal", 4, 2, 0),
        "",
    ),
    "masks called x_mask beside the images": (
        "good/{0..3}.png\nbad/{0..1}.png\nbad/{0..1}_mask.png : mask",
        ("folders of normal", 4, 2, 2),
        "",
    ),
    "a mask for some anomalous images": (
        "good/{0..3}.png\nbad/{0..2}.png\nmask/bad/000.png : mask",
        ("folders of normal", 4, 3, 1),
        "1 of 3 anomalous images have a mask",
    ),
    "a mask without image": (
        "good/{0..3}.png\nbad/{0..1}.png\nmask/bad/007.png : mask",
        ("folders of normal", 4, 2, 1),
        "1 masks fit no image by name (first: mask/bad/007.png)",
    ),
    "a mask of one kind with the name of an image of another": (
        "good/{0..3}.png\ncrack/000.png\ncut/007.png\nmasks/crack/007.png : mask",
        ("folders of normal", 4, 2, 1),
        "1 masks fit no image by name (first: masks/crack/007.png)",
    ),
    "empty masks of normal images": (
        "good/{0..3}.png\nbad/000.png\nmasks/good/{0..3}.png : empty\nmasks/bad/000.png : mask",
        ("folders of normal", 4, 1, 5),
        "",
    ),
    "正常 and 异常": ("正常/{0..3}.png\n异常/{0..1}.png", ("folders of normal", 4, 2, 0), "正常"),
    "良品 and 不良品": ("良品/{0..3}.png\n不良品/划痕/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "Chinese splits, kinds and masks": (
        "训练集/合格品/{0..3}.png\n测试集/合格品/0.png\n测试集/划痕/{0..1}.png\n掩码/划痕/{0..1}.png : mask",
        ("folders of normal", 5, 2, 2),
        "",
    ),
    "Chinese names of samples": ("正常样本/{0..3}.png\n缺陷图片/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "full width letters": ("ＯＫ/{0..3}.png\nＮＧ/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "AITEX": (
        "NODefect_images/22/{0..3}.png\nDefect_images/0001_002_00.png\nMask_images/0001_002_00_mask.png : mask",
        ("folders of normal", 4, 1, 1),
        "",
    ),
    "MVTec 3D-AD, masks in the folder of each kind": (
        "train/good/rgb/{0..3}.png\ntest/good/rgb/000.png\ntest/crack/rgb/{0..1}.png\n"
        "test/crack/gt/{0..1}.png : mask",
        ("MVTec AD", 5, 2, 2),
        "",
    ),
    "a mask with a Chinese name beside its image": (
        "正常/{0..3}.png\n缺陷/000.png\n缺陷/000掩码.png : mask",
        ("folders", 4, 1, 1),
        "",
    ),
    "images of few colours and one name": (
        "good/{0..3}.png\nbad/000.png : empty\nbad/000.bmp : empty",
        ("folders", 4, 2, 0),
        "",
    ),
    "a Chinese folder of labels": ("正常/{0..3}.png\n缺陷/0.png\n标签/缺陷/0.png : mask", ("folders", 4, 1, 1), ""),
    "no label": ("{0..3}.png", ("no folder name", None, 0, 0), "4 images without labels"),
    "no label, one folder": ("normal_light/{0..3}.png", ("no folder name", None, 0, 0), ""),
    "no label, folders of days": ("2024-01/{0..1}.png\n2024-02/{0..1}.png", ("no folder name", None, 0, 0), ""),
    "no label, numbered folders": ("No.1/{0..1}.png\nNo.2/{0..1}.png", ("no folder name", None, 0, 0), ""),
    "normal images alone": ("train/good/{0..3}.png", ("MVTec AD", None, 0, 0), "4 normal images"),
    "hidden and other files": (
        "good/{0..3}.png\nbad/000.png\n.cache/x.png\ngood/._000.png : text\n__MACOSX/good/x.png\nThumbs.db : text\n"
        "readme.md : text\nvideo.mp4 : text",
        ("folders of normal", 4, 1, 0),
        "hidden files or folders",
    ),
    "a PostScript file": (
        "good/{0..3}.png\nbad/000.png\nbad/page.eps : text",
        ("folders of normal", 4, 1, 0),
        "1 .eps",
    ),
    "a folder with a file's name": ("good/{0..3}.png\nbad/x.png/{0..1}.png", ("folders of normal", 4, 2, 0), ""),
    "a link to a folder that is read anyway": (
        "good/{0..3}.png\nbad/000.png\nlatest -> good",
        ("folders of normal", 4, 1, 0),
        "links to what is read under its own name (latest)",
    ),
    "links to a hidden folder inside": (
        ".store/a/{0..3}.png\n.store/b/{0..1}.png\ngood -> .store/a\nbad -> .store/b",
        ("folders of normal", 4, 2, 0),
        "",
    ),
    "links to hidden files inside": (
        ".store/{0..4}.png\ngood/0.png -> ../.store/000.png\ngood/1.png -> ../.store/001.png\n"
        "good/2.png -> ../.store/002.png\nbad/0.png -> ../.store/003.png",
        ("folders of normal", 3, 1, 0),
        "",
    ),
    "links in a circle and to nowhere": (
        "good/{0..3}.png\nbad/000.png\nbad/up -> ..\nbad/me -> me\nbad/gone.png -> nothing.png",
        ("folders of normal", 4, 1, 0),
        "links that lead nowhere (bad/gone.png, bad/me)",
    ),
    "a link that leaves the folder": (
        "good/{0..3}.png\nbad/000.png\nbad/outside -> /usr\nbad/x.png -> /etc/hostname",
        ("folders of normal", 4, 1, 0),
        "2 links that leave the folder (bad/outside, bad/x.png)",
    ),
    "names with markup, quotes and a line break": (
        'good/{0..3}.png\nbad/<b onclick="x">&.png\nbad/it\'s.png',
        ("folders of normal", 4, 2, 0),
        "",
    ),
}
# description, part of the message
REFUSED = {
    "no image": (
        "readme.md : text",
        "data: no image among 1 files. Give a folder of PNG, JPEG, TIFF, BMP, GIF, PPM or WebP files. Passed over: "
        "1 .md.",
    ),
    "only links that leave": ("good -> /usr", "links that leave the folder (good)"),
    "only masks": (
        "ground_truth/crack/{0..3}_mask.png : mask",
        "all 4 images lie in folders, or have names, of masks, such as ground_truth/crack/000_mask.png. Two "
        "readings: (1) they are masks, and the images are missing; (2) they are images, and the name means something "
        "else: give the inner folder, or rename. Rename or move the files so that one is left, for instance into "
        "folders called good and bad.",
    ),
    "a product called mask": ("mask/good/{0..3}.png\nmask/bad/{0..1}.png", "give the inner folder"),
    "normal images behind a link that leaves": ("good -> /usr\nbad/0.png", "links that leave the folder (good)"),
    "anomalies alone": ("bad/{0..3}.png", "data: 0 normal images"),
    "several categories of MVTec AD": (
        "bottle/train/good/0.png\nbottle/test/broken/0.png\ncable/train/good/0.png\ncable/test/bent/0.png",
        "data: 2 data sets side by side: bottle, cable. Two readings: (1) they are separate data sets: give the "
        "folder of one; (2) all together are one. Rename",
    ),
    "a data set beside another one's folders": (
        "train/good/0.png\ncable/train/good/0.png",
        "2 data sets side by side: ., cable. Two",
    ),
    "seven data sets": (
        "{1..7}/train/good/0.png",
        "7 data sets side by side: 001, 002, 003, 004, 005, 006, .... Two",
    ),
    "several categories of VisA": (
        "candle/Data/Images/Normal/0.png\ncandle/Data/Masks/Anomaly/0.png : mask\n"
        "fryum/Data/Images/Normal/0.png\nfryum/Data/Masks/Anomaly/0.png : mask",
        "2 data sets side by side: candle, fryum",
    ),
    "data sets in folders of folders": (
        "a/b/train/good/0.png\na/c/train/good/0.png",
        "2 data sets side by side: a/b, a/c. Two",
    ),
    "several data sets of BTAD": ("01/train/ok/0.bmp\n02/train/ok/0.bmp", "2 data sets side by side: 01, 02. Two"),
    "contradicting folders": (
        "good/0.png\ngood/bad/1.png",
        "data: good/bad/1.png lies in 'good' and in 'bad'. Two readings: (1) it is normal; (2) it is anomalous.",
    ),
    "images beside good and bad": (
        "good/{0..3}.png\nbad/0.png\nx.png",
        "data: 5 images have a label, such as bad/0.png (anomalous), but 1 have none, such as x.png. Two readings: "
        "(1) these are anomalous, as they are in no folder of normal ones; (2) they have no label, and "
        "image_anomaly_labels.json or a folder name is missing. Rename",
    ),
    "a third folder beside good and bad": (
        "good/{0..3}.png\nbad/0.png\nborder/0.png",
        "data: the folder 'border' lies beside one of normal images, but its name is no label. Two readings: (1) "
        "its images are anomalous, as all that is not in the folder of normal ones; (2) they have another meaning.",
    ),
    "images nobody labelled": ("good/{0..3}.png\nunlabeled/0.png", "'unlabeled' lies beside one of normal images"),
    "a kind called like normal": ("normal/{0..3}.png\nnormal_light/0.png", "'normal_light' lies beside"),
    "a name that may be a label": (
        "normal_light/{0..3}.png\ndark/0.png",
        "data: the folder 'normal_light' has a name that may be a label. Two readings: (1) its name says whether its "
        "images are normal; (2) the name has another meaning, and no image has a label. Rename",
    ),
    "a Chinese name that may be a label": (
        "正常光照/{0..3}.png\n夜间/0.png",
        "'正常光照' has a name that may be a label",
    ),
    "positive and negative": ("positive/{0..3}.png\nnegative/0.png", "has a name that may be a label"),
    "0 and 1": ("0/{0..3}.png\n1/0.png", "'0' has a name that may be a label"),
    "training images in no folder": ("train/{0..3}.png\ntest/ok/0.png\ntest/ng/0.png", "but 4 have none"),
    "a flat test folder without labels": (
        "train/good/{0..3}.png\ntest/{0..1}.png",
        "4 images have a label, such as train/good/000.png (normal), but 2 have none, such as test/000.png. Two",
    ),
    "anomalies beside images without label": ("defect/0.png\nimages/{0..3}.png", "(1) these are normal; (2)"),
    "masks for some unlabelled images": (
        "Train/{0..3}.PNG\nTrain/Label/002_label.PNG : mask",
        "data: 1 of 4 images have a mask, Train/000.PNG has none. Two readings: (1) images without a mask are "
        "normal; (2) their masks are missing. Rename",
    ),
    "masks in a folder of an unknown name": (
        "good/{0..3}.png\nbad/{0..1}.png\nmaps/bad/{0..1}.png : mask",
        "data: maps/bad/000.png has the name of bad/000.png and at most three colours. Two readings: (1) it is a "
        "mask; then call its folder masks, or the file x_mask; (2) it is an image like the other. Rename or move",
    ),
    "masks beside the images, called like them": (
        "MT_Free/{0..3}.jpg\nMT_Break/0.jpg\nMT_Break/0.png : mask",
        "MT_Break/0.png has the name of MT_Break/0.jpg and at most three colours",
    ),
    "a name and its negation": ("Cracked/0.png\nNon-cracked/{0..3}.png", "'Non-cracked' has a name that may be"),
    "a Chinese name and its negation": ("裂纹/0.png\n无裂纹/{0..3}.png", "'无裂纹' has a name that may be"),
    "a normal image with a mask": (
        "good/{0..3}.png\nbad/9.png\nmasks/good/000.png : mask",
        "data: good/000.png and masks/good/000.png contradict each other. Two readings: (1) the image is normal, as "
        "its folder or label says; (2) it is anomalous, as its mask marks a defect. Rename",
    ),
    "a normal image with a mask that covers everything": (
        "good/{0..3}.png\nbad/9.png\nmasks/good/000.png : full",
        "good/000.png and masks/good/000.png contradict each other",
    ),
    "labels from a mask that covers everything": (
        "kos01/Part{0..1}.jpg\nkos01/Part000_label.bmp : empty\nkos01/Part001_label.bmp : full",
        "data/kos01/Part001_label.bmp: the mask covers the whole image, so it does not say whether the image is "
        "normal. Correct it, or sort the images into folders called good and bad.",
    ),
    "labels from masks in JPEG": (
        "kos01/Part{0..1}.bmp\nkos01/Part{0..1}_label.jpg : empty",
        "a mask in JPEG",
    ),
    "a damaged image": ("good/{0..3}.png\nbad/0.png : text", "not a readable image"),
}


@pytest.mark.parametrize("name", READ)
def test_a_layout_is_recognised_with_the_right_counts(tmp_path, name):
    text, (layout, normal, anomalous, masks), said = READ[name]
    samples = read_pictures(build(tmp_path / "data", text), least=1)
    assert samples.notes[0].startswith(f"Layout: {layout}"), samples.notes
    assert f"{anomalous} anomalous images, {masks} masks" in samples.notes[0]
    notes = " ".join(samples.notes)
    assert said in notes and samples.modality == "image" and "sizes" not in notes
    for sentence in ("images have a mask", "fit no image by name", "do not mark a part"):
        assert (sentence in notes) == (sentence in said)
    if normal is None:
        assert samples.y is None
    else:
        assert (int((samples.y == 0).sum()), int(samples.y.sum())) == (normal, anomalous)
    assert samples.names.dtype == object
    assert len(samples.X) == len(samples.names) == len({path.resolve() for path in samples.X})


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_with_two_readings_or_none_is_refused_with_the_cause(tmp_path, name):
    text, message = REFUSED[name]
    with pytest.raises(DatasetError) as caught:
        read_pictures(build(tmp_path / "data", text), least=1)
    assert message in str(caught.value) and str(tmp_path / "data") in str(caught.value)


def test_what_is_passed_over_is_counted_and_three_names_are_shown(tmp_path):
    build(tmp_path, "{0..3}.png\n.a : text\n.b : text\n.c : text\n" + "\n".join(f"x.s{i} : text" for i in range(5)))
    said = "Passed over: 3 hidden files or folders (.a, .b, .c); 1 .s0; 1 .s1; 1 .s2; 1 .s3; 1 .s4."
    assert read_pictures(tmp_path, least=1).notes[1] == said
    build(tmp_path, ".d : text\nx.s5 : text\ny.s0 : text")
    said = "Passed over: 4 hidden files or folders (.a, .b, .c, ...); 2 .s0; 1 .s1; 1 .s2; 1 .s3; 1 .s4; "
    assert read_pictures(tmp_path, least=1).notes[1] == said + "1 files of other kinds."


def test_sizes_that_differ_are_in_the_notes(tmp_path):
    build(tmp_path, "good/{0..1}.png")
    Image.new("L", (9, 12), 50).save(tmp_path / "good" / "large.png")
    notes = read_pictures(tmp_path, least=1).notes
    assert notes[-1] == "2 sizes (heights of 8 to 12 pixels): each is resized to one square."


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mmad_utils.datasets.image_folders.os.scandir", scandir)
    with pytest.raises(
        DatasetError, match=f"^{re.escape(str(tmp_path))}: cannot be read \\(Permission denied\\)\\.$"
    ):
        read_pictures(tmp_path)


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', "{"])
def test_a_labels_file_of_another_form_is_refused_with_what_was_expected(tmp_path, content):
    root = course(tmp_path / "nut", {})
    (root / "image_anomaly_labels.json").write_text(content)
    with pytest.raises(DatasetError) as caught:
        read_pictures(root, least=1)
    path = root / "image_anomaly_labels.json"
    assert str(caught.value).startswith(f'{path}: expected {{"nut/test/x.png": {{"label": "good" or "bad"}}, ...}} (')


def course(root, kinds):
    build(root, "train/good/{0..3}.png\ntest/{0..2}.png\nground_truth/001_mask.png : mask")
    entries = {f"{root.name}/test/{name}.png": {"label": kind} for name, kind in kinds.items()}
    (root / "image_anomaly_labels.json").write_text(json.dumps(entries))
    return root


def test_the_course_layout_takes_its_labels_from_the_file(tmp_path):
    samples = read_pictures(course(tmp_path / "nut", {"000": "good", "001": "bad", "002": "good"}), least=1)
    assert samples.notes[0].startswith("Layout: the course's") and "1 masks" in samples.notes[0]
    assert samples.names[samples.y == 1].tolist() == ["test/001.png"] and len(samples.y) == 7


def test_a_mask_belongs_to_the_anomalous_one_of_two_images_of_its_name(tmp_path):
    root = build(tmp_path / "nut", "train/a/{0..3}.png\ntest/a/000.png\nground_truth/a/000_mask.png : mask")
    entries = {f"nut/train/a/00{i}.png": {"label": "good"} for i in range(4)}
    entries["nut/test/a/000.png"] = {"label": "bad"}
    (root / "image_anomaly_labels.json").write_text(json.dumps(entries))
    assert len(read_pictures(root, least=1).notes) == 2  # layout and what was passed over


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"000": "good"}, r"labels\.json: no entry 'nut/test/001\.png', but the file is there\.$"),
        (
            {"000": "good", "001": "bad", "002": "good", "9": "bad"},
            r"labels\.json, entry 'nut/test/9\.png': no such file\. Correct the name\.$",
        ),
        (
            {"000": "good", "001": "worse", "002": "good"},
            r"labels\.json, entry 'nut/test/001\.png': label 'worse'; expected 'good' or 'bad'\.$",
        ),
    ],
)
def test_labels_of_the_course_that_do_not_fit_are_refused(tmp_path, kinds, message):
    with pytest.raises(DatasetError, match=message):
        read_pictures(course(tmp_path / "nut", kinds), least=1)


CONTRADICTION = (
    r"nut: the labels file contradicts the folder of test/good/000\.png\. Two readings: \(1\) the label of the file; "
    r"\(2\) the name of the folder\. Rename"
)


def test_a_labels_file_that_contradicts_a_folder_is_refused_with_both_readings(tmp_path):
    root = build(tmp_path / "nut", "train/good/{0..3}.png\ntest/good/000.png\ntest/bad/000.png")
    (root / "image_anomaly_labels.json").write_text('{"nut/test/good/000.png": {"label": "bad"}}')
    with pytest.raises(DatasetError, match=CONTRADICTION):
        read_pictures(root, least=1)


def test_a_labels_file_beside_the_folders_speaks_of_each_of_them(tmp_path):
    root = course(tmp_path / "nut", {"000": "good", "001": "bad", "002": "good"})
    entries = json.loads((root / "image_anomaly_labels.json").read_text()) | {"nutmeg/test/7.png": {"label": "bad"}}
    (root / "image_anomaly_labels.json").unlink()
    (tmp_path / "image_anomaly_labels.json").write_text(json.dumps(entries))
    samples = read_pictures(root, least=1)
    assert samples.names[samples.y == 1].tolist() == ["test/001.png"]


def test_pipes_and_sockets_are_passed_over_and_named(tmp_path, monkeypatch):
    build(tmp_path, "good/{0..3}.png\nbad/000.png")
    os.mkfifo(tmp_path / "bad" / "pipe.png")
    monkeypatch.chdir(tmp_path / "bad")  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        samples = read_pictures(tmp_path, least=1)
    assert samples.y.sum() == 1
    assert "2 pipes, sockets or devices (bad/pipe.png, bad/socket.png)" in samples.notes[1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are no text")
def test_names_with_a_line_break_or_without_text_can_be_printed(tmp_path):
    build(tmp_path, "good/{0..3}.png")
    for name in (b"bad/a\nb.png", b"bad/\xff.png"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.new("L", (9, 9), 50).save(os.fsdecode(path), format="PNG")
    names = read_pictures(tmp_path, least=1).names
    assert names[0] == r"bad/a\nb.png" and "\n".join(names).encode().count(b"\n") == 5


def test_a_limit_on_pixels_is_stated_and_can_be_changed(tmp_path):
    build(tmp_path, "good/{0..3}.png")
    with pytest.raises(DatasetError, match=r"10×8 pixels, at most 79 are decoded.*max_pixels"):
        read_pictures(tmp_path, least=1, max_pixels=79)
    assert len(read_pictures(tmp_path, least=1, max_pixels=80).X) == 4


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000, "~nobody_of_this_name/x", "\udc80\n", None, 3])
def test_a_path_that_cannot_be_one_is_refused(path):
    with pytest.raises(DatasetError):
        read_pictures(path)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("GOOD", 0),
        ("test", None),
        ("Normal_2", 0),
        ("not good", 1),
        ("normal_map", None),
        ("不合格品", 1),
        ("合格", 0),
    ],
)
def test_a_folder_name_means_normal_anomalous_or_neither(name, label):
    assert folder_label(name) is label


def test_a_list_of_words_has_commas_between_them():
    assert _words_of("good, no defect", "ok") == {"good", "no defect", "ok"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DatasetError, match=r"a\.png is a file; give the folder that contains the images\.$"):
        read_pictures(tmp_path / "a.png")


def test_files_of_many_other_kinds_are_counted_together(tmp_path):
    build(tmp_path, "good/{0..3}.png")
    for number in range(7):
        (tmp_path / f"a.kind{number}").touch()
    assert "2 files of other kinds" in " ".join(read_pictures(tmp_path, least=1).notes)


def test_a_link_to_a_pipe_is_passed_over_and_named(tmp_path):
    build(tmp_path, "good/{0..3}.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good" / "4.png").symlink_to(tmp_path / "pipe")
    notes = " ".join(read_pictures(tmp_path, least=1).notes)
    assert "2 pipes, sockets or devices (pipe, good/4.png)" in notes


def test_two_links_to_one_folder_are_read_once(tmp_path):
    build(tmp_path / "pictures", "good/{0..3}.png")
    for name in ("one", "two"):
        (tmp_path / "pictures" / "bad" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / "bad" / name).symlink_to(tmp_path / "pictures" / "good")
    assert len(read_pictures(tmp_path / "pictures", least=1).names) == 4
