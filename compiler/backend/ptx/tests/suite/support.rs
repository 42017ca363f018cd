//! Compiles kernels, launches them on the simulator, and compares.

use xlac_ir::backend::{Backend, BlockShape, Gpu, Target};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::interp::{self, Buffer, Fault};
use xlac_ir::kernel::{Const, Kernel, Pred, ScratchLen, Space};
use xlac_ir::scalar;
use xlac_ptx::Ptx;
use xlac_ptx_sim::{Launch, Memory, Module, Options, launch};

/// The least GPU served.
pub fn target() -> Target {
    Target {
        name: "gpu".into(),
        arch: "ptx".into(),
        cpu: "sm_80".into(),
        features: Vec::new(),
        vector_bytes: 16,
        vector_registers: 64,
        masked_memory: false,
        broadcast_fma: false,
        cache_bytes: [128 << 10, 4 << 20, 4 << 20],
        gpu: Some(Gpu { multiprocessors: 16, shared_bytes: 99 << 10, thread_registers: 255 }),
    }
}

/// A module of kernels, ready to run.
pub struct Code {
    pub text: String,
    module: Module,
    blocks: Vec<BlockShape>,
}

impl Code {
    pub fn new(kernels: &[Kernel]) -> Code {
        for k in kernels {
            if let Err(errors) = xlac_ir::kernel::verify::verify(k) {
                panic!("{}: {errors:?}", k.name);
            }
        }
        let image = Ptx.compile(kernels, &target(), 2).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(image.bytes.last(), Some(&0));
        let text = String::from_utf8(image.bytes).expect("PTX is text");
        let summary = xlac_ptx::verify::verify(&text).expect("what is compiled is well-formed");
        assert_eq!(summary.kernels.len(), kernels.len());
        let text = text.trim_end_matches('\0').to_string();
        let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        Code { text, module, blocks: image.blocks }
    }

    /// Launches kernel `which`; gives the status. Each buffer starts `shift` elements after an aligned address.
    pub fn run(&self, k: &Kernel, which: usize, buffers: &mut [Buffer], dims: &[i64], tiles: i64, how: &How) -> u32 {
        if tiles == 0 {
            return 0;
        }
        let shape = self.blocks[which];
        let mut memory = Memory::new(1 << 28);
        let mut params = Vec::new();
        let mut places = Vec::new();
        for b in buffers.iter() {
            let before = how.shift * b.dtype.size();
            let base = memory.alloc(b.bytes.len() + before).expect("there is memory") + before as u64;
            memory.write(base, &b.bytes).expect("it was just allocated");
            params.extend(base.to_le_bytes());
            places.push(base);
        }
        dims.iter().for_each(|d| params.extend(d.to_le_bytes()));
        let mut blocks = (tiles as u64).div_ceil(shape.tiles.into()) as i64;
        if shape.strided {
            blocks = blocks.min(how.blocks);
        }
        let stride = scratch_bytes(k, dims);
        let workers = blocks * i64::from(shape.tiles);
        let scratch = match shape.strided {
            true => memory.alloc((stride * workers) as usize).expect("there is memory"),
            false => 0,
        };
        let status = memory.alloc(4).expect("there is memory");
        memory.write(status, &[0; 4]).expect("it was just allocated");
        params.extend(tiles.to_le_bytes());
        params.extend(scratch.to_le_bytes());
        params.extend(stride.to_le_bytes());
        params.extend(status.to_le_bytes());
        let launch_shape = Launch {
            grid: [blocks as u32, 1, 1],
            block: [shape.threads, 1, 1],
            dynamic_shared: shape.shared,
            params: &params,
        };
        let kernel = self.module.kernel(&k.name).expect("the module has the kernel");
        if let Err(fault) = launch(kernel, &launch_shape, &memory, &how.options) {
            panic!("{fault}\n{}\n{}", xlac_ir::kernel::text::print(k), numbered(&self.text, &k.name));
        }
        for (b, &at) in buffers.iter_mut().zip(&places) {
            memory.read(at, &mut b.bytes).expect("it is allocated");
        }
        let mut word = [0; 4];
        memory.read(status, &mut word).expect("it is allocated");
        u32::from_le_bytes(word)
    }
}

/// The text of one entry.
pub fn numbered(text: &str, name: &str) -> String {
    let entry = text.split(".visible .entry ").find(|e| e.starts_with(&format!("{name}(")));
    entry.unwrap_or(text).to_string()
}

/// How a launch runs.
#[derive(Clone, Debug)]
pub struct How {
    /// Elements that buffers start after an aligned address.
    pub shift: usize,
    /// Most blocks of a kernel that strides.
    pub blocks: i64,
    pub options: Options,
}

impl Default for How {
    fn default() -> How {
        How { shift: 0, blocks: 2, options: Options::default() }
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

/// Runs a kernel both ways and compares every buffer; gives the simulated code.
pub fn agree(k: &Kernel, buffers: &[Buffer], dims: &[i64], tiles: i64) -> Code {
    let code = Code::new(std::slice::from_ref(k));
    agree_on(&code, k, 0, buffers, dims, tiles, &How::default());
    code
}

/// Runs kernel `which` both ways and compares every buffer.
pub fn agree_on(code: &Code, k: &Kernel, which: usize, buffers: &[Buffer], dims: &[i64], tiles: i64, how: &How) {
    let mut want = buffers.to_vec();
    let expected = match interp::run(k, &mut want, dims, 0..tiles) {
        Ok(()) => 0,
        Err(Fault::Check { code, .. }) => code,
        Err(fault) => panic!("{fault}\n{}", xlac_ir::kernel::text::print(k)),
    };
    let mut got = buffers.to_vec();
    let status = code.run(k, which, &mut got, dims, tiles, how);
    assert_eq!(status, expected, "status of {}", k.name);
    if status == 0 {
        compare(code, k, &want, &got);
    }
}

fn compare(code: &Code, k: &Kernel, want: &[Buffer], got: &[Buffer]) {
    for (n, (w, g)) in want.iter().zip(got).enumerate() {
        for i in 0..w.bytes.len() / w.dtype.size() {
            let (a, b) = (element(w, i), element(g, i));
            assert!(
                same(w.dtype, a, b),
                "{}: element {i} of buffer {n} is {b:#x}, not {a:#x}\n{}\n{}",
                k.name,
                xlac_ir::kernel::text::print(k),
                numbered(&code.text, &k.name)
            );
        }
    }
}

pub fn element(b: &Buffer, i: usize) -> u64 {
    let size = b.dtype.size();
    let mut word = [0; 8];
    word[..size].copy_from_slice(&b.bytes[i * size..][..size]);
    u64::from_le_bytes(word)
}

pub fn set_element(b: &mut Buffer, i: usize, bits: u64) {
    let size = b.dtype.size();
    b.bytes[i * size..][..size].copy_from_slice(&bits.to_le_bytes()[..size]);
}

pub fn is_nan(t: DType, bits: u64) -> bool {
    let c = Const { dtype: t, bits };
    t.is_float() && scalar::cmp(Pred::Ne, c, c)
}

/// Equal bits, or both NaN.
pub fn same(t: DType, a: u64, b: u64) -> bool {
    a == b || is_nan(t, a) && is_nan(t, b)
}

/// A small generator of repeatable bits.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Types kernels know.
pub fn dtypes() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|t| t.in_kernels())
}

/// Values worth a test, as bits.
pub fn corners(t: DType) -> Vec<u64> {
    let bits = t.bits();
    if t == DType::Bool {
        return vec![0, 1];
    }
    if !t.is_float() {
        let mut out: Vec<u64> = [0i64, 1, 2, 3, -1, -2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256]
            .iter()
            .map(|&x| Const::int(t, x).bits)
            .collect();
        let top = 1u64 << (bits - 1);
        out.extend([top, top - 1, top + 1]);
        out.extend([24, 53].iter().map(|&n| Const::int(t, (1i64 << n) + 1).bits));
        return out;
    }
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        3.5,
        127.0,
        128.0,
        127.5,
        255.5,
        256.0,
        -128.0,
        -129.0,
        32767.0,
        32768.0,
        65504.0,
        65519.9,
        65520.0,
        65535.0,
        65536.0,
        2147483647.0,
        2147483648.0,
        4294967295.0,
        4294967296.0,
        9.2233720368547e18,
        9.3e18,
        1.8446744073709e19,
        1.9e19,
        -9.3e18,
        1e30,
        -1e30,
        3.4e38,
        3.5e38,
        1e300,
        -1e300,
        6.103515625e-5,
        5.9604645e-8,
        2.98e-8,
        2.9802322387695312e-8,
        1e-10,
        1e-40,
        1e-45,
        1.00048828125,
        1.0004882812500002,
        1.00390625,
        1.0039062500000002,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let mut out: Vec<u64> = numbers.iter().map(|&x| Const::number(t, x).bits).collect();
    out.push(1);
    out.push((1 << (bits - 1)) | 1);
    out
}

/// A corner, a small number or random bits.
pub fn pick(random: &mut Random, t: DType, corners: &[u64]) -> u64 {
    let x = random.next();
    let mask = u64::MAX >> (64 - t.bits());
    match x % 4 {
        0 | 1 => corners[(x >> 8) as usize % corners.len()],
        2 if t.is_float() => Const::number(t, (random.next() as i32) as f64 / 1e6).bits,
        _ if t == DType::Bool => random.next() & 1,
        _ => random.next() & mask,
    }
}

/// A buffer of such elements.
pub fn buffer(dtype: DType, n: usize, seed: u64) -> Buffer {
    let corners = corners(dtype);
    let mut random = Random(seed ^ 0x5eed);
    let mut b = Buffer { dtype, bytes: vec![0; n * dtype.size()] };
    (0..n).for_each(|i| set_element(&mut b, i, pick(&mut random, dtype, &corners)));
    b
}

/// A buffer of zeros.
pub fn zeros(dtype: DType, n: usize) -> Buffer {
    Buffer { dtype, bytes: vec![0; n * dtype.size()] }
}
