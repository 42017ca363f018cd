//! Loads and stores: whole, partial, strided and gathered.
//!
//! Partial accesses never touch memory past their count. Where the target has fast masks they are one masked
//! instruction; elsewhere a branch takes the whole access when every lane is wanted, and only the rest pays: by a
//! masked instruction (AVX2, whose masked stores are slow on some machines) or by a small loop through the stack.

use std::fmt::Display;

use xlac_ir::DType;
use xlac_ir::kernel::*;

use super::arith::count_up;
use super::{Emitter, int, memory_elem, vector};

/// An index and its constant part.
type Place = (Val, i64);

/// How a partial access is done.
enum Partial {
    /// By one masked instruction.
    Masked,
    /// By a branch between a whole access and a masked one.
    WholeOrMasked,
    /// By a branch between a whole access and a loop over the lanes.
    WholeOrLoop,
}

impl Emitter<'_> {
    pub(super) fn load(&mut self, buf: Buf, place: Place, lanes: u32, count: Option<Val>) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let Some(count) = self.partial(count, lanes) else {
            let at = self.address(buf, place);
            let loaded = self.load_whole(buf, &at, lanes);
            return self.in_registers(loaded, dtype, lanes);
        };
        let at = self.address(buf, place);
        let loaded = match self.how(dtype, lanes) {
            Partial::Masked => self.load_masked(buf, &at, lanes, &count),
            Partial::WholeOrMasked => self.whole_or_rest(
                dtype,
                lanes,
                &count,
                |e| e.load_whole(buf, &at, lanes),
                |e| e.load_masked(buf, &at, lanes, &count),
            ),
            Partial::WholeOrLoop => self.whole_or_rest(
                dtype,
                lanes,
                &count,
                |e| e.load_whole(buf, &at, lanes),
                |e| e.load_loop(buf, lanes, &count, |e, i| e.step(dtype, &at, i)),
            ),
        };
        self.in_registers(loaded, dtype, lanes)
    }

    pub(super) fn load_strided(
        &mut self,
        buf: Buf,
        place: Place,
        stride: Val,
        lanes: u32,
        count: Option<Val>,
    ) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let at = self.address(buf, place);
        let known = self.known_int(stride);
        let stride = self.val(stride);
        let whole = |e: &mut Self| {
            let mut scalars = Vec::new();
            let mut ptr = at.clone();
            for i in 0..lanes {
                if i > 0 {
                    // Constant strides become displacements, unknown ones a running pointer.
                    ptr = match known {
                        Some(s) => e.step(dtype, &at, s * i64::from(i)),
                        None => e.step(dtype, &ptr, &stride),
                    };
                }
                scalars.push(e.load_whole(buf, &ptr, 1));
            }
            e.assemble(dtype, &scalars)
        };
        let loaded = match self.partial(count, lanes) {
            None => whole(self),
            Some(count) => self.whole_or_rest(dtype, lanes, &count, whole, |e| {
                e.load_loop(buf, lanes, &count, |e, i| {
                    let distance = e.op(format!("mul i64 {i}, {stride}"));
                    e.step(dtype, &at, &distance)
                })
            }),
        };
        self.in_registers(loaded, dtype, lanes)
    }

    pub(super) fn gather(&mut self, buf: Buf, (index, offset): Place, lanes: u32, count: Option<Val>) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let (ty, indices) = (self.ty(index), self.val(index));
        let base = self.base(buf);
        let base = if offset == 0 { base } else { self.step(dtype, &base, offset) };
        let whole = |e: &mut Self| {
            let mut scalars = Vec::new();
            for i in 0..lanes {
                let at = if lanes == 1 {
                    indices.clone()
                } else {
                    e.op(format!("extractelement {ty} {indices}, i64 {i}"))
                };
                let at = e.step(dtype, &base, &at);
                scalars.push(e.load_whole(buf, &at, 1));
            }
            e.assemble(dtype, &scalars)
        };
        let loaded = match self.partial(count, lanes) {
            None => whole(self),
            Some(count) => self.whole_or_rest(dtype, lanes, &count, whole, |e| {
                e.load_loop(buf, lanes, &count, |e, i| {
                    let at = e.op(format!("extractelement {ty} {indices}, i64 {i}"));
                    e.step(dtype, &base, &at)
                })
            }),
        };
        self.in_registers(loaded, dtype, lanes)
    }

    pub(super) fn store(&mut self, buf: Buf, place: Place, value: Val, count: Option<Val>) -> Result<(), String> {
        let (t, dtype) = (self.kernel.ty(value), self.kernel.buf_dtype(buf));
        if t.dtype != dtype {
            return Err(format!("stores {} into a buffer of {dtype}", t.dtype));
        }
        let lanes = t.lanes;
        let mut x = self.val(value);
        if dtype == DType::Bool {
            x = self.op(format!("zext {} {x} to {}", vector("i1", lanes), vector("i8", lanes)));
        }
        let at = self.address(buf, place);
        let Some(count) = self.partial(count, lanes) else {
            self.store_whole(buf, &at, &x, lanes);
            return Ok(());
        };
        match self.how(dtype, lanes) {
            Partial::Masked => self.store_masked(buf, &at, &x, lanes, &count),
            how => {
                let (whole, rest, join) = (self.label("whole"), self.label("rest"), self.label("join"));
                let all = self.op(format!("icmp sge i64 {count}, {lanes}"));
                self.line(format!("br i1 {all}, label %{whole}, label %{rest}"));
                self.start(&whole);
                self.store_whole(buf, &at, &x, lanes);
                self.line(format!("br label %{join}"));
                self.start(&rest);
                match how {
                    Partial::WholeOrMasked => self.store_masked(buf, &at, &x, lanes, &count),
                    _ => self.store_loop(buf, &at, &x, lanes, &count),
                }
                self.line(format!("br label %{join}"));
                self.start(&join);
            }
        }
        Ok(())
    }

    /// To the second-level cache: it is wanted soon, but not next.
    pub(super) fn prefetch(&mut self, buf: Buf, place: Place) {
        let at = self.address(buf, place);
        self.line(format!("call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 2, i32 1)"));
    }

    /// The count as operand text, or none if it is known to cover every lane.
    fn partial(&self, count: Option<Val>, lanes: u32) -> Option<String> {
        let count = count?;
        if self.known_int(count).is_some_and(|n| n >= i64::from(lanes)) {
            return None;
        }
        Some(self.val(count))
    }

    fn how(&self, dtype: DType, lanes: u32) -> Partial {
        let exists = if dtype.bits() >= 32 { self.isa.masked } else { self.isa.masked_bytes };
        match exists && (2..=64).contains(&lanes) {
            true if self.isa.mask_bits => Partial::Masked,
            true => Partial::WholeOrMasked,
            false => Partial::WholeOrLoop,
        }
    }

    /// The pointer a buffer starts at.
    fn base(&self, buf: Buf) -> String {
        match buf {
            Buf::Param(i) => format!("%p{i}"),
            Buf::Scratch(i) => format!("%s{i}"),
        }
    }

    /// Pointer to an element.
    pub(super) fn address(&mut self, buf: Buf, (index, offset): Place) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let base = self.base(buf);
        if let Some(i) = self.known_int(index) {
            return self.step(dtype, &base, i.wrapping_add(offset));
        }
        let index = self.val(index);
        let at = self.step(dtype, &base, &index);
        if offset == 0 { at } else { self.step(dtype, &at, offset) }
    }

    /// A pointer some elements further.
    fn step(&mut self, dtype: DType, from: &str, elements: impl Display) -> String {
        self.op(format!("getelementptr {}, ptr {from}, i64 {elements}", memory_elem(dtype)))
    }

    /// Text appended to an access to `buf`: which others cannot overlap it.
    pub(super) fn scopes(&self, buf: Buf) -> String { self.access[self.position(buf)].clone() }

    /// Text appended to a plain load from `buf`.
    fn load_marks(&self, buf: Buf) -> String {
        let i = self.position(buf);
        format!("{}{}", self.access[i], self.constant_data[i])
    }

    fn position(&self, buf: Buf) -> usize {
        match buf {
            Buf::Param(i) => i as usize,
            Buf::Scratch(i) => self.kernel.params.len() + i as usize,
        }
    }

    fn load_whole(&mut self, buf: Buf, at: &str, lanes: u32) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let (ty, align) = (vector(memory_elem(dtype), lanes), dtype.size());
        let marks = self.load_marks(buf);
        self.op(format!("load {ty}, ptr {at}, align {align}{marks}"))
    }

    fn store_whole(&mut self, buf: Buf, at: &str, x: &str, lanes: u32) {
        let dtype = self.kernel.buf_dtype(buf);
        let (ty, align) = (vector(memory_elem(dtype), lanes), dtype.size());
        let scopes = self.scopes(buf);
        self.line(format!("store {ty} {x}, ptr {at}, align {align}{scopes}"));
    }

    /// Memory to register form: a byte that is not 0 is true.
    fn in_registers(&mut self, x: String, dtype: DType, lanes: u32) -> String {
        if dtype != DType::Bool {
            return x;
        }
        self.op(format!("icmp ne {} {x}, {}", vector("i8", lanes), zero("i8", lanes)))
    }

    /// Scalars as one vector.
    fn assemble(&mut self, dtype: DType, scalars: &[String]) -> String {
        let (elem, lanes) = (memory_elem(dtype), scalars.len() as u32);
        if lanes == 1 {
            return scalars[0].clone();
        }
        let ty = vector(elem, lanes);
        scalars.iter().enumerate().fold("poison".to_string(), |all, (i, x)| {
            self.op(format!("insertelement {ty} {all}, {elem} {x}, i64 {i}"))
        })
    }

    /// `count` limited to `0..=lanes`.
    fn clamp(&mut self, count: &str, lanes: u32) -> String {
        let low = self.op(format!("call i64 @llvm.smax.i64(i64 {count}, i64 0)"));
        self.op(format!("call i64 @llvm.umin.i64(i64 {low}, i64 {lanes})"))
    }

    /// Mask of `wide` lanes that holds in the first `count`, which is at most `lanes`.
    fn mask(&mut self, count: &str, lanes: u32, wide: u32, dtype: DType) -> String {
        let count = self.clamp(count, lanes);
        if self.isa.mask_bits {
            return self.mask_from_bits(&count, lanes, wide);
        }
        let elem = int(dtype.bits());
        let narrow =
            if elem == "i64" { count } else { self.op(format!("trunc i64 {count} to {elem}")) };
        let limit = self.splat(&narrow, elem, wide);
        self.op(format!("icmp ult {} {}, {limit}", vector(elem, wide), count_up(elem, wide)))
    }

    /// The mask made in an integer, one bit per lane.
    fn mask_from_bits(&mut self, count: &str, lanes: u32, wide: u32) -> String {
        let bits = if lanes < 64 {
            let above = self.op(format!("shl nsw i64 -1, {count}"));
            self.op(format!("xor i64 {above}, -1"))
        } else {
            // Shifting by 64 is not defined: two shifts of at most 32.
            let half = self.op(format!("lshr i64 {count}, 1"));
            let rest = self.op(format!("sub i64 {count}, {half}"));
            let above = self.op(format!("shl i64 -1, {half}"));
            let above = self.op(format!("shl i64 {above}, {rest}"));
            self.op(format!("xor i64 {above}, -1"))
        };
        let width = wide.max(8);
        let bits = if width == 64 { bits } else { self.op(format!("trunc i64 {bits} to i{width}")) };
        let mask = self.op(format!("bitcast i{width} {bits} to <{width} x i1>"));
        self.resize(&mask, "i1", width, wide)
    }

    fn load_masked(&mut self, buf: Buf, at: &str, lanes: u32, count: &str) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let (elem, wide) = (memory_elem(dtype), lanes.next_power_of_two());
        let (ty, bools) = (vector(elem, wide), vector("i1", wide));
        let mask = self.mask(count, lanes, wide, dtype);
        let (align, scopes) = (dtype.size(), self.scopes(buf));
        let name = super::suffix(if dtype == DType::Bool { DType::U8 } else { dtype }, wide);
        let loaded = self.op(format!(
            "call {ty} @llvm.masked.load.{name}.p0(ptr align {align} {at}, {bools} {mask}, \
             {ty} zeroinitializer){scopes}"
        ));
        self.resize(&loaded, elem, wide, lanes)
    }

    fn store_masked(&mut self, buf: Buf, at: &str, x: &str, lanes: u32, count: &str) {
        let dtype = self.kernel.buf_dtype(buf);
        let (elem, wide) = (memory_elem(dtype), lanes.next_power_of_two());
        let (ty, bools) = (vector(elem, wide), vector("i1", wide));
        let mask = self.mask(count, lanes, wide, dtype);
        let x = self.resize(x, elem, lanes, wide);
        let (align, scopes) = (dtype.size(), self.scopes(buf));
        let name = super::suffix(if dtype == DType::Bool { DType::U8 } else { dtype }, wide);
        self.line(format!(
            "call void @llvm.masked.store.{name}.p0({ty} {x}, ptr align {align} {at}, {bools} {mask}){scopes}"
        ));
    }

    /// A branch on whether all lanes are wanted, with the value of the side taken.
    fn whole_or_rest(
        &mut self,
        dtype: DType,
        lanes: u32,
        count: &str,
        whole: impl FnOnce(&mut Self) -> String,
        rest: impl FnOnce(&mut Self) -> String,
    ) -> String {
        let (yes, no, join) = (self.label("whole"), self.label("rest"), self.label("join"));
        let all = self.op(format!("icmp sge i64 {count}, {lanes}"));
        self.line(format!("br i1 {all}, label %{yes}, label %{no}"));
        self.start(&yes);
        let a = whole(self);
        let a_end = self.block.clone();
        self.line(format!("br label %{join}"));
        self.start(&no);
        let b = rest(self);
        let b_end = self.block.clone();
        self.line(format!("br label %{join}"));
        self.start(&join);
        let ty = vector(memory_elem(dtype), lanes);
        self.op(format!("phi {ty} [ {a}, %{a_end} ], [ {b}, %{b_end} ]"))
    }

    /// Collects the first `count` lanes, fewer than all, on the stack.
    fn load_loop(
        &mut self,
        buf: Buf,
        lanes: u32,
        count: &str,
        address: impl FnOnce(&mut Self, &str) -> String,
    ) -> String {
        let dtype = self.kernel.buf_dtype(buf);
        let elem = memory_elem(dtype);
        let ty = vector(elem, lanes);
        if lanes == 1 {
            return zero(elem, 1);
        }
        self.reserve(dtype, lanes);
        self.line(format!("store {ty} zeroinitializer, ptr %bounce, align 16"));
        self.each_lane(count, |e, i| {
            let at = address(e, i);
            let x = e.load_whole(buf, &at, 1);
            let to = e.step(dtype, "%bounce", i);
            e.line(format!("store {elem} {x}, ptr {to}, align {}", dtype.size()));
        });
        self.op(format!("load {ty}, ptr %bounce, align 16"))
    }

    fn store_loop(&mut self, buf: Buf, at: &str, x: &str, lanes: u32, count: &str) {
        let dtype = self.kernel.buf_dtype(buf);
        let elem = memory_elem(dtype);
        if lanes == 1 {
            return;
        }
        self.reserve(dtype, lanes);
        self.line(format!("store {} {x}, ptr %bounce, align 16", vector(elem, lanes)));
        self.each_lane(count, |e, i| {
            let from = e.step(dtype, "%bounce", i);
            let x = e.op(format!("load {elem}, ptr {from}, align {}", dtype.size()));
            let to = e.step(dtype, at, i);
            e.store_whole(buf, &to, &x, 1);
        });
    }

    fn each_lane(&mut self, count: &str, body: impl FnOnce(&mut Self, &str)) {
        let var = format!("%{}", self.label("lane"));
        let done = self.counted_loop((&var, "0", count, 1), &[], "unroll.disable", |e| {
            body(e, &var);
            Ok(())
        });
        debug_assert!(done.is_ok());
    }

    fn reserve(&mut self, dtype: DType, lanes: u32) { self.bounce = self.bounce.max(dtype.size() * lanes as usize); }
}

/// Zero in every lane of a type in memory.
fn zero(elem: &str, lanes: u32) -> String {
    match (elem, lanes) {
        (_, 2..) => "zeroinitializer".into(),
        ("float" | "double", _) => "0.0".into(),
        _ => "0".into(),
    }
}
