//! Runs the kernels of a plan on the PTX simulator, under adversarial schedules and with the search for races.

use xlac_codegen::plan::Plan;
use xlac_ir::backend::{Backend, Target};
use xlac_ir::kernel::interp::Buffer;
use xlac_ir::kernel::{Kernel, ScratchLen, Space};
use xlac_ptx::Ptx;
use xlac_ptx_sim::{Launch, Memory, Module, Options, launch};

/// The kernels of a plan as PTX.
pub struct Sim {
    module: Module,
    text: String,
    plan: Vec<Kernel>,
    blocks: Vec<xlac_ir::backend::BlockShape>,
}

impl Sim {
    /// Compiles them.
    pub fn new(plan: &Plan, target: &Target) -> Sim {
        let image = Ptx.compile(&plan.kernels, target, 1).unwrap_or_else(|e| panic!("{e}"));
        let text = String::from_utf8(image.bytes).expect("PTX is text").trim_end_matches('\0').to_string();
        let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        Sim { module, text, plan: plan.kernels.clone(), blocks: image.blocks }
    }

    /// Launches a kernel; a seed asks for an adversarial schedule and the search for races.
    pub fn run(
        &self,
        seed: Option<u64>,
        k: &Kernel,
        buffers: &mut [Buffer],
        origins: &[usize],
        dims: &[i64],
        tiles: i64,
    ) -> Result<(), String> {
        if tiles == 0 {
            return Ok(());
        }
        let which = self.plan.iter().position(|x| x.name == k.name).expect("a kernel of the plan");
        let shape = self.blocks[which];
        let mut memory = Memory::new(1 << 28);
        let (mut params, mut places) = (Vec::new(), Vec::new());
        for (b, origin) in buffers.iter().zip(origins) {
            let at = memory.alloc(b.bytes.len().max(1)).ok_or("no memory")?;
            memory.write(at, &b.bytes).map_err(|e| e.to_string())?;
            params.extend((at + (origin * b.dtype.size()) as u64).to_le_bytes());
            places.push(at);
        }
        dims.iter().for_each(|d| params.extend(d.to_le_bytes()));
        let mut blocks = (tiles as u64).div_ceil(shape.tiles.into()) as i64;
        if shape.strided {
            blocks = blocks.min(2);
        }
        let stride = scratch_bytes(k, dims);
        let scratch = if shape.strided { memory.alloc((stride * blocks * i64::from(shape.tiles)) as usize).ok_or("no memory")? } else { 0 };
        let status = memory.alloc(4).ok_or("no memory")?;
        memory.write(status, &[0; 4]).map_err(|e| e.to_string())?;
        params.extend(tiles.to_le_bytes());
        params.extend(scratch.to_le_bytes());
        params.extend(stride.to_le_bytes());
        params.extend(status.to_le_bytes());
        let grid = Launch { grid: [blocks as u32, 1, 1], block: [shape.threads, 1, 1], dynamic_shared: shape.shared, params: &params };
        let kernel = self.module.kernel(&k.name).ok_or("no such kernel")?;
        let options = Options { seed, races: seed.is_some(), ..Options::default() };
        launch(kernel, &grid, &memory, &options).map_err(|fault| {
            let line = |n: usize| self.text.lines().nth(n).unwrap_or("").to_string();
            let text = fault.to_string();
            let at = text.split("line ").nth(1).and_then(|t| t.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
            let near = at.map(|n| (n.saturating_sub(6)..n + 3).map(line).collect::<Vec<_>>().join("\n")).unwrap_or_default();
            format!("{text}\n{near}")
        })?;
        for (b, &at) in buffers.iter_mut().zip(&places) {
            memory.read(at, &mut b.bytes).map_err(|e| e.to_string())?;
        }
        let mut word = [0; 4];
        memory.read(status, &mut word).map_err(|e| e.to_string())?;
        match u32::from_le_bytes(word) {
            0 => Ok(()),
            code => Err(format!("check {code} failed")),
        }
    }
}

fn scratch_bytes(k: &Kernel, dims: &[i64]) -> i64 {
    let each = k.scratch.iter().filter(|s| s.space == Space::Private).map(|s| {
        let n = match s.len {
            ScratchLen::Const(n) => n as i64,
            ScratchLen::Dim(d) => dims[d as usize].max(0),
        };
        (n * s.dtype.size() as i64 + 63) & -64
    });
    each.sum()
}
