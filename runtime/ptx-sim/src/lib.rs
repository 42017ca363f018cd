//! Executes PTX text without a GPU: the oracle for code that XLAC generates.
//!
//! A module is parsed and decoded once; unknown instructions, wrong operand types and undeclared names are errors with
//! a line. A launch executes it warp by warp and checks every access for bounds, alignment and undefined registers; on
//! request under an adversarial schedule, with race detection, or watching for undefined memory. The first misbehaviour
//! ends the launch with a [`Fault`] that names the line, the thread and the reason.
//!
//! ```
//! use xlac_ptx_sim::{Launch, Memory, Module, Options, launch};
//!
//! let module = Module::parse(
//!     ".version 7.0
//!      .target sm_80
//!      .address_size 64
//!      .visible .entry twice(.param .u64 data) {
//!          .reg .b32 %r<4>;
//!          .reg .b64 %rd<4>;
//!          ld.param.u64 %rd1, [data];
//!          mov.u32 %r1, %tid.x;
//!          mul.wide.u32 %rd2, %r1, 4;
//!          add.s64 %rd3, %rd1, %rd2;
//!          ld.global.u32 %r2, [%rd3];
//!          add.u32 %r3, %r2, %r2;
//!          st.global.u32 [%rd3], %r3;
//!          ret;
//!      }",
//! )?;
//! let mut memory = Memory::new(1 << 20);
//! let data = memory.alloc(128).ok_or("no memory")?;
//! memory.fill(data, 1, 128)?;
//! let kernel = module.kernel("twice").ok_or("no such kernel")?;
//! let shape = Launch { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: 0, params: &data.to_le_bytes() };
//! let stats = launch(kernel, &shape, &memory, &Options::default())?;
//! assert_eq!(stats.instructions, 8 * 32);
//! let mut word = [0; 4];
//! memory.read(data + 124, &mut word)?;
//! assert_eq!(word, [2; 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: `lexer`, `parse`, `symbols` and `decode` turn text into the `instr` of a [`Module`]; `schedule`
//! runs the blocks of a launch, `block`, `fragments` and `barrier` the
//! warps of one, `exec` the instructions on `regs` and
//! [`Memory`]; `race` watches.
//!
//! Not modelled: the weak memory model beyond data races (fences are accepted and ignored; synchronisation through
//! memory is not seen as order), and the rounding of real tensor cores.

mod barrier;
mod block;
mod decode;
pub mod driver;
mod exec;
mod fault;
mod float;
mod fragments;
mod instr;
mod lexer;
mod memory;
mod module;
mod parse;
mod race;
mod random;
mod regs;
mod schedule;
mod symbols;
mod types;

pub use fault::{Fault, FaultKind, ParseError};
pub use memory::{Memory, MemoryError};
pub use module::{Kernel, Module, ParamDecl};
pub use schedule::{Launch, Options, Stats, launch};
