//! Devices a user can name, and how they are opened.

use xlac_ir::diag::Diagnostic;
use xlac_ptx_sim::driver::{SimConfig, Simulator};
use xlac_runtime::Device;

use crate::codes;
use crate::engine::runtime_error;

/// What `--device` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The reference interpreter on the optimized graph.
    Interp,
    /// This machine's processor.
    Cpu,
    /// NVIDIA GPU of this number.
    Cuda(u32),
    /// The simulator of such a GPU; with a seed under an adversarial schedule and with the search for races.
    PtxSim(Option<u64>),
}

impl Place {
    /// The place of this name.
    pub fn parse(name: &str) -> Result<Place, Diagnostic> {
        let (kind, number) = match name.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (name, None),
        };
        let number = number.map(|n| n.parse::<u64>().map_err(|_| unknown(name))).transpose()?;
        match (kind, number) {
            ("interp", None) => Ok(Place::Interp),
            ("cpu", None) => Ok(Place::Cpu),
            ("cuda", n) => Ok(Place::Cuda(u32::try_from(n.unwrap_or(0)).map_err(|_| unknown(name))?)),
            ("ptx-sim", seed) => Ok(Place::PtxSim(seed)),
            _ => Err(unknown(name)),
        }
    }

    /// What a model is compiled for to run here.
    pub fn target(self) -> &'static str {
        match self {
            Place::Interp | Place::Cpu => "cpu",
            Place::Cuda(_) | Place::PtxSim(_) => "ptx",
        }
    }

    /// Opens the device.
    pub fn open(self) -> Result<Opened, Diagnostic> {
        let device = match self {
            Place::Interp | Place::Cpu => Device::cpu(),
            Place::Cuda(ordinal) => Device::cuda(ordinal).map_err(runtime_error)?,
            Place::PtxSim(seed) => {
                let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
                let config = SimConfig { seed, races: seed.is_some(), threads, ..SimConfig::default() };
                let simulator = Simulator::new(config);
                let device = simulator.device().map_err(runtime_error)?;
                return Ok(Opened { device, simulator: Some(simulator) });
            }
        };
        Ok(Opened { device, simulator: None })
    }
}

/// An open device.
pub struct Opened {
    /// It.
    pub device: Device,
    simulator: Option<Simulator>,
}

impl Opened {
    /// An error of a run as a diagnostic, with what the simulator saw.
    pub fn error(&self, error: xlac_runtime::Error) -> Diagnostic {
        let diagnostic = runtime_error(error);
        match self.simulator.as_ref().and_then(Simulator::last_fault) {
            Some(fault) => diagnostic.help(fault),
            None => diagnostic,
        }
    }
}

fn unknown(name: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_TARGET, format!("no device is called `{name}`"))
        .help("there are cpu, interp, cuda, cuda:NUMBER, ptx-sim and ptx-sim:SEED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Place::parse("cuda").unwrap(), Place::Cuda(0));
        assert_eq!(Place::parse("cuda:3").unwrap(), Place::Cuda(3));
        assert_eq!(Place::parse("ptx-sim:7").unwrap(), Place::PtxSim(Some(7)));
        for name in ["gpu", "cpu:1", "cuda:x", "cuda:-1", ""] {
            assert_eq!(Place::parse(name).unwrap_err().code, codes::BAD_TARGET, "{name}");
        }
    }
}
