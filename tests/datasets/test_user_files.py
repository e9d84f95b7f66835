import pytest
from PIL import Image

from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.user_files import read_pictures


@pytest.fixture
def pictures(tmp_path):
    def pictures(folder, count, size=(16, 16)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", size, (i, 0, 0)).save(tmp_path / folder / f"{size[0]}_{i}.png")
        return tmp_path

    return pictures


def test_a_flat_folder_of_mixed_sizes_is_read_and_said(pictures):
    pictures(".", 15)
    samples = read_pictures(pictures(".", 10, (20, 12)))
    assert len(samples.X) == 25 and samples.y is None and samples.modality == "image"
    assert any("2 sizes" in note for note in samples.notes)


def test_folders_label_their_images_and_masks_are_passed_by(pictures):
    for folder, count in (("train/good", 20), ("test/good", 2), ("test/crack", 3), ("ground_truth/crack", 3)):
        root = pictures(folder, count)
    samples = read_pictures(root)
    assert samples.y.sum() == 3 and len(samples.y) == 25
    assert all("crack" in name for name in samples.names[samples.y == 1])


def test_a_folder_without_images_a_damaged_one_and_too_few_are_refused(pictures, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="no image among 1 files"):
        read_pictures(tmp_path)
    pictures(".", 3)
    with pytest.raises(DatasetError, match="3 normal images; at least 20"):
        read_pictures(tmp_path)
    assert len(read_pictures(tmp_path, least=1).X) == 3
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"bad\.png: not a readable image"):
        read_pictures(tmp_path)
