//! Sums of four 8-bit products: by the instruction the processor has for them, or exactly by wider ones.
//!
//! Never by `vpmaddubsw` or `vpdpbusds`, which saturate.

use xlac_ir::DType;
use xlac_ir::backend::Target;
use xlac_ir::kernel::Val;

use super::{Emitter, vector};

/// What a processor has for sums of 8-bit products.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dots {
    /// `vpdpbusd` of 512 bits, of 256 and 128.
    avx512: bool,
    /// The same of 256 and 128 bits in its encoding without masks.
    avx: bool,
    /// `vpmaddwd` of 512 bits, of 256, of 128.
    madd: [bool; 3],
    /// `sdot` and `udot`.
    dotprod: bool,
    /// `usdot`.
    i8mm: bool,
}

impl Dots {
    /// Reads the features of a target.
    pub(crate) fn of(target: &Target) -> Dots {
        let (has, x86) = (|f: &str| target.has(f), target.arch == "x86_64");
        Dots {
            avx512: has("avx512vnni") && has("avx512vl") && has("avx512bw"),
            avx: has("avxvnni"),
            madd: [has("avx512bw"), has("avx2"), x86],
            dotprod: has("dotprod"),
            i8mm: has("i8mm"),
        }
    }
}

/// Operands of which `vpdpbusd` or an Arm instruction takes one vector.
struct Factors {
    a: String,
    b: String,
    signed: [bool; 2],
}

impl Emitter<'_> {
    pub(super) fn dot4(&mut self, a: Val, b: Val, c: Val) -> String {
        let lanes = self.kernel.ty(c).lanes;
        let signed = [a, b].map(|x| self.kernel.ty(x).dtype == DType::I8);
        let (a, b, c) = (self.val(a), self.val(b), self.val(c));
        let width = match self.isa.vector_bits / 32 {
            n if lanes % n == 0 => n,
            _ if lanes % 8 == 0 => 8,
            _ if lanes % 4 == 0 => 4,
            _ => return self.dot_of_words(&Factors { a, b, signed }, &c, lanes),
        };
        if lanes == width {
            return self.dot_vector(&Factors { a, b, signed }, &c, width);
        }
        let parts: Vec<String> = (0..lanes / width).map(|i| {
            let cut = |e: &mut Self, x: &str, elem, n: u32| e.shuffle(x, &vector(elem, lanes * n), i * width * n..(i + 1) * width * n);
            let (a, b, c) = (cut(self, &a, "i8", 4), cut(self, &b, "i8", 4), cut(self, &c, "i32", 1));
            self.dot_vector(&Factors { a, b, signed }, &c, width)
        }).collect();
        self.joined(parts, width)
    }

    /// Vectors of `width` lanes one after the other.
    fn joined(&mut self, mut parts: Vec<String>, width: u32) -> String {
        let mut all = parts.remove(0);
        for (part, have) in parts.into_iter().zip((1..).map(|i| i * width)) {
            let (n, part) = (have + width, self.resize(&part, "i32", width, have));
            let picks: Vec<String> = (0..n).map(|i| format!("i32 {i}")).collect();
            let ty = vector("i32", have);
            all = self.op(format!("shufflevector {ty} {all}, {ty} {part}, <{n} x i32> <{}>", picks.join(", ")));
        }
        all
    }

    /// One register of 4, 8 or 16 lanes.
    fn dot_vector(&mut self, x: &Factors, c: &str, lanes: u32) -> String {
        let dots = self.isa.dots;
        let Factors { a, b, signed } = x;
        let (ty, bytes) = (vector("i32", lanes), vector("i8", lanes * 4));
        // Instructions for both signs take the unsigned one first on x86, and so on Arm.
        let mixed = signed[0] != signed[1];
        let (first, second) = if signed[0] { (b, a) } else { (a, b) };
        let arm = match signed {
            [true, true] => Some("sdot"),
            [false, false] => Some("udot"),
            _ => dots.i8mm.then_some("usdot"),
        };
        let name = match arm.filter(|_| dots.dotprod && lanes == 4) {
            Some(name) => Some(format!("aarch64.neon.{name}.v4i32.v16i8")),
            None if mixed && dots.avx512 => Some(format!("x86.avx512.vpdpbusd.{}", lanes * 32)),
            None if mixed && dots.avx && lanes < 16 => Some(format!("x86.avx512.vpdpbusd.{}", lanes * 32)),
            None => None,
        };
        if let Some(name) = name {
            return self.op(format!("call {ty} @llvm.{name}({ty} {c}, {bytes} {first}, {bytes} {second})"));
        }
        let madd = match lanes {
            16 => dots.madd[0].then_some("avx512.pmaddw.d.512"),
            8 => dots.madd[1].then_some("avx2.pmadd.wd"),
            _ => dots.madd[2].then_some("sse2.pmadd.wd"),
        };
        match madd {
            Some(name) => self.dot_of_pairs(x, c, lanes, name),
            None => self.dot_of_words(x, c, lanes),
        }
    }

    /// The even bytes of 16-bit words widened to words, and the odd ones, are multiplied and added in pairs.
    fn dot_of_pairs(&mut self, x: &Factors, c: &str, lanes: u32, madd: &str) -> String {
        let (ty, half) = (vector("i32", lanes), vector("i16", 2 * lanes));
        let [a, b] = [(&x.a, x.signed[0]), (&x.b, x.signed[1])].map(|(bytes, signed)| {
            let word = self.op(format!("bitcast {} {bytes} to {half}", vector("i8", 4 * lanes)));
            let eight = "splat (i16 8)";
            let shift = if signed { "ashr" } else { "lshr" };
            let even = if signed {
                let up = self.op(format!("shl {half} {word}, {eight}"));
                self.op(format!("ashr {half} {up}, {eight}"))
            } else {
                self.op(format!("and {half} {word}, splat (i16 255)"))
            };
            [even, self.op(format!("{shift} {half} {word}, {eight}"))]
        });
        let mut sum = c.to_string();
        for (a, b) in a.iter().zip(&b) {
            let pair = self.op(format!("call {ty} @llvm.x86.{madd}({half} {a}, {half} {b})"));
            sum = self.op(format!("add {ty} {sum}, {pair}"));
        }
        sum
    }

    /// Each of the four bytes of a 32-bit word widened to it.
    fn dot_of_words(&mut self, x: &Factors, c: &str, lanes: u32) -> String {
        let ty = vector("i32", lanes);
        let [a, b] = [(&x.a, x.signed[0]), (&x.b, x.signed[1])].map(|(bytes, signed)| {
            let word = self.op(format!("bitcast {} {bytes} to {ty}", vector("i8", 4 * lanes)));
            let shift = if signed { "ashr" } else { "lshr" };
            let splat = |n: u32| if lanes == 1 { n.to_string() } else { format!("splat (i32 {n})") };
            [24, 16, 8, 0].map(|up| {
                let word = if up == 0 { word.clone() } else { self.op(format!("shl {ty} {word}, {}", splat(up))) };
                self.op(format!("{shift} {ty} {word}, {}", splat(24)))
            })
        });
        let mut sum = c.to_string();
        for (a, b) in a.iter().zip(&b) {
            let product = self.op(format!("mul {ty} {a}, {b}"));
            sum = self.op(format!("add {ty} {sum}, {product}"));
        }
        sum
    }
}
