//! Moving lanes: splat, iota, extract, slice, concat, permute, masks of other widths, work lane by lane.

use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{BinOp, VType};

use super::rep::{Rep, int_type, mask_type, scalar_type};
use super::{Emitter, Result};

impl Emitter<'_> {
    /// A scalar in every lane.
    pub fn splat(&mut self, a: &Rep, lanes: u32) -> Rep {
        let ty = VType::vector(a.ty.dtype, lanes);
        if lanes == 1 || !a.is_scalar() {
            return a.clone();
        }
        if let Some(bits) = a.bits {
            return Rep::constant(ty, bits);
        }
        let mut x = self.chunk(a, 0);
        if a.ty.dtype == DType::Bool {
            x = self.ins().ineg(x);
        }
        let mut rep = Rep::constant(ty, 0);
        let v = self.ins().splat(rep.clif(), x);
        rep.chunks = vec![v; rep.count()];
        rep.bits = None;
        rep
    }

    /// `a, a + 1, ...`.
    pub fn iota(&mut self, a: &Rep, lanes: u32) -> Result<Rep> {
        if lanes == 1 {
            return Ok(a.clone());
        }
        let base = self.splat(a, lanes);
        let width = base.width as usize;
        let mut bytes: Vec<u8> = (0..u64::from(lanes)).flat_map(|i| i.to_le_bytes()[..width].to_vec()).collect();
        bytes.resize(base.count() * 16, 0);
        let steps: Vec<Value> = bytes.chunks(16).map(|c| self.vector_constant(base.clif(), c.to_vec())).collect();
        let steps = Rep::new(base.ty, steps);
        if a.bits == Some(0) {
            return Ok(steps);
        }
        self.bin(BinOp::Add, &base, &steps)
    }

    /// One lane as a scalar.
    pub fn extract(&mut self, a: &Rep, lane: u32) -> Rep {
        let ty = VType::scalar(a.ty.dtype);
        if let Some(bits) = a.bits {
            return Rep::constant(ty, bits);
        }
        if a.is_scalar() {
            return a.clone();
        }
        let v = self.lane(a, lane);
        Rep::scalar(a.ty.dtype, v)
    }

    /// One lane as a CLIF scalar.
    pub fn lane(&mut self, a: &Rep, lane: u32) -> Value {
        if a.is_scalar() {
            return self.chunk(a, 0);
        }
        if let Some(bits) = a.bits {
            return self.scalar_constant(a.ty.dtype, bits);
        }
        let per = 16 / a.width;
        let chunk = a.chunks[(lane / per) as usize];
        let x = self.ins().extractlane(chunk, (lane % per) as u8);
        if a.ty.dtype != DType::Bool {
            return x;
        }
        let byte = if a.width > 1 { self.ins().ireduce(types::I8, x) } else { x };
        let one = self.ins().iconst(types::I8, 1);
        self.ins().band(byte, one)
    }

    /// A value from its lanes; bool lanes are `i8` of 0 or 1.
    pub fn gather_lanes(&mut self, dtype: DType, lanes: &[Value]) -> Rep {
        let ty = VType::vector(dtype, lanes.len() as u32);
        if lanes.len() == 1 {
            return Rep::new(ty, lanes.to_vec());
        }
        let clif = super::rep::vector_type(dtype);
        let per = clif.lane_count() as usize;
        let mut chunks: Vec<Value> = lanes.chunks(per).map(|part| self.assemble(clif, part)).collect();
        if dtype == DType::Bool {
            for c in &mut chunks {
                *c = self.ins().ineg(*c);
            }
        }
        Rep::new(ty, chunks)
    }

    fn assemble(&mut self, clif: Type, part: &[Value]) -> Value {
        let (mut v, rest) = if clif.lane_bits() >= 32 {
            (self.ins().scalar_to_vector(clif, part[0]), 1)
        } else {
            (self.int_lanes(clif, 0), 0)
        };
        for (i, &x) in part.iter().enumerate().skip(rest) {
            v = self.ins().insertlane(v, x, i as u8);
        }
        v
    }

    /// `f` on every lane; the result has elements of `dtype`.
    pub fn each_lane(
        &mut self,
        dtype: DType,
        args: &[&Rep],
        mut f: impl FnMut(&mut Self, &[Value]) -> Value,
    ) -> Rep {
        let lanes: Vec<Value> = (0..args[0].lanes())
            .map(|lane| {
                let args: Vec<Value> = args.iter().map(|a| self.lane(a, lane)).collect();
                f(self, &args)
            })
            .collect();
        self.gather_lanes(dtype, &lanes)
    }

    /// A scalar as lane 0 of a chunk; vectors as they are.
    fn chunks_of(&mut self, a: &Rep) -> Rep {
        if !a.is_scalar() {
            return Rep { chunks: self.chunks(a), bits: None, ..a.clone() };
        }
        let two = self.splat(a, 2);
        Rep { chunks: vec![self.chunk(&two, 0)], bits: None, ..two }
    }

    /// Lanes `first ..`.
    pub fn slice(&mut self, a: &Rep, first: u32, lanes: u32) -> Rep {
        let ty = VType::vector(a.ty.dtype, lanes);
        if let Some(bits) = a.bits {
            return Rep::constant(ty, bits);
        }
        if lanes == 1 {
            return self.extract(a, first);
        }
        let start = first * a.width;
        let chunks = (0..super::rep::count(lanes, a.width))
            .map(|i| self.window(&a.chunks, start as usize + 16 * i))
            .collect();
        Rep::wide(ty, a.width, chunks)
    }

    /// 16 bytes from byte `at` of some chunks; past the end anything.
    fn window(&mut self, chunks: &[Value], at: usize) -> Value {
        let (q, r) = (at / 16, at % 16);
        let low = chunks[q.min(chunks.len() - 1)];
        let high = chunks[(q + 1).min(chunks.len() - 1)];
        if r == 0 {
            return low;
        }
        self.shuffle(low, high, std::array::from_fn(|i| (r + i) as u8))
    }

    /// The lanes of `a`, then those of `b`.
    pub fn concat(&mut self, a: &Rep, b: &Rep) -> Rep {
        let ty = VType::vector(a.ty.dtype, a.lanes() + b.lanes());
        if let (Some(x), true) = (a.bits, a.bits == b.bits) {
            return Rep::constant(ty, x);
        }
        let width = if a.is_scalar() { b.width } else { a.width };
        let first = (a.lanes() * width) as usize;
        let (a, b) = (self.chunks_of(a), self.chunks_of(b));
        let (a, b) = (self.mask_width(&a, width), self.mask_width(&b, width));
        self.join(ty, width, &a.chunks, &b.chunks, first)
    }

    fn join(&mut self, ty: VType, width: u32, a: &[Value], b: &[Value], first: usize) -> Rep {
        let n = super::rep::count(ty.lanes, width);
        let (q, r) = (first / 16, first % 16);
        let mut chunks: Vec<Value> = a[..q].to_vec();
        if r == 0 {
            chunks.extend(b);
        } else {
            let seam = std::array::from_fn(|i| if i < r { i as u8 } else { (16 + i - r) as u8 });
            chunks.push(self.shuffle(a[q], b[0], seam));
            let mut i = 0;
            while chunks.len() < n {
                chunks.push(self.window(b, 16 * i + 16 - r));
                i += 1;
            }
        }
        chunks.truncate(n);
        Rep::wide(ty, width, chunks)
    }

    /// Lanes `picks` of `a`, then `b`.
    pub fn permute(&mut self, a: &Rep, b: &Rep, picks: &[u32]) -> Rep {
        let ty = VType::vector(a.ty.dtype, picks.len() as u32);
        if let (Some(x), true) = (a.bits, a.bits == b.bits) {
            return Rep::constant(ty, x);
        }
        if let [pick] = *picks {
            return if pick < a.lanes() { self.extract(a, pick) } else { self.extract(b, pick - a.lanes()) };
        }
        let width = a.width.max(b.width);
        let (x, y) = (self.chunks_of(a), self.chunks_of(b));
        let (x, y) = (self.mask_width(&x, width), self.mask_width(&y, width));
        let per = 16 / width;
        // Where a lane lies: its chunk among those of both, and its place there.
        let at = |p: u32| {
            let (first, lane) = if p < a.lanes() { (0, p) } else { (x.chunks.len(), p - a.lanes()) };
            (first + (lane / per) as usize, lane % per)
        };
        let sources = [&x.chunks[..], &y.chunks[..]].concat();
        let chunks = picks
            .chunks(per as usize)
            .map(|part| {
                let places: Vec<(usize, u32)> = part.iter().map(|&p| at(p)).collect();
                self.collect_lanes(&sources, &places, width as usize)
            })
            .collect();
        Rep::wide(ty, width, chunks)
    }

    /// A chunk of the lanes, each `width` bytes, at these places: a source and a lane of it.
    fn collect_lanes(&mut self, sources: &[Value], places: &[(usize, u32)], width: usize) -> Value {
        let first = places[0].0;
        let mut others: Vec<usize> = places.iter().map(|p| p.0).filter(|&s| s != first).collect();
        others.sort_unstable();
        others.dedup();
        // Lanes of the first source fall in place together with those of the second; the rest follow one by one.
        let byte = |lane: u32, i: usize, shift: usize| (shift + lane as usize * width + i % width) as u8;
        let second = others.first().copied();
        let start: [u8; 16] = std::array::from_fn(|i| match places.get(i / width) {
            Some(&(s, lane)) if s == first => byte(lane, i, 0),
            Some(&(s, lane)) if Some(s) == second => byte(lane, i, 16),
            _ => i as u8,
        });
        let mut v = self.shuffle(sources[first], sources[second.unwrap_or(first)], start);
        for &source in others.iter().skip(1) {
            let more = std::array::from_fn(|i| match places.get(i / width) {
                Some(&(s, lane)) if s == source => byte(lane, i, 16),
                _ => i as u8,
            });
            v = self.shuffle(v, sources[source], more);
        }
        v
    }

    /// A bool value with masks of `width` bytes; anything else as it is.
    pub fn mask_width(&mut self, a: &Rep, width: u32) -> Rep {
        if a.ty.dtype != DType::Bool || a.is_scalar() {
            return a.clone();
        }
        let mut out = a.clone();
        if out.bits.is_some() {
            out.width = width;
            return out;
        }
        while out.width < width {
            out = self.widen_step(&out, true);
        }
        while out.width > width {
            out = self.narrow_masks(&out);
        }
        out
    }

    /// Lanes of twice the width, sign- or zero-extended; the element type is not changed.
    pub fn widen_step(&mut self, a: &Rep, signed: bool) -> Rep {
        let n = super::rep::count(a.lanes(), a.width * 2);
        let mut chunks = Vec::with_capacity(n);
        for i in 0..n {
            let c = a.chunks[i / 2];
            let high = i % 2 == 1;
            chunks.push(match (signed, high) {
                (true, false) => self.ins().swiden_low(c),
                (true, true) => self.ins().swiden_high(c),
                (false, false) => self.ins().uwiden_low(c),
                (false, true) => self.ins().uwiden_high(c),
            });
        }
        Rep { width: a.width * 2, chunks, ..a.clone() }
    }

    fn narrow_masks(&mut self, a: &Rep) -> Rep {
        self.narrow_pairs(a, |e, x, y, width| match width {
            8 => e.even_words(x, y),
            _ => e.ins().snarrow(x, y),
        })
    }

    /// Lanes of half the width, wrapped.
    pub fn narrow_step(&mut self, a: &Rep) -> Rep {
        self.narrow_pairs(a, |e, x, y, width| match width {
            8 => e.even_words(x, y),
            _ => {
                let ty = mask_type(width);
                let low = e.int_lanes(ty, if width == 4 { 0xffff } else { 0xff });
                let (x, y) = (e.ins().band(x, low), e.ins().band(y, low));
                e.ins().unarrow(x, y)
            }
        })
    }

    /// Pairs of chunks to one of half the width by `f`, which gets the old width.
    pub fn narrow_pairs(&mut self, a: &Rep, mut f: impl FnMut(&mut Self, Value, Value, u32) -> Value) -> Rep {
        let n = super::rep::count(a.lanes(), a.width / 2);
        let chunks = (0..n)
            .map(|i| {
                let x = a.chunks[2 * i];
                let y = a.chunks.get(2 * i + 1).copied().unwrap_or(x);
                f(self, x, y, a.width)
            })
            .collect();
        Rep { width: a.width / 2, chunks, ..a.clone() }
    }

    /// The low halves of the four 64-bit lanes of two chunks.
    fn even_words(&mut self, x: Value, y: Value) -> Value {
        let v = self.shuffle(x, y, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]);
        self.cast(types::I32X4, v)
    }

    /// The bits as another type of the same width.
    pub fn reinterpret(&mut self, a: &Rep, to: DType) -> Rep {
        let from = a.ty.dtype;
        if let Some(bits) = a.bits {
            return Rep::constant(a.ty.with(to), bits);
        }
        if from == to {
            return a.clone();
        }
        if from == DType::Bool || to == DType::Bool {
            // The bits of a bool are 0 or 1: the same as converting.
            return self.convert(a, to).expect("bools convert to every integer");
        }
        if scalar_type(from) == scalar_type(to) {
            return a.relabel(to);
        }
        let ty = a.ty.with(to);
        let clif = Rep::constant(ty, 0).clif();
        let chunks = self.chunks(a).into_iter().map(|c| self.cast(clif, c)).collect();
        Rep::new(ty, chunks)
    }

    /// A CLIF integer of another size.
    pub fn resize(&mut self, x: Value, bytes: u32, signed: bool) -> Value {
        let (from, to) = (self.b.func.dfg.value_type(x), int_type(bytes));
        match from.bits().cmp(&to.bits()) {
            std::cmp::Ordering::Equal => x,
            std::cmp::Ordering::Greater => self.ins().ireduce(to, x),
            std::cmp::Ordering::Less if signed => self.ins().sextend(to, x),
            std::cmp::Ordering::Less => self.ins().uextend(to, x),
        }
    }
}
