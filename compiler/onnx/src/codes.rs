//! The one table of diagnostic codes: `xlac explain CODE` prints from it.

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $text:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*

        /// Every code with its title and a paragraph that explains it.
        pub const CODES: &[(&str, &str, &str)] = &[$(($code, $title, $text)),*];
    };
}

codes! {
    UNREADABLE "X0101" "the model file cannot be read"
        "The file does not exist, is not a regular file, or the system refused to open it. The message carries the system's reason.";
    NOT_ONNX "X0102" "the file is not an ONNX model"
        "The bytes are not a `ModelProto`: the file is cut, damaged, of another format (a text, an archive, a TensorFlow or PyTorch file), or a field has a wrong wire type. Export or download the model again.";
    NO_GRAPH "X0103" "the model has no graph"
        "The file parses as protobuf but contains no graph, so it is probably not an ONNX model at all, or it was cut where the graph begins.";
    IR_VERSION "X0104" "the IR version is not supported"
        "XLAC reads ONNX IR versions 3 to 14. A version outside of that range means a damaged file or a model made by a much newer ONNX.";
    OPSET_IMPORT "X0105" "the operator set import is missing or out of range"
        "Every model says which version of each operator set its nodes mean. An operator without such an import has no defined meaning, and an absurd version means a damaged file. Export the model again, or convert it with `onnx.version_converter`.";
    TENSOR_SIZE "X0107" "tensor data does not fit its shape"
        "The number of bytes or elements stored for a tensor is not what its shape and element type ask for. The file is damaged or was written by a faulty exporter.";
    TENSOR_FIELDS "X0108" "tensor data is stored in the wrong field, or in two"
        "A tensor keeps its elements in `raw_data`, in the one typed field for its element type, or in an external file, and in exactly one of them.";
    TENSOR_VALUE "X0109" "a tensor element is outside of its type"
        "An element stored in a wider field (`int32_data`) does not fit the element type of the tensor, for example 300 in an int8 tensor.";
    SPARSE_TENSOR "X0110" "a sparse tensor is malformed"
        "Indices of a sparse tensor must be int64, within the dense shape, ascending and unique, one for each value.";
    BAD_NAME "X0111" "a name is empty or missing where one is required"
        "Graph inputs, outputs and initializers are found by name and cannot do without one.";
    CYCLE "X0201" "the graph has a cycle"
        "Nodes depend on each other in a circle, so none of them can run first. ONNX graphs are acyclic; recurrence is expressed with Loop, Scan or recurrent layers.";
    UNDEFINED "X0202" "a value is used that nothing produces"
        "A node input, or a graph output, names a value that is no graph input, no initializer and no output of a node in scope.";
    DUPLICATE "X0203" "two values have the same name"
        "ONNX is in single assignment form: every graph input, initializer and node output has its own name, also against the names of enclosing graphs.";
    ARITY "X0204" "wrong number of inputs or outputs"
        "The node has more inputs or outputs than the operator knows, or a required input is missing or has an empty name.";
    UNSORTED "X0205" "nodes are not in topological order"
        "ONNX asks for nodes to come after those they depend on. XLAC sorts them and goes on; the exporter should be told.";
    NO_OUTPUT "X0207" "the graph has no outputs"
        "A model without outputs computes nothing.";
    FUNCTION "X0208" "a model-local function is malformed or recursive"
        "Functions are expanded in place at import, so a function must not call itself, directly or through others, and calls must match its inputs.";
    DUPLICATE_ATTRIBUTE "X0209" "an attribute is given twice"
        "Each attribute of a node may be given once.";
    SUBGRAPH "X0211" "a subgraph does not fit its node"
        "The graphs of If, Loop and Scan must have as many inputs and outputs as the node's own inputs and outputs ask for.";
    UNSUPPORTED_OP "X0301" "the operator is not supported"
        "XLAC does not know this operator, at any version. `docs/operators.md` lists those it knows. The model can often be exported to use other operators, or the node can be cut off and run outside.";
    UNKNOWN_ATTRIBUTE "X0302" "the operator has no such attribute"
        "An attribute that XLAC does not know could change the meaning of the node, so it is never ignored. Either the attribute is misspelt or it belongs to another version of the operator.";
    ATTRIBUTE_TYPE "X0303" "an attribute has the wrong type"
        "The attribute is known, but holds another type of value than the operator asks for.";
    ATTRIBUTE_VALUE "X0304" "an attribute has a value that is not allowed or not supported"
        "The message says which values are possible.";
    DTYPE "X0305" "the element type is not supported here"
        "The operator, or XLAC as a whole, cannot compute with this element type.";
    OPSET "X0306" "the operator does not exist in this opset"
        "The operator is known, but not in the version of the operator set that the model imports: it was removed before, or introduced after it.";
    MISSING_ATTRIBUTE "X0307" "a required attribute is missing"
        "The operator has no default for this attribute.";
    NOT_A_TENSOR "X0308" "sequences, maps, optionals and sparse tensors are not supported as values"
        "XLAC's values are dense tensors. Export the model without these types, for example by having the post-processing outside of the model.";
    UNSUPPORTED_FORM "X0309" "the operator is supported, but not in this form"
        "The operator is known; the combination of inputs and attributes used here is not. The message says what stands in the way.";
    TYPES "X0401" "operands do not fit the operator"
        "Element types or shapes of the inputs contradict the operator. The model is wrong, or an input shape given on the command line is.";
    AXIS "X0402" "an axis is outside of the rank"
        "Axes count from 0 to rank - 1, or from -rank to -1.";
    DIM_CONFLICT "X0403" "two sizes that must be equal are not"
        "Two dims that an operator needs to be equal are different constants.";
    CARRIED "X0404" "a value carried by a loop changes its type"
        "Values carried from one trip of Loop or Scan to the next must keep element type and shape.";
    BRANCHES "X0405" "the branches of If do not fit together"
        "Both branches must give the same number of results with the same element types and ranks.";
    BAD_DIM "X0406" "a dim is negative or too large"
        "Sizes are between 0 and 2^63 - 1. -1 in a graph input is taken for an unknown size; other negative numbers are errors.";
    BAD_SIZE "X0407" "a size, stride or count makes no sense"
        "A stride, dilation, kernel, group or block size is zero or negative, or the sizes that follow from it are.";
    OUTPUT_SHAPE "X0408" "an output has another shape than declared"
        "The shape written in the model for an output contradicts the shape that follows from its nodes. XLAC goes by the nodes.";
    INPUT_TYPE "X0409" "a graph input has no type or no rank"
        "XLAC needs the element type and the number of axes of every input. Add them to the model with onnx's shape inference tools, or give the shape with `--dim`.";
    OVERRIDE "X0410" "a dim or shape override does not fit the model"
        "A name given on the command line is no symbolic dim or input of the model, or contradicts a constant size.";
    DEFAULT_INPUT "X0411" "inputs with initializers are constants"
        "Before IR version 4 every initializer was listed among the inputs as well. XLAC takes such inputs as constants, which cannot be fed.";
    EXTERNAL_OFF "X0501" "external data needs the folder of the model"
        "The model keeps weights in other files. It was given as bytes, without a folder in which to look for them.";
    EXTERNAL_PATH "X0502" "the path of external data leaves the model's folder"
        "External data files must lie beneath the folder of the model: no absolute paths, no `..`, no links that lead outside. This protects from models that read other files of the user.";
    EXTERNAL_OPEN "X0503" "external data cannot be opened"
        "The file is missing, is not a regular file, or the system refused to open it.";
    EXTERNAL_RANGE "X0504" "external data lies outside of its file"
        "Offset and length of the data go beyond the end of the file: it was cut, or belongs to another model.";
    EXTERNAL_INFO "X0505" "the description of external data is malformed"
        "External data is described by a location and, as decimal numbers, an offset and a length.";
    TOO_MANY_NODES "X0601" "the model has too many nodes"
        "The limit protects from functions that expand without end. It can be raised in the import options.";
    NESTING "X0602" "subgraphs or functions are nested too deeply"
        "The limit protects the compiler's stack. It can be raised in the import options.";
    MEMORY "X0603" "a tensor is larger than the memory budget"
        "A single tensor of the model would take more memory than the import options allow.";
}

/// Title and explanation of a code.
pub fn explain(code: &str) -> Option<(&'static str, &'static str)> {
    CODES.iter().find(|(c, ..)| *c == code).map(|(_, title, text)| (*title, *text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(CODES.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
