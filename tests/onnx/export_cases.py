"""Writes the node test cases of the installed `onnx` package as folders of model.onnx and test_data_set_*.

Usage: python export_cases.py OUT_DIR
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases


def as_proto(value, info):
    """The protobuf message for a test value, by what the graph declares."""
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    if isinstance(value, onnx.TensorProto):
        value.name = info.name
        return value
    return numpy_helper.from_array(np.asarray(value), info.name)


def write(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir(exist_ok=True)
        for prefix, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for index, (value, info) in enumerate(zip(values, infos)):
                (data / f"{prefix}_{index}.pb").write_bytes(as_proto(value, info).SerializeToString())
    # The tolerances are meant for f32; for narrower types the runner has its own.
    wide = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    outputs = [o for o in case.model.graph.output if o.type.tensor_type.elem_type in wide]
    tolerance = {o.name: {"rtol": case.rtol, "atol": case.atol} for o in outputs}
    (folder / "data.json").write_text(json.dumps({"tolerance": tolerance}))


def main():
    out = Path(sys.argv[1])
    written, left_out = 0, []
    for case in collect_testcases(None):
        if case.model is None or not case.data_sets:
            continue
        try:
            write(case, out / case.name)
            written += 1
        except Exception as error:  # A value that numpy_helper cannot write is no fault of the model.
            left_out.append(f"{case.name}: {error}")
    (out / "LEFT_OUT").write_text("\n".join(left_out))
    print(f"{written} cases of onnx {onnx.__version__}, {len(left_out)} left out")


if __name__ == "__main__":
    main()
