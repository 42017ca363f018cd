//! Codes of the driver's own diagnostics, and `explain` for those of all crates.

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $text:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*

        /// The driver's codes with title and explanation.
        pub const CODES: &[(&str, &str, &str)] = &[$(($code, $title, $text)),*];
    };
}

codes! {
    LOWER "X0701" "code generation cannot express the program"
        "The model was understood, but some part of it cannot be turned into kernels for this target. `--device interp` still runs it, slowly; the message names the node.";
    EMIT "X0702" "a backend failed on a kernel"
        "The backend refused a kernel or produced code that needs outside symbols. This is a fault of the compiler; another `--backend` may work meanwhile.";
    ASSEMBLE "X0703" "the plan cannot be put into an artifact"
        "The compiled plan breaks a rule of the artifact format, or the file could not be written.";
    BAD_TARGET "X0801" "no such target or backend"
        "`--target` takes cpu, cpu:native, cpu:generic or a named processor such as cpu:znver4; `--backend` takes cranelift or llvm.";
    NOT_BUILT_IN "X0802" "this is not built in"
        "The device, target, backend or output form exists in the design but not in this build. The LLVM backend comes with `cargo build --release --features llvm`.";
    NO_FILE "X0803" "a file cannot be read or written"
        "The message carries the system's reason.";
    BAD_DATA "X0804" "tensor data cannot be understood"
        "Inputs are read from .npy, .npz and .pb (a serialized TensorProto) files. The message says what is wrong with this one.";
    BAD_INPUT "X0805" "an input does not fit the model"
        "A name that the model does not have, an element type or a shape that differs. `xlac inspect` lists the inputs.";
    RUN "X0806" "the reference interpreter stopped"
        "The inputs do not fit the model, an index was out of range, or an assumption about shapes did not hold.";
    RUN_LIMIT "X0807" "the reference interpreter reached a limit"
        "A loop made too many trips or the values took too much memory.";
    DIFFERENT "X0808" "numbers differ"
        "Outputs differ from the reference by more than the tolerance: 1e-3 relative plus 1e-4 of the largest value, or any bit with `--numerics exact`. `xlac verify --bisect` names the first ONNX node that diverges.";
    NO_CASE "X0809" "the folder is no ONNX test case"
        "A test case is a folder with model.onnx and, for `test`, folders test_data_set_0, test_data_set_1, ... of input_I.pb and output_I.pb.";
    TEXT_IR "X0810" "text IR does not parse"
        "The message gives the position and what was expected.";
    USAGE "X0811" "the arguments contradict each other"
        "The message says which.";
    INTERNAL "X0999" "internal error"
        "The compiler has a fault. Please report it with the model, if you may share it, and the text that was printed.";
}

/// Codes of graph optimization and the runtime: those crates keep the messages, this table the explanations.
const OTHERS: &[(&str, &str, &str)] = &[
    ("R0001", "a file cannot be read or written", "The message carries the system's reason; check the path and the permissions."),
    ("R0002", "the file is not an artifact", "Compile the model first: `xlac compile MODEL.onnx`."),
    ("R0003", "the artifact has another format version", "An artifact is read by the version of XLAC that wrote it. Compile the model again."),
    ("R0004", "the artifact is truncated", "The file is shorter or longer than its header says. Copy or compile it again."),
    ("R0005", "the artifact is damaged", "A digest differs from what the header says. Copy or compile it again."),
    ("R0006", "the plan is inconsistent", "The file was forged, or the compiler that wrote it has a fault: please report it."),
    ("R0007", "no variant can run on this machine", "The artifact was compiled for processors with other features. Compile with `--target` for this one; several targets fit in one artifact."),
    ("R0008", "executable memory could not be mapped", "A security policy of the system may forbid it."),
    ("R0009", "the artifact writer was used out of order", "This is a fault of the compiler."),
    ("R0101", "wrong number of inputs or outputs", "`xlac inspect` lists them."),
    ("R0102", "no input of that name", "`xlac inspect` lists them."),
    ("R0103", "wrong element type", "Nothing is converted silently. Convert the data before the call."),
    ("R0104", "wrong shape", "`xlac inspect` shows the shapes, symbols named."),
    ("R0105", "tensor data does not fit its shape", "Length, alignment or values of the bytes are not what type and shape ask for."),
    ("R0106", "a symbolic dim is out of range", "Compile again with a wider `--dim NAME=LOW..HIGH`."),
    ("R0107", "a constraint between dims does not hold", "Shapes that the model needs to agree do not."),
    ("R0108", "an output has another shape than the given tensor", "Its shape depends on data: use `run`, which allocates outputs."),
    ("R0201", "a size overflows", "Use smaller shapes."),
    ("R0202", "an index is out of range", "A Gather, Scatter or similar node was given an index beyond the axis. Check the index inputs."),
    ("R0203", "a check failed in a kernel", "The node found values that it cannot work with."),
    ("R0204", "a step needs more bytes than its buffer has", "This is a fault of the compiler: please report it."),
    ("R0205", "memory could not be allocated", "Use smaller shapes or a larger machine."),
    ("R0301", "the run was cancelled", "Somebody set the session's cancel flag."),
    ("R0302", "loops made too many trips", "Raise the loop fuel if that is intended."),
    ("R0303", "the memory ceiling is too low", "Raise it or use smaller shapes."),
    ("R0401", "the NVIDIA driver was not found", "libcuda.so.1 comes with the driver; no toolkit is needed. Inside a container, pass the driver in."),
    ("R0402", "the NVIDIA driver is too old", "CUDA 11.4 (driver 470) or newer is needed. Update the driver."),
    ("R0403", "there is no such NVIDIA device", "The number counts the devices that CUDA_VISIBLE_DEVICES leaves visible, from 0."),
    ("R0404", "the device is of an old generation", "Code is made for compute capability 8.0 (Ampere) and newer. `--device cpu` runs everywhere."),
    ("R0405", "the driver refuses the artifact's code", "The driver compiles the PTX text of the artifact when it is loaded; its log says what it stumbled over. A newer driver may accept it; if not, please report it."),
    ("R0406", "a kernel needs more than the device has", "The artifact was compiled for a device with more shared memory or larger blocks. Compile with `--target` for this one."),
    ("R0407", "a driver call failed", "The message names the call and the driver's error. The device can still be used."),
    ("R0408", "the device failed", "A kernel touched memory that is not its own, took too long, or the hardware failed. The message names the kernels that were under way; with XLAC_DEBUG_SYNC=1 exactly the one. Nothing works on the device until the process starts anew."),
    ("R0409", "the device failed earlier", "After a failure (R0408) every further call is refused. Start the process anew."),
    ("X0721", "rewriting does not come to an end", "Rules undo each other: a fault of the optimizer. Please report it."),
    ("X0722", "no rewrite rule of that name", "The help lists the rules."),
    ("X0723", "a rewrite rule failed", "A fault of the optimizer. Please report it."),
    ("X0724", "passes still changed the program", "The result is valid, only not as simple as it could be."),
    ("X0725", "optimization stopped at its time limit", "The result is valid, only not as simple as it could be."),
    ("X0726", "no pass of that name", "The help lists the passes."),
    ("X0727", "a pass made the program invalid", "A fault of the optimizer. Please report it."),
];

/// Every title and text of a code; crates may share one.
pub fn explain(code: &str) -> Vec<(&'static str, &'static str)> {
    let code = code.to_uppercase();
    let tables = [xlac_onnx::CODES, CODES, OTHERS];
    tables.iter().flat_map(|t| t.iter()).filter(|(c, ..)| *c == code).map(|(_, title, text)| (*title, *text)).collect()
}

/// Every code with its title, sorted.
pub fn all() -> Vec<(&'static str, &'static str)> {
    let tables = [xlac_onnx::CODES, CODES, OTHERS];
    let mut all: Vec<_> = tables.iter().flat_map(|t| t.iter()).map(|(code, title, _)| (*code, *title)).collect();
    all.sort();
    all
}

/// The process's exit code for a diagnostic: 1 failed, 2 usage, 3 not supported, 4 numbers differ, 5 a limit.
pub fn exit_code(code: &str) -> u8 {
    match code {
        USAGE | BAD_TARGET => 2,
        NOT_BUILT_IN | LOWER => 3,
        DIFFERENT => 4,
        RUN_LIMIT => 5,
        INTERNAL => 101,
        c if c.starts_with("X03") => 3,
        c if c.starts_with("X06") || c.starts_with("R03") => 5,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(CODES.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(OTHERS.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn codes_are_explained() {
        assert_eq!(explain("x0301").len(), 1);
        assert_eq!(explain("R0202").len(), 1);
        assert!(explain("X9999").is_empty());
        assert_eq!(exit_code("X0301"), 3);
    }
}
