//! A kernel under construction together with the launch that will call it: symbolic dims become kernel arguments, buffers
//! become parameters.

use std::collections::HashMap;

use xlac_ir::dim::Dim;
use xlac_ir::kernel::build::OpenFor;
use xlac_ir::kernel::{Access, BinOp, Buf, Kernel, KernelBuilder, LoopHint, Pred, ScratchLen, Val};
use xlac_ir::DType;

use crate::plan::BufferId;
use crate::view::View;

/// Where a value is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The buffer.
    pub buffer: BufferId,
    /// Where each element lies in it.
    pub view: View,
    /// Element type in memory; narrow floats are kept as f32 between kernels.
    pub dtype: DType,
}

/// Scratch memory of a kernel.
struct ScratchUse {
    dtype: DType,
    len: Dim,
}

/// A kernel under construction.
pub struct Kb {
    /// The builder.
    pub k: KernelBuilder,
    dims: Vec<Dim>,
    dim_index: HashMap<Dim, u32>,
    args: Vec<(BufferId, Dim)>,
    bufs: HashMap<(BufferId, Dim, DType), Buf>,
    scratch: Vec<ScratchUse>,
}

/// A finished kernel and what its launch passes.
pub struct Finished {
    /// The kernel.
    pub kernel: Kernel,
    /// Dim arguments.
    pub dims: Vec<Dim>,
    /// Buffer arguments with byte offsets.
    pub buffers: Vec<(BufferId, Dim)>,
    /// Bytes of scratch memory.
    pub scratch: Dim,
}

impl Kb {
    /// Starts a kernel.
    pub fn new(name: &str) -> Kb {
        Kb {
            k: KernelBuilder::new(name),
            dims: Vec::new(),
            dim_index: HashMap::new(),
            args: Vec::new(),
            bufs: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    /// The value of a dim: a constant or an argument.
    pub fn dim(&mut self, d: &Dim) -> Val {
        if let Some(c) = d.as_const() {
            return self.k.int(c);
        }
        if let Some(&i) = self.dim_index.get(d) {
            return self.k.dim_value(i);
        }
        let v = self.k.dim(format!("d{}", self.dims.len()));
        self.dim_index.insert(d.clone(), self.dims.len() as u32);
        self.dims.push(d.clone());
        v
    }

    /// A parameter for the buffer of a place that is read. Its view's offset becomes the launch's byte offset.
    pub fn read(&mut self, place: &Place) -> Buf { self.param(place, Access::Read) }

    /// A parameter for the buffer of a place that is written; no other parameter overlaps what it writes.
    pub fn write(&mut self, place: &Place) -> Buf { self.param(place, Access::Write) }

    /// A parameter for the buffer of a place that is read and written.
    pub fn update(&mut self, place: &Place) -> Buf { self.param(place, Access::ReadWrite) }

    fn param(&mut self, place: &Place, access: Access) -> Buf {
        let key = (place.buffer, place.view.offset.clone(), place.dtype);
        if let Some(&buf) = self.bufs.get(&key) {
            return buf;
        }
        let prefix = if access == Access::Read { "in" } else { "out" };
        let buf = self.k.param(format!("{prefix}{}", self.args.len()), place.dtype, access);
        let bytes = &place.view.offset * &Dim::from(place.dtype.size());
        self.args.push((place.buffer, bytes));
        self.bufs.insert(key, buf);
        buf
    }

    /// Scratch memory of `len` elements.
    pub fn scratch(&mut self, name: &str, dtype: DType, len: &Dim) -> Buf {
        let length = match len.as_const() {
            Some(c) => ScratchLen::Const(c as u64),
            None => {
                self.dim(len);
                ScratchLen::Dim(self.dim_index[len])
            }
        };
        self.scratch.push(ScratchUse { dtype, len: len.clone() });
        self.k.scratch(name, dtype, length)
    }

    /// `sum of index[i] * strides[i]`.
    pub fn address(&mut self, index: &[Val], strides: &[Dim]) -> Val {
        let mut sum = self.k.int(0);
        for (&i, s) in index.iter().zip(strides) {
            if s.is(0) {
                continue;
            }
            let s = self.dim(s);
            let product = self.k.mul(i, s);
            sum = self.k.add(sum, product);
        }
        sum
    }

    /// Splits a flat number into an index over `dims`, last fastest.
    pub fn unflatten(&mut self, flat: Val, dims: &[Dim]) -> Vec<Val> {
        let mut rest = flat;
        let mut index = Vec::with_capacity(dims.len());
        for (i, d) in dims.iter().enumerate().rev() {
            if i == 0 {
                index.push(rest);
                break;
            }
            let d = self.dim(d);
            index.push(self.k.bin(BinOp::Rem, rest, d));
            rest = self.k.bin(BinOp::Div, rest, d);
        }
        index.reverse();
        index
    }

    /// Opens one loop from 0 for each dim, outermost first.
    pub fn begin_loops(&mut self, dims: &[Dim]) -> Vec<OpenFor> {
        let zero = self.k.int(0);
        dims.iter()
            .map(|d| {
                let hi = self.dim(d);
                self.k.begin_for((zero, hi, 1), &[], LoopHint::Plain)
            })
            .collect()
    }

    /// Closes loops opened by [`Kb::begin_loops`].
    pub fn end_loops(&mut self, loops: Vec<OpenFor>) {
        for open in loops.into_iter().rev() {
            self.k.end_for(open, &[]);
        }
    }

    /// `min(a, b)` of i64.
    pub fn min(&mut self, a: Val, b: Val) -> Val { self.k.bin(BinOp::Min, a, b) }

    /// `max(a, b)` of i64.
    pub fn max(&mut self, a: Val, b: Val) -> Val { self.k.bin(BinOp::Max, a, b) }

    /// All lanes of a vector combined in one, halves by halves.
    pub fn across(&mut self, op: BinOp, mut x: Val) -> Val {
        let mut lanes = self.k.ty(x).lanes;
        while lanes > 1 {
            lanes /= 2;
            let (low, high) = (self.k.slice(x, 0, lanes), self.k.slice(x, lanes, lanes));
            x = self.k.bin(op, low, high);
        }
        x
    }

    /// `lo <= x < hi` of i64.
    pub fn within(&mut self, x: Val, lo: Val, hi: Val) -> Val {
        let a = self.k.cmp(Pred::Ge, x, lo);
        let b = self.k.cmp(Pred::Lt, x, hi);
        self.k.bin(BinOp::And, a, b)
    }

    /// Stores lanes `stride` elements apart; contiguous ones at once.
    pub fn store(&mut self, buf: Buf, index: Val, stride: &Dim, value: Val, count: Option<Val>) {
        let lanes = self.k.ty(value).lanes;
        if stride.is(1) || lanes == 1 {
            self.k.store(buf, index, 0, value, count);
            return;
        }
        let stride = self.dim(stride);
        for lane in 0..lanes {
            let x = self.k.extract(value, lane);
            let step = self.k.mul_int(stride, i64::from(lane));
            let at = self.k.add(index, step);
            // A count of this many lanes or fewer leaves the lane alone.
            let one = count.map(|c| self.k.add_int(c, -i64::from(lane)));
            self.k.store(buf, at, 0, x, one);
        }
    }

    /// The kernel and its launch arguments.
    pub fn finish(self) -> Finished {
        let scratch = self.scratch.iter().fold(Dim::ZERO, |sum, s| {
            let bytes = &s.len * &Dim::from(s.dtype.size());
            let aligned = &bytes.ceil_div(&Dim::from(64i64)) * &Dim::from(64i64);
            &sum + &aligned
        });
        Finished { kernel: self.k.finish(), dims: self.dims, buffers: self.args, scratch }
    }
}

/// True if `d` is a multiple of `n` whatever its symbols are.
pub fn multiple(d: &Dim, n: i64) -> bool {
    let (constant, terms) = d.parts();
    constant % n == 0 && terms.iter().all(|t| t.0 % n == 0)
}
