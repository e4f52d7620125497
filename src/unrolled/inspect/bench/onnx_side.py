"""The side of ONNX Runtime: inference of its own recurrent operators."""

from importlib import import_module

import numpy as np
import torch

from unrolled.inspect.bench.side import Case, Results, Side, Skipped, float32_only

ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Where ONNX's gates (i o f c; z r h) stand among torch's (i f g o; r z n)."""
OPSET, FORMAT = 17, 8


class OnnxSide(Side):
    """A model of one operator a layer.

    Raises:
        Skipped: If ONNX has no such operator.
    """

    def __init__(self, case: Case) -> None:
        float32_only(case)
        workload = case.workload
        if workload.mode != "infer":
            raise Skipped("is set up for inference only")
        if not workload.standard:
            raise Skipped("has no operator for this cell")
        if workload.projection:
            raise Skipped("has no projection in its LSTM")
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self.session = runtime.InferenceSession(
            _model(case), options, providers=["CPUExecutionProvider"]
        )
        self.feed = {"x": case.x}
        if workload.lengths is not None:
            self.feed["lengths"] = workload.lengths.astype(np.int32)

    def once(self) -> None:
        """Run the model."""
        self.session.run(["y"], self.feed)

    def results(self) -> Results:
        """Give y."""
        return Results(self.session.run(["y"], self.feed)[0], {})


def _model(case: Case) -> bytes:
    """Write the model: x (T, B, I) -> y (T, B, H)."""
    onnx = import_module("onnx")
    helper, numpy_helper = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    workload, cell = case.workload, case.workload.cell

    def ordered(name: str) -> np.ndarray:
        parts = np.split(case.weights[name], len(ORDER[cell]))
        return np.concatenate([parts[k] for k in ORDER[cell]])

    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes, constants, x = [], [axes], "x"
    for layer in range(workload.layers):
        weights = {
            "W": ordered(f"weight_ih_l{layer}"),
            "R": ordered(f"weight_hh_l{layer}"),
            "B": np.concatenate([ordered(f"bias_ih_l{layer}"), ordered(f"bias_hh_l{layer}")]),
        }
        names = [f"{name}{layer}" for name in weights]
        constants += [
            numpy_helper.from_array(value[None], name)
            for name, value in zip(names, weights.values(), strict=True)
        ]
        more = {"linear_before_reset": 1} if cell == "gru" else {}
        inputs = [x, *names, *(["lengths"] if workload.packed else [])]
        wide, x = f"wide{layer}", "y" if layer == workload.layers - 1 else f"y{layer}"
        nodes += [
            helper.make_node(cell.upper(), inputs, [wide], hidden_size=workload.hidden, **more),
            helper.make_node("Squeeze", [wide, "axes"], [x]),  # (T, 1, B, H) -> (T, B, H)
        ]
    single, rows = onnx.TensorProto.FLOAT, (workload.steps, workload.batch)
    given = [helper.make_tensor_value_info("x", single, (*rows, workload.inputs))]
    if workload.packed:
        integer = onnx.TensorProto.INT32
        given.append(helper.make_tensor_value_info("lengths", integer, rows[1:]))
    y = helper.make_tensor_value_info("y", single, (*rows, workload.hidden))
    graph = helper.make_graph(nodes, "bench", given, [y], constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=FORMAT).SerializeToString()
