//! Everything that can go wrong, with a stable code for each kind and a sentence that says what to do.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the runtime; [`Error::code`] is stable across versions, the text is for people.
///
/// `R00xx` artifact, `R01xx` call, `R02xx` run, `R03xx` limits, `R04xx` devices.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{what}: {source}; check the path and the permissions")]
    Io {
        /// What was being done, with the path where there is one.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("this is not an xlac artifact; compile the model first with `xlac compile`")]
    NotAnArtifact,
    /// The artifact has another format version.
    #[error(
        "artifact format {found} cannot be read, this runtime reads format {supported}; recompile the model with the matching `xlac`"
    )]
    Version {
        /// Version in the file.
        found: u32,
        /// The one version this runtime reads.
        supported: u32,
    },
    /// The artifact is shorter or longer than it says.
    #[error("the artifact is truncated or has a bad section table: {0}; copy or compile it again")]
    Truncated(String),
    /// A digest differs.
    #[error("the artifact is damaged: the digest of {0} differs; copy or compile it again")]
    Damaged(String),
    /// The content is intact but makes no sense.
    #[error("the plan is inconsistent: {0}; this is a bug of the compiler that wrote it, or the file was forged")]
    BadPlan(String),
    /// No variant can run here.
    #[error("no variant of this artifact can run on this machine: {0}; recompile with a `--target` for it")]
    NoVariant(String),
    /// Executable memory could not be had.
    #[error("executable memory could not be mapped: {0}; does a security policy forbid it?")]
    CodeMapping(std::io::Error),
    /// The artifact writer was used out of order.
    #[error("artifact writer: {0}")]
    Writer(String),

    /// A different number of inputs or outputs than the model has.
    #[error("the model has {expected} {what}, {found} were given")]
    Count {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// The model's number.
        expected: usize,
        /// The caller's number.
        found: usize,
    },
    /// No input of that name, or one that is missing.
    #[error("input `{name}`: {problem}; the model's inputs are {known}")]
    Name {
        /// Name in question.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// List of names that exist.
        known: String,
    },
    /// Element type differs.
    #[error("{tensor} has element type {found}, expected {expected}; convert it before the call")]
    DType {
        /// `input x` or `output y`.
        tensor: String,
        /// The model's element type.
        expected: &'static str,
        /// The caller's element type.
        found: &'static str,
    },
    /// Rank or a dim differs.
    #[error("{tensor} has shape {found}, expected {expected}{why}")]
    Shape {
        /// `input x` or `output y`.
        tensor: String,
        /// The expected shape, symbols named.
        expected: String,
        /// The caller's shape.
        found: String,
        /// More about the difference; begins with `: ` when not empty.
        why: String,
    },
    /// The bytes of a tensor do not fit its shape, are misaligned or hold no booleans.
    #[error("tensor data: {0}")]
    TensorData(String),
    /// A symbolic dim lies outside the range the artifact was compiled for.
    #[error(
        "dim `{symbol}` is {value}, the artifact was compiled for {low}..={high}; recompile with `--dim {symbol}=...`"
    )]
    SymbolRange {
        /// Name of the dim.
        symbol: String,
        /// Its value.
        value: i64,
        /// Smallest allowed value.
        low: i64,
        /// Largest allowed value.
        high: i64,
    },
    /// A constraint of the plan does not hold.
    #[error("{why} (found {left} and {right})")]
    Constraint {
        /// What was assumed, and where.
        why: String,
        /// Left side.
        left: i64,
        /// Right side.
        right: i64,
    },
    /// An output's shape depends on data, and the caller's tensor has another one.
    #[error(
        "output `{name}` has shape {shape} in this run, the given tensor has {given}; use `run`, which allocates outputs whose shape depends on data"
    )]
    OutputShape {
        /// Name of the output.
        name: String,
        /// Shape of this run.
        shape: String,
        /// Shape of the caller's tensor.
        given: String,
    },

    /// A size does not fit 64 bits.
    #[error("{0} overflows or divides by zero for these shapes; use smaller shapes")]
    Overflow(String),
    /// A kernel's index check failed.
    #[error("index out of range in `{kernel}` (nodes {nodes}); check the values of the index inputs")]
    IndexOutOfRange {
        /// Kernel name.
        kernel: String,
        /// ONNX nodes.
        nodes: String,
    },
    /// Another check of a kernel failed.
    #[error("a runtime check failed with code {check} in `{kernel}` (nodes {nodes}); check the input values")]
    KernelCheck {
        /// Kernel name.
        kernel: String,
        /// ONNX nodes.
        nodes: String,
        /// The kernel's code.
        check: u32,
    },
    /// A step needs more bytes than its buffer has.
    #[error(
        "{what} needs {needed} bytes of a buffer of {available}; this is a bug of the compiler that wrote the plan"
    )]
    BufferBounds {
        /// The step.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// Memory could not be allocated.
    #[error("{0} bytes could not be allocated; use smaller shapes or a larger machine")]
    OutOfMemory(u64),

    /// The session was told to stop.
    #[error("the run was cancelled")]
    Cancelled,
    /// Loops made more trips than allowed.
    #[error("loops made more than {0} trips in one run; raise `loop_fuel` if that is intended")]
    LoopFuel(u64),
    /// The memory ceiling is too low.
    #[error("{needed} bytes are needed, the memory ceiling is {ceiling}; raise `memory_ceiling` or use smaller shapes")]
    MemoryCeiling {
        /// Bytes needed in total.
        needed: u64,
        /// The limit.
        ceiling: u64,
    },

    /// The driver's library cannot be loaded.
    #[error("the NVIDIA driver was not found: {0}; install it, or run on the CPU")]
    NoDriver(String),
    /// The driver lacks a function or is of an old version.
    #[error("the NVIDIA driver is too old: {found}; CUDA {needed} or newer is needed, update the driver")]
    OldDriver {
        /// What was found.
        found: String,
        /// Oldest version that serves.
        needed: &'static str,
    },
    /// There is no such device.
    #[error("there is no NVIDIA device {ordinal}: {found}; is one visible to this process (CUDA_VISIBLE_DEVICES)?")]
    NoDevice {
        /// Number that was asked for.
        ordinal: u32,
        /// What there is instead.
        found: String,
    },
    /// The device is of an older generation than any code is made for.
    #[error("`{device}` has compute capability {found}, at least {needed} is needed; use a newer device or the CPU")]
    OldDevice {
        /// Name of the device.
        device: String,
        /// What it has.
        found: String,
        /// What is needed.
        needed: &'static str,
    },
    /// The driver's compiler refuses the code of the artifact.
    #[error(
        "the driver does not accept the code of this artifact ({error}): {log}; recompile it, or update the driver"
    )]
    DeviceCode {
        /// The driver's error.
        error: String,
        /// What the driver's compiler says.
        log: String,
    },
    /// A kernel needs more than the device has.
    #[error("kernel `{kernel}` needs {needed} {what}, the device has {available}; recompile for this device")]
    DeviceLimit {
        /// Kernel name.
        kernel: String,
        /// What there is too little of.
        what: &'static str,
        /// How much is needed.
        needed: u64,
        /// How much there is.
        available: u64,
    },
    /// A call of the driver failed; the device is still fine.
    #[error("the driver call {call} failed with {error}")]
    DriverCall {
        /// Name of the call.
        call: &'static str,
        /// The driver's error.
        error: String,
    },
    /// The device met an error after which nothing works until the process starts anew.
    #[error("the device failed with {error}, found by {call}{suspects}; start the process anew")]
    DeviceFault {
        /// Name of the call that told.
        call: &'static str,
        /// The driver's error.
        error: String,
        /// The kernels that may be at fault; begins with `; ` when not empty.
        suspects: String,
    },
    /// The device failed before.
    #[error("the device failed earlier in this process and cannot be used any more: {0}; start the process anew")]
    DevicePoisoned(String),
}

impl Error {
    /// Stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Io { .. } => "R0001",
            Error::NotAnArtifact => "R0002",
            Error::Version { .. } => "R0003",
            Error::Truncated(_) => "R0004",
            Error::Damaged(_) => "R0005",
            Error::BadPlan(_) => "R0006",
            Error::NoVariant(_) => "R0007",
            Error::CodeMapping(_) => "R0008",
            Error::Writer(_) => "R0009",
            Error::Count { .. } => "R0101",
            Error::Name { .. } => "R0102",
            Error::DType { .. } => "R0103",
            Error::Shape { .. } => "R0104",
            Error::TensorData(_) => "R0105",
            Error::SymbolRange { .. } => "R0106",
            Error::Constraint { .. } => "R0107",
            Error::OutputShape { .. } => "R0108",
            Error::Overflow(_) => "R0201",
            Error::IndexOutOfRange { .. } => "R0202",
            Error::KernelCheck { .. } => "R0203",
            Error::BufferBounds { .. } => "R0204",
            Error::OutOfMemory(_) => "R0205",
            Error::Cancelled => "R0301",
            Error::LoopFuel(_) => "R0302",
            Error::MemoryCeiling { .. } => "R0303",
            Error::NoDriver(_) => "R0401",
            Error::OldDriver { .. } => "R0402",
            Error::NoDevice { .. } => "R0403",
            Error::OldDevice { .. } => "R0404",
            Error::DeviceCode { .. } => "R0405",
            Error::DeviceLimit { .. } => "R0406",
            Error::DriverCall { .. } => "R0407",
            Error::DeviceFault { .. } => "R0408",
            Error::DevicePoisoned(_) => "R0409",
        }
    }

    /// Whether a limit of the session was reached: cancellation, loop fuel or memory ceiling.
    pub fn is_limit(&self) -> bool {
        matches!(self, Error::Cancelled | Error::LoopFuel(_) | Error::MemoryCeiling { .. })
    }
}
