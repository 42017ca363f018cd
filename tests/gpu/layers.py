"""The models that are measured, written with the `onnx` package so that both sides compute the same."""

import numpy as np

PRODUCTS = {
    "bf16": [(4096, 4096, 4096), (8192, 8192, 8192), (128, 4096, 4096), (1, 4096, 4096)],
    "f16": [(4096, 4096, 4096), (8192, 8192, 8192)],
    "f32": [(2048, 2048, 2048), (4096, 4096, 4096)],
    "int8": [(4096, 4096, 4096)],
}
STREAMS = ("gelu", "softmax", "layer_norm", "transpose")
MODELS = ("resnet50", "encoder")


def save(folder, nodes, inputs, outputs, weights=()):
    """Writes a model and gives its path. Inputs and outputs are (name, element type, shape)."""
    import onnx
    from onnx import helper

    info = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
    graph = helper.make_graph(nodes, "measured", *info, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=model.ByteSize() > 1 << 30)
    return path


def product(folder, dtype, m, n, k):
    """C = A * B of two inputs."""
    from onnx import TensorProto, helper

    if dtype == "int8":
        nodes = [helper.make_node("MatMulInteger", ["a", "b"], ["c"])]
        kinds = (TensorProto.INT8, TensorProto.INT32)
    else:
        nodes = [helper.make_node("MatMul", ["a", "b"], ["c"])]
        kind = {"bf16": TensorProto.BFLOAT16, "f16": TensorProto.FLOAT16, "f32": TensorProto.FLOAT}[dtype]
        kinds = (kind, kind)
    return save(folder, nodes, [("a", kinds[0], [m, k]), ("b", kinds[0], [k, n])], [("c", kinds[1], [m, n])])


def product_error(xlac, folder, model, dtype):
    """Largest error of f32 products relative to an f64 evaluation, on the scale of the result, beside plain f32's."""
    if dtype != "f32":
        return None
    import onnx

    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in onnx.load(model).graph.input]
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    np.savez(folder / "in.npz", a=a, b=b)
    xlac.call("run", model, "--device", xlac.device, "--inputs", folder / "in.npz", "-o", folder / "out.npz")
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.abs(exact).max()
    ours = np.abs(np.load(folder / "out.npz")["c"] - exact).max() / scale
    plain = np.abs((a @ b) - exact).max() / scale
    return {"xlac": float(ours), "host_f32": float(plain)}


def stream(folder, name):
    """A kernel bound by memory over 512 MiB; its path and the bytes it must read and write."""
    from onnx import TensorProto, helper, numpy_helper

    shape = [1 << 15, 4096]
    f32 = TensorProto.FLOAT
    inputs, outputs = [("x", f32, shape)], [("y", f32, shape)]
    weights = []
    if name == "gelu":
        nodes = [helper.make_node("Gelu", ["x"], ["y"])]
    elif name == "softmax":
        nodes = [helper.make_node("Softmax", ["x"], ["y"], axis=-1)]
    elif name == "layer_norm":
        nodes = [helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"], axis=-1)]
        random = np.random.default_rng(2)
        weights = [numpy_helper.from_array(random.standard_normal(shape[1], dtype=np.float32), w) for w in ("s", "b")]
    else:
        nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
        outputs = [("y", f32, shape[::-1])]
    return save(folder, nodes, inputs, outputs, weights), 2 * 4 * shape[0] * shape[1]


def model(folder, name, torch):
    """An ONNX file exported from a torch module, the module, and its inputs."""
    torch.manual_seed(0)
    if name == "resnet50":
        import torchvision

        module, inputs = torchvision.models.resnet50().eval(), (torch.randn(1, 3, 224, 224),)
    else:
        layer = torch.nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True, activation="gelu")
        module, inputs = torch.nn.TransformerEncoder(layer, 12, enable_nested_tensor=False).eval(), (torch.randn(1, 128, 768),)
    path = folder / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(module, inputs, path, opset_version=20, dynamo=True)
    return path, module, inputs
