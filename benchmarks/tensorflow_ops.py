"""Write the names of all operations that this TensorFlow knows, one a line, to stdout.

    python benchmarks/tensorflow_ops.py > phototag/models/tensorflow_ops.txt

With this list, `phototag inspect` recognizes custom operations without importing TensorFlow.
"""

from __future__ import annotations

from phototag.engines._tensorflow import import_tensorflow


def main() -> None:
    """Print the sorted names."""
    import_tensorflow()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    buffer = pywrap_tf_session.TF_GetAllOpList()
    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(buffer))
    print("\n".join(sorted(op.name for op in ops.op)))


if __name__ == "__main__":
    main()
