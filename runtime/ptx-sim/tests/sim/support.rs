//! Builds and runs small kernels.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use xlac_ptx_sim::{Fault, FaultKind, Launch, Memory, Module, Options, Stats, launch};

/// Parses `text`, which a variable may ask to keep for checking with other tools.
pub fn parse(text: &str) -> Module {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    if let Ok(folder) = std::env::var("XLAC_PTX_DUMP") {
        let path = format!("{folder}/{}.ptx", NUMBER.fetch_add(1, Relaxed));
        std::fs::write(path, text).expect("the folder can be written");
    }
    Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// `body` as the kernel `k` with 64-bit parameters `p0`, `p1`, ... that are loaded into `%p0`, `%p1`, ...
pub fn kernel(params: usize, body: &str) -> String {
    kernel_with("", params, body)
}

/// As [`kernel`], with directives of the module before it.
pub fn kernel_with(module: &str, params: usize, body: &str) -> String {
    let list: Vec<String> = (0..params).map(|i| format!(".param .u64 p{i}")).collect();
    let loads: String = (0..params).map(|i| format!("  .reg .b64 %p{i};\n  ld.param.u64 %p{i}, [p{i}];\n")).collect();
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n{module}\n.visible .entry k({})\n{{\n{loads}{body}\n}}\n",
        list.join(", ")
    )
}

/// Registers that most kernels need.
pub const REGS: &str = "
  .reg .pred %q<10>;
  .reg .b16 %h<20>;
  .reg .b32 %r<80>;
  .reg .f32 %f<80>;
  .reg .b64 %rd<40>;
  .reg .f64 %fd<20>;";

/// An argument: a number, or a buffer that is uploaded before and downloaded after the launch.
pub enum Arg<'a> {
    Number(u64),
    Bytes(&'a mut Vec<u8>),
}

/// Little-endian bytes of 32-bit words.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes of f32.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))).collect()
}

pub fn to_floats(bytes: &[u8]) -> Vec<f32> {
    to_words(bytes).into_iter().map(f32::from_bits).collect()
}

/// Grid, block and dynamic shared memory.
#[derive(Clone, Copy)]
pub struct Shape(pub u32, pub u32, pub u32);

/// Runs kernel `k` of `text`.
pub fn run(text: &str, shape: Shape, args: &mut [Arg], options: &Options) -> Result<Stats, Fault> {
    let module = parse(text);
    let mut memory = Memory::tracked(1 << 30);
    let mut params = Vec::new();
    let mut places = Vec::new();
    for arg in args.iter() {
        let value = match arg {
            Arg::Number(value) => *value,
            Arg::Bytes(bytes) => {
                let at = memory.alloc(bytes.len()).expect("memory is left");
                memory.write(at, bytes).expect("just allocated");
                at
            }
        };
        places.push(value);
        params.extend_from_slice(&value.to_le_bytes());
    }
    let shape = Launch { grid: [shape.0, 1, 1], block: [shape.1, 1, 1], dynamic_shared: shape.2, params: &params };
    let stats = launch(module.kernel("k").expect("the kernel is there"), &shape, &memory, options)?;
    for (arg, at) in args.iter_mut().zip(places) {
        if let Arg::Bytes(bytes) = arg {
            memory.read(at, bytes).expect("still allocated");
        }
    }
    Ok(stats)
}

/// Runs and expects no fault.
pub fn run_clean(text: &str, shape: Shape, args: &mut [Arg], options: &Options) -> Stats {
    run(text, shape, args, options).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The plain run, then 20 adversarial ones with every check.
pub fn all_options() -> Vec<Options> {
    let plain = Options { instruction_limit: 200_000_000, ..Options::default() };
    let watched = |seed| Options { seed: Some(seed), races: true, uninitialized_global: true, ..plain.clone() };
    std::iter::once(plain.clone()).chain((0..20).map(watched)).collect()
}

/// Whether one of 20 seeds finds a fault of kind `kind` in `run`; another kind is a failure.
pub fn finds(kind: FaultKind, races: bool, mut run: impl FnMut(&Options) -> Result<Stats, Fault>) -> bool {
    (0..20).any(|seed| {
        let options = Options { seed: Some(seed), races, instruction_limit: 20_000_000, ..Options::default() };
        match run(&options) {
            Ok(_) => false,
            Err(fault) => {
                assert_eq!(fault.kind, kind, "{fault}");
                true
            }
        }
    })
}

fn declare(ty: &str, name: &str) -> String {
    format!("  .reg .{ty} {name};\n")
}

fn width(ty: &str) -> usize {
    match ty {
        "pred" => 1,
        t if t.ends_with("16x2") => 4,
        t => t.trim_start_matches(|c: char| c.is_alphabetic()).parse::<usize>().expect("a width") / 8,
    }
}

/// The type that a register and a move of `ty` have: pairs are plain bits.
fn register_type(ty: &str) -> &str {
    match ty {
        "f16x2" | "bf16x2" | "tf32" => "b32",
        "f16" | "bf16" => "b16",
        "u8" | "s8" | "b8" => "b16",
        t => t,
    }
}

/// Executes `code`, in which `%d`, `%a`, `%b`, `%c` are registers of the types given, for each row of raw inputs.
pub fn eval(code: &str, to: &str, from: &[&str], rows: &[[u64; 3]]) -> Vec<u64> {
    let names = ["%a", "%b", "%c"];
    let mut body = format!("{REGS}\n");
    body += &declare(register_type(to), "%d");
    for (ty, name) in from.iter().zip(names) {
        body += &declare(register_type(ty), name);
    }
    body += "  mov.u32 %r1, %ctaid.x;\n  mov.u32 %r2, %ntid.x;\n  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r4, %r1, %r2, %r3;\n  ld.param.u32 %r5, [p2];\n  setp.ge.u32 %q0, %r4, %r5;\n  @%q0 bra END;
  mad.wide.u32 %rd1, %r4, 24, %p0;\n  mad.wide.u32 %rd2, %r4, 8, %p1;\n";
    for (i, (ty, name)) in from.iter().zip(names).enumerate() {
        if *ty == "pred" {
            body += &format!("  ld.global.u32 %r6, [%rd1+{}];\n  setp.ne.u32 {name}, %r6, 0;\n", 8 * i);
        } else {
            body += &format!("  ld.global.b{} {name}, [%rd1+{}];\n", 8 * width(ty), 8 * i);
        }
    }
    body += &format!("  {code}\n");
    if to == "pred" {
        body += "  selp.u32 %r7, 1, 0, %d;\n  st.global.u32 [%rd2], %r7;\n";
    } else {
        body += &format!("  st.global.b{} [%rd2], %d;\n", 8 * width(to));
    }
    body += "END:\n  ret;";
    let mut input: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let mut output = vec![0; 8 * rows.len()];
    let count = rows.len() as u64;
    let args = &mut [Arg::Bytes(&mut input), Arg::Bytes(&mut output), Arg::Number(count)];
    run_clean(&kernel(3, &body), Shape(rows.len().div_ceil(96) as u32, 96, 0), args, &Options::default());
    output.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect()
}

/// Checks `code` against `oracle` on all combinations of `values`.
pub fn check(code: &str, to: &str, from: &[&str], values: &[u64], oracle: impl Fn([u64; 3]) -> u64) {
    let mut rows = Vec::new();
    for a in values {
        match from.len() {
            1 => rows.push([*a, 0, 0]),
            2 => rows.extend(values.iter().map(|b| [*a, *b, 0])),
            _ => rows.extend(values.iter().flat_map(|b| values.iter().step_by(3).map(|c| [*a, *b, *c]))),
        }
    }
    let bits = 8 * width(to);
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    for (row, found) in rows.iter().zip(eval(code, to, from, &rows)) {
        let expected = oracle(*row) & mask;
        assert_eq!(found, expected, "{code} of {row:#x?}: {found:#x}, not {expected:#x}");
    }
}

/// Numbers of 64 bits with interesting low parts.
pub fn integers() -> Vec<u64> {
    let mut values = vec![0, 1, 2, 3, 7, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000];
    values.extend([
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
        u64::MAX - 1,
        1 << 63,
        (1 << 63) - 1,
    ]);
    values.extend([0x1234_5678_9abc_def0, 0xdead_beef_0bad_f00d, 0x0000_00f3_8000_0021]);
    values
}

/// Bits of f32 values with interesting properties.
pub fn singles() -> Vec<u64> {
    let values =
        [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0e38, -3.0e38, 1.0e-40, -1.0e-44, 1.0e-30, 65504.0, 65520.0];
    let more =
        [0.333_333_34, 6.1e-5, 5.9e-8, 1.000_000_1, 2147483648.0, -2147483904.0, 4294967296.0, 255.5, -128.5, 1.0e20];
    let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::MAX, 0.1, -7.75, 123.456];
    values.into_iter().chain(more).chain(special).map(|v: f32| u64::from(v.to_bits())).collect()
}

/// A repeatable stream of numbers.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ self.0 >> 33;
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ x >> 29
    }

    /// An integer between -8 and 8 as a float: sums of products are exact.
    pub fn small(&mut self) -> f32 {
        (self.next() % 17) as f32 - 8.0
    }
}
