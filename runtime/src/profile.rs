//! Where the time of a run went, launch by launch.

/// Times of one run.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Nanoseconds of the whole run.
    pub total_ns: u64,
    /// One entry per launch and host routine of the plan that ran, in the plan's order; on a GPU, where times are the
    /// device's own, two more for the copies of inputs and outputs.
    pub launches: Vec<LaunchTime>,
}

/// Time of a launch or host routine; trips of a loop are added up.
#[derive(Clone, Debug, Default)]
pub struct LaunchTime {
    /// Name of the kernel, or of the host routine.
    pub kernel: String,
    /// ONNX nodes it computes.
    pub nodes: Vec<String>,
    /// How often it ran.
    pub calls: u64,
    /// Nanoseconds of all calls.
    pub ns: u64,
    /// Floating-point operations of all calls.
    pub flops: u64,
    /// Bytes of memory traffic of all calls.
    pub bytes: u64,
    /// Most threads that took part.
    pub threads: usize,
}
