//! What can go wrong: text that is not understood, and programs that misbehave.

use std::fmt;

/// Text that is not PTX, or PTX that the simulator does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}: `{text}`")]
pub struct ParseError {
    /// Line of the text, counted from one.
    pub line: u32,
    /// That line.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(source: &str, line: u32, message: impl Into<String>) -> ParseError {
        ParseError { line, text: source_line(source, line), message: message.into() }
    }
}

/// Line `line` of `source`, without surrounding blanks.
pub(crate) fn source_line(source: &str, line: u32) -> String {
    source.lines().nth((line as usize).saturating_sub(1)).unwrap_or("").trim().to_owned()
}

/// What kind of misbehaviour was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside of every live allocation, or outside of the block's shared memory.
    OutOfBounds,
    /// An address that is no multiple of the access size.
    Misaligned,
    /// A register was read that this thread never wrote.
    UndefinedRegister,
    /// Memory was read that nobody wrote.
    UndefinedMemory,
    /// Two unordered accesses to shared memory, at least one of them a write.
    SharedRace,
    /// Two unordered accesses to global memory, at least one of them a write.
    GlobalRace,
    /// No thread of a block can make progress.
    Deadlock,
    /// Threads of one warp disagree at an instruction that all of them must execute.
    BarrierDivergence,
    /// A `.sync` instruction whose member mask and executing threads do not fit, or a value taken from a lane outside.
    MemberMask,
    /// Operand values for which the instruction has no meaning.
    BadInstruction,
    /// More instructions than [`crate::Options::instruction_limit`].
    InstructionLimit,
    /// A launch that the device would refuse.
    InvalidLaunch,
}

/// A misbehaving program, with the place where it was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was found.
    pub kind: FaultKind,
    /// Name of the kernel.
    pub kernel: String,
    /// Line of the PTX text, counted from one; zero where no instruction is to blame.
    pub line: u32,
    /// That line.
    pub text: String,
    /// Block index (`%ctaid`).
    pub block: [u32; 3],
    /// Thread index (`%tid`).
    pub thread: [u32; 3],
    /// The details, in words.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, kernel, line, text, block, thread, message } = self;
        write!(f, "{kind:?} in `{kernel}`, block {block:?}, thread {thread:?}: {message}")?;
        if *line > 0 {
            write!(f, "\n  line {line}: `{text}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A fault as an instruction sees it; the scheduler adds where it happened.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub kind: FaultKind,
    pub lane: u32,
    pub message: String,
}

/// Boxed, so that results of instructions stay small.
pub(crate) type Stop = Box<Problem>;

/// A problem of one lane.
#[cold]
pub(crate) fn stop(kind: FaultKind, lane: u32, message: impl Into<String>) -> Stop {
    Box::new(Problem { kind, lane, message: message.into() })
}
