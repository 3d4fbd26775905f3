"""Convert a model in another process, so that TensorFlow's memory is free afterwards and a crash does no harm.

That process runs this file by its path. It must import nothing of phototag before `main` has set `sys.path`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phototag.engines.litert_runner import Conversion
    from phototag.images.preprocess import Preprocessing
    from phototag.models.interface import Interface

# The signals of a crash. Any other signal means that the user or the system ended the converter.
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")


def convert_in_child(directory: Path, interface: Interface, preprocessing: Preprocessing) -> Conversion:
    """Run `phototag.engines.convert.convert` in another process, and raise its errors."""
    from phototag.engines.litert_runner import Conversion

    request = {
        "path": [str(path) for path in sys.path],
        "directory": str(directory),
        "interface": asdict(interface),
        "preprocessing": asdict(preprocessing),
    }
    ended = subprocess.run([sys.executable, __file__], input=json.dumps(request).encode(), capture_output=True)
    if ended.returncode == 0:
        return _understood(ended.stdout)
    crashed = -ended.returncode in {getattr(signal, name, None) for name in _CRASHES}
    how = "crashed" if crashed else "was broken off"
    return Conversion(None, f"its conversion {how}", lasting=crashed)


def _understood(answer: bytes) -> Conversion:
    from phototag import errors
    from phototag.engines.litert_runner import Conversion

    head, _, content = answer.partition(b"\n")
    facts = json.loads(head)
    if "error" in facts:
        raise getattr(errors, facts["error"])(facts["what"], facts["remedy"])
    return Conversion(content or None, **facts)


def main() -> None:
    """Convert the model that the request on stdin names. Write a line of JSON and the file's content to stdout.

    Nothing is written to disk, because the process that asked may have ended meanwhile.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    request = json.load(sys.stdin.buffer)
    sys.path[:] = request["path"]  # without the folder of this file
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that the prints of native code are not part of the answer
    head, content = _converted(request)
    # The process that asked may have ended.
    with contextlib.suppress(BrokenPipeError), answer:
        answer.write(json.dumps(head).encode() + b"\n" + content)


def _converted(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    from phototag.engines.convert import convert
    from phototag.errors import ModelError
    from phototag.images.preprocess import Preprocessing
    from phototag.models.interface import Interface

    facts = request["interface"]
    # JSON has no tuples.
    interface = Interface(**{**facts, "tag_set": tuple(facts["tag_set"]), "also": tuple(facts["also"])})
    preprocessing = Preprocessing(**request["preprocessing"])
    try:
        conversion = convert(Path(request["directory"]), interface, preprocessing)
    except ModelError as error:
        return {"error": type(error).__name__, "what": error.what, "remedy": error.remedy}, b""
    return {"reason": conversion.reason, "gpu": conversion.gpu}, conversion.content or b""


if __name__ == "__main__":
    main()
