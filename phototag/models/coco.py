"""The kinds of objects of COCO, which most object detectors know.

Source: the categories of COCO's annotations for detection, 2017 (cocodataset.org). Their ids are 1 to 90, and ten of
these ids are not used.
"""

from __future__ import annotations

# The names in the order of the ids. Detectors that number the kinds from 0 to 79 use this order too.
KINDS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant"),
    *("bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
    *("sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli"),
    *("carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
LAST_ID = 90
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def names_by_id() -> tuple[str, ...]:
    """Return the name of each id, 0 to 90, and an empty text for an id that COCO does not use."""
    used = (number for number in range(1, LAST_ID + 1) if number not in UNUSED_IDS)
    names = dict(zip(used, KINDS, strict=True))
    return tuple(names.get(number, "") for number in range(LAST_ID + 1))
