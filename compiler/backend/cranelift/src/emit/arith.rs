//! Arithmetic, comparison and selection; and strips, which do a chain of them one chunk at a time.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use xlac_ir::dtype::DType;
use xlac_ir::kernel::{BinOp, Instr, Pred, Stmt, UnOp, VType, Val};

use super::rep::{Rep, count, int_type};
use super::{Emitter, Key, Result};

impl Emitter<'_> {
    /// `f` on every chunk of values of one layout.
    fn each_chunk(&mut self, args: &[&Rep], mut f: impl FnMut(&mut Self, &[Value]) -> Value) -> Vec<Value> {
        (0..args[0].count())
            .map(|i| {
                let args: Vec<Value> = args.iter().map(|a| self.chunk(a, i)).collect();
                f(self, &args)
            })
            .collect()
    }

    /// `op a`.
    pub fn un(&mut self, op: UnOp, a: &Rep) -> Result<Rep> {
        let t = a.ty.dtype;
        let rounds = matches!(op, UnOp::Floor | UnOp::Ceil | UnOp::Trunc | UnOp::Round);
        if rounds && !self.caps.round {
            return Err(format!("`{}` needs SSE4.1", op.name()));
        }
        let fits = match op {
            UnOp::Neg | UnOp::Abs => t != DType::Bool,
            UnOp::Not => !t.is_float(),
            _ => matches!(t, DType::F32 | DType::F64),
        };
        if !fits {
            return Err(format!("`{}` does not apply to {t}", op.name()));
        }
        let chunks = self.each_chunk(&[a], |e, x| e.un_chunk(op, a, x[0]));
        Ok(Rep::wide(a.ty, a.width, chunks))
    }

    fn un_chunk(&mut self, op: UnOp, a: &Rep, x: Value) -> Value {
        let t = a.ty.dtype;
        let half = matches!(t, DType::F16 | DType::BF16);
        match op {
            UnOp::Neg if half => {
                let sign = self.int_like(x, 0x8000);
                self.ins().bxor(x, sign)
            }
            UnOp::Abs if half => {
                let rest = self.int_like(x, 0x7fff);
                self.ins().band(x, rest)
            }
            UnOp::Neg if t.is_float() => self.ins().fneg(x),
            UnOp::Neg => self.ins().ineg(x),
            UnOp::Abs if t.is_float() => self.ins().fabs(x),
            UnOp::Abs if t.is_signed() => self.ins().iabs(x),
            UnOp::Abs => x,
            UnOp::Sqrt => self.ins().sqrt(x),
            UnOp::Floor => self.ins().floor(x),
            UnOp::Ceil => self.ins().ceil(x),
            UnOp::Trunc => self.ins().trunc(x),
            UnOp::Round => self.ins().nearest(x),
            UnOp::Not if t == DType::Bool && a.is_scalar() => {
                let one = self.int_like(x, 1);
                self.ins().bxor(x, one)
            }
            UnOp::Not => self.ins().bnot(x),
        }
    }

    /// The integer `bits` in the type of `x`, in every lane.
    pub fn int_like(&mut self, x: Value, bits: u64) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        if ty.is_vector() { self.int_lanes(ty, bits) } else { self.ins().iconst(ty, bits as i64) }
    }

    /// `op a, b`.
    pub fn bin(&mut self, op: BinOp, a: &Rep, b: &Rep) -> Result<Rep> {
        let t = a.ty.dtype;
        if t == DType::Bool {
            return self.bin_bool(op, a, b);
        }
        if t.is_float() {
            return self.bin_float(op, a, b);
        }
        let index = if t == DType::I64 && a.is_scalar() { self.index_math(op, a, b) } else { None };
        Ok(index.unwrap_or_else(|| self.bin_int(op, a, b)))
    }

    fn bin_bool(&mut self, op: BinOp, a: &Rep, b: &Rep) -> Result<Rep> {
        let width = if a.bits.is_some() { b.width } else { a.width };
        let (a, b) = (self.mask_width(a, width), self.mask_width(b, width));
        let chunks = match op {
            BinOp::And | BinOp::Min | BinOp::Mul => self.each_chunk(&[&a, &b], |e, x| e.ins().band(x[0], x[1])),
            BinOp::Or | BinOp::Max => self.each_chunk(&[&a, &b], |e, x| e.ins().bor(x[0], x[1])),
            BinOp::Xor => self.each_chunk(&[&a, &b], |e, x| e.ins().bxor(x[0], x[1])),
            _ => return Err(format!("`{}` does not apply to bool", op.name())),
        };
        Ok(Rep::wide(a.ty, width, chunks))
    }

    fn bin_float(&mut self, op: BinOp, a: &Rep, b: &Rep) -> Result<Rep> {
        let t = a.ty.dtype;
        if !matches!(t, DType::F32 | DType::F64) {
            return Err(format!("`{}` does not apply to {t}", op.name()));
        }
        let chunks = match op {
            BinOp::Add => self.each_chunk(&[a, b], |e, x| e.ins().fadd(x[0], x[1])),
            BinOp::Sub => self.each_chunk(&[a, b], |e, x| e.ins().fsub(x[0], x[1])),
            BinOp::Mul => self.each_chunk(&[a, b], |e, x| e.ins().fmul(x[0], x[1])),
            BinOp::Div => self.each_chunk(&[a, b], |e, x| e.ins().fdiv(x[0], x[1])),
            BinOp::Min | BinOp::Max => {
                let number = b.bits.is_some_and(|bits| !is_nan(t, bits));
                self.each_chunk(&[a, b], |e, x| e.min_max(op, x[0], x[1], number))
            }
            _ => return Err(format!("`{}` does not apply to {t}", op.name())),
        };
        Ok(Rep::new(a.ty, chunks))
    }

    /// `b` if it is the smaller (larger) or NaN, else `a`; `number` says that `b` is known not to be NaN.
    fn min_max(&mut self, op: BinOp, a: Value, b: Value, number: bool) -> Value {
        // Exactly the shapes that `minps` and `maxps` are chosen for: x < y ? x : y and y < x ? x : y.
        let (x, y) = if op == BinOp::Min { (b, a) } else { (a, b) };
        let less = self.ins().fcmp(FloatCC::LessThan, x, y);
        let best = self.choose(less, b, a);
        if number {
            return best;
        }
        let nan = self.ins().fcmp(FloatCC::Unordered, b, b);
        self.choose(nan, b, best)
    }

    /// `c ? a : b` where `c` was made by comparing values of their type.
    fn choose(&mut self, c: Value, a: Value, b: Value) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        if !ty.is_vector() {
            return self.ins().select(c, a, b);
        }
        let c = self.cast(ty, c);
        self.ins().bitselect(c, a, b)
    }

    /// Sums and constant products of i64 scalars, with the constant part kept apart.
    fn index_math(&mut self, op: BinOp, a: &Rep, b: &Rep) -> Option<Rep> {
        let with = |v: Value, off: i64| Rep { off, ..Rep::scalar(DType::I64, v) };
        let (x, y) = (a.bits.map(|x| x as i64), b.bits.map(|x| x as i64));
        Some(match (op, x, y) {
            (BinOp::Add, None, Some(c)) => with(a.chunks[0], a.off.wrapping_add(c)),
            (BinOp::Add, Some(c), None) => with(b.chunks[0], b.off.wrapping_add(c)),
            (BinOp::Sub, None, Some(c)) => with(a.chunks[0], a.off.wrapping_sub(c)),
            (BinOp::Add, None, None) => {
                let (p, q) = (a.chunks[0], b.chunks[0]);
                let v = self.memoize(Key::Add(p, q), |e| e.ins().iadd(p, q));
                with(v, a.off.wrapping_add(b.off))
            }
            (BinOp::Sub, None, None) => {
                let (p, q) = (a.chunks[0], b.chunks[0]);
                let v = self.memoize(Key::Sub(p, q), |e| e.ins().isub(p, q));
                with(v, a.off.wrapping_sub(b.off))
            }
            (BinOp::Mul, None, Some(c)) => with(self.times(a.chunks[0], c), a.off.wrapping_mul(c)),
            (BinOp::Mul, Some(c), None) => with(self.times(b.chunks[0], c), b.off.wrapping_mul(c)),
            (BinOp::Shl, None, Some(c)) if (0..64).contains(&c) => {
                with(self.times(a.chunks[0], 1 << c), a.off.wrapping_shl(c as u32))
            }
            _ => return None,
        })
    }

    /// `v * c`, once per scope.
    pub fn times(&mut self, v: Value, c: i64) -> Value {
        if c == 1 {
            return v;
        }
        self.memoize(Key::Mul(v, c), |e| {
            if c > 0 && c.count_ones() == 1 {
                let n = e.int(i64::from(c.trailing_zeros()));
                return e.ins().ishl(v, n);
            }
            let c = e.int(c);
            e.ins().imul(v, c)
        })
    }

    fn bin_int(&mut self, op: BinOp, a: &Rep, b: &Rep) -> Rep {
        let (t, scalar) = (a.ty.dtype, a.is_scalar());
        let wide = t.size() == 8 && !scalar;
        let chunks = match op {
            BinOp::Add => self.each_chunk(&[a, b], |e, x| e.ins().iadd(x[0], x[1])),
            BinOp::Sub => self.each_chunk(&[a, b], |e, x| e.ins().isub(x[0], x[1])),
            BinOp::And => self.each_chunk(&[a, b], |e, x| e.ins().band(x[0], x[1])),
            BinOp::Or => self.each_chunk(&[a, b], |e, x| e.ins().bor(x[0], x[1])),
            BinOp::Xor => self.each_chunk(&[a, b], |e, x| e.ins().bxor(x[0], x[1])),
            BinOp::Mul if t.size() == 1 && !scalar => self.each_chunk(&[a, b], |e, x| e.mul_bytes(x[0], x[1])),
            BinOp::Mul => self.each_chunk(&[a, b], |e, x| e.ins().imul(x[0], x[1])),
            BinOp::Min | BinOp::Max if wide => self.each_chunk(&[a, b], |e, x| {
                let (p, q) = if op == BinOp::Min { (x[0], x[1]) } else { (x[1], x[0]) };
                let less = e.ins().icmp(int_cc(Pred::Lt, t), p, q);
                e.ins().bitselect(less, x[0], x[1])
            }),
            BinOp::Min if t.is_signed() => self.each_chunk(&[a, b], |e, x| e.ins().smin(x[0], x[1])),
            BinOp::Min => self.each_chunk(&[a, b], |e, x| e.ins().umin(x[0], x[1])),
            BinOp::Max if t.is_signed() => self.each_chunk(&[a, b], |e, x| e.ins().smax(x[0], x[1])),
            BinOp::Max => self.each_chunk(&[a, b], |e, x| e.ins().umax(x[0], x[1])),
            BinOp::Shl | BinOp::Shr if b.bits.is_some() => {
                let n = b.bits.unwrap_or(0);
                self.each_chunk(&[a], |e, x| e.shift_const(op, t, x[0], n))
            }
            BinOp::Shl | BinOp::Shr => return self.each_lane(t, &[a, b], |e, x| e.shift(op, t, x[0], x[1])),
            BinOp::Div | BinOp::Rem => {
                let divisor = b.bits;
                return self.each_lane(t, &[a, b], |e, x| e.divide(op, t, x[0], x[1], divisor));
            }
        };
        Rep::new(a.ty, chunks)
    }

    /// Products of bytes, through 16-bit lanes.
    fn mul_bytes(&mut self, x: Value, y: Value) -> Value {
        let (xl, xh) = (self.ins().uwiden_low(x), self.ins().uwiden_high(x));
        let (yl, yh) = (self.ins().uwiden_low(y), self.ins().uwiden_high(y));
        let (low, high) = (self.ins().imul(xl, yl), self.ins().imul(xh, yh));
        let mask = self.int_lanes(types::I16X8, 0xff);
        let (low, high) = (self.ins().band(low, mask), self.ins().band(high, mask));
        self.ins().unarrow(low, high)
    }

    /// A shift of every lane by `n`, the bits of a constant of type `t`.
    fn shift_const(&mut self, op: BinOp, t: DType, x: Value, n: u64) -> Value {
        let bits = t.bits() as u64;
        let arithmetic = op == BinOp::Shr && t.is_signed();
        if n >= bits && !arithmetic {
            return self.int_like(x, 0);
        }
        let n = self.ins().iconst(types::I32, n.min(bits - 1) as i64);
        match op {
            BinOp::Shl => self.ins().ishl(x, n),
            _ if arithmetic => self.ins().sshr(x, n),
            _ => self.ins().ushr(x, n),
        }
    }

    /// A shift of scalars by any amount.
    fn shift(&mut self, op: BinOp, t: DType, x: Value, n: Value) -> Value {
        let last = self.int_like(n, t.bits() as u64 - 1);
        let inside = self.ins().icmp(IntCC::UnsignedLessThanOrEqual, n, last);
        if op == BinOp::Shr && t.is_signed() {
            let n = self.ins().select(inside, n, last);
            return self.ins().sshr(x, n);
        }
        let shifted = if op == BinOp::Shl { self.ins().ishl(x, n) } else { self.ins().ushr(x, n) };
        let zero = self.int_like(x, 0);
        self.ins().select(inside, shifted, zero)
    }

    /// A quotient or remainder of scalars; `known` are the divisor's bits.
    fn divide(&mut self, op: BinOp, t: DType, x: Value, y: Value, known: Option<u64>) -> Value {
        let minus_one = u64::MAX >> (64 - t.bits());
        match known {
            Some(0) => return self.int_like(x, 0),
            Some(c) if !t.is_signed() && c.is_power_of_two() => return self.divide_unsigned_shift(op, x, c),
            Some(c) if t == DType::I64 && (c as i64) > 0 && c.is_power_of_two() => return self.divide_shift(op, x, c),
            Some(c) if !t.is_signed() || c != minus_one => return self.divide_raw(op, t, x, y),
            _ => {}
        }
        let (zero, one) = (self.int_like(y, 0), self.int_like(y, 1));
        let is_zero = self.ins().icmp(IntCC::Equal, y, zero);
        if !t.is_signed() {
            let safe = self.ins().select(is_zero, one, y);
            let out = self.divide_raw(op, t, x, safe);
            return self.ins().select(is_zero, zero, out);
        }
        let negative = self.ins().iconst(int_type(t.size() as u32), minus_one as i64);
        let is_negative = self.ins().icmp(IntCC::Equal, y, negative);
        let odd = self.ins().bor(is_zero, is_negative);
        let safe = self.ins().select(odd, one, y);
        let out = self.divide_raw(op, t, x, safe);
        if op == BinOp::Rem {
            return self.ins().select(odd, zero, out);
        }
        let flipped = self.ins().ineg(x);
        let out = self.ins().select(is_negative, flipped, out);
        self.ins().select(is_zero, zero, out)
    }

    fn divide_raw(&mut self, op: BinOp, t: DType, x: Value, y: Value) -> Value {
        match (op, t.is_signed()) {
            (BinOp::Div, true) => self.ins().sdiv(x, y),
            (BinOp::Div, false) => self.ins().udiv(x, y),
            (_, true) => self.ins().srem(x, y),
            (_, false) => self.ins().urem(x, y),
        }
    }

    fn divide_unsigned_shift(&mut self, op: BinOp, x: Value, c: u64) -> Value {
        if op == BinOp::Rem {
            let mask = self.int_like(x, c - 1);
            return self.ins().band(x, mask);
        }
        let n = self.ins().iconst(types::I32, i64::from(c.trailing_zeros()));
        self.ins().ushr(x, n)
    }

    /// An i64 by a positive power of two, towards zero.
    fn divide_shift(&mut self, op: BinOp, x: Value, c: u64) -> Value {
        let (sign, mask) = (self.int(63), self.int(c as i64 - 1));
        let spread = self.ins().sshr(x, sign);
        let bias = self.ins().band(spread, mask);
        let biased = self.ins().iadd(x, bias);
        if op == BinOp::Div {
            let n = self.int(i64::from(c.trailing_zeros()));
            return self.ins().sshr(biased, n);
        }
        let whole = self.ins().band_not(biased, mask);
        self.ins().isub(x, whole)
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: &Rep, b: &Rep, c: &Rep) -> Result<Rep> {
        if !self.caps.fma {
            return Err("`fma` needs the features `avx` and `fma`".to_string());
        }
        if !matches!(a.ty.dtype, DType::F32 | DType::F64) {
            return Err(format!("`fma` does not apply to {}", a.ty.dtype));
        }
        // The first factor is the one x86 overwrites: best one that is loaded for this use.
        let (a, b) = if b.element.is_some() { (b, a) } else { (a, b) };
        let chunks = (0..c.count())
            .map(|i| {
                let (y, z) = (self.chunk(b, i), self.chunk(c, i));
                let x = self.chunk(a, i);
                self.ins().fma(x, y, z)
            })
            .collect();
        Ok(Rep::new(a.ty, chunks))
    }

    /// Compares; the masks are as wide as the operands.
    pub fn cmp(&mut self, pred: Pred, a: &Rep, b: &Rep) -> Result<Rep> {
        let t = a.ty.dtype;
        if matches!(t, DType::F16 | DType::BF16) {
            let (a, b) = (self.convert(a, DType::F32)?, self.convert(b, DType::F32)?);
            return self.cmp(pred, &a, &b);
        }
        let width = if a.bits.is_some() { b.width } else { a.width };
        let (a, b) = (self.mask_width(a, width), self.mask_width(b, width));
        let chunks = if t.is_float() {
            self.each_chunk(&[&a, &b], |e, x| e.ins().fcmp(float_cc(pred), x[0], x[1]))
        } else {
            self.each_chunk(&[&a, &b], |e, x| e.ins().icmp(int_cc(pred, t), x[0], x[1]))
        };
        Ok(Rep::wide(a.ty.with(DType::Bool), if a.is_scalar() { 1 } else { width }, chunks))
    }

    /// `c ? a : b`, lane by lane or as a whole.
    pub fn select(&mut self, c: &Rep, a: &Rep, b: &Rep) -> Result<Rep> {
        if let Some(bits) = c.bits {
            return Ok(if bits != 0 { a.clone() } else { b.clone() });
        }
        let width = if a.bits.is_some() { b.width } else { a.width };
        let (a, b) = (self.mask_width(a, width), self.mask_width(b, width));
        if c.is_scalar() {
            let cond = self.chunk(c, 0);
            let chunks = self.each_chunk(&[&a, &b], |e, x| e.ins().select(cond, x[0], x[1]));
            return Ok(Rep::wide(a.ty, width, chunks));
        }
        let c = self.mask_width(c, width);
        let chunks = self.each_chunk(&[&c, &a, &b], |e, x| e.blend(x[0], x[1], x[2]));
        Ok(Rep::wide(a.ty, width, chunks))
    }

    /// `c ? a : b` where the lanes of `c` are all ones or all zeros.
    pub fn blend(&mut self, c: Value, a: Value, b: Value) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        if !self.caps.blendv {
            let c = self.cast(ty, c);
            return self.ins().bitselect(c, a, b);
        }
        // There is no blend of 16-bit lanes; bytes do as well, the masks being whole.
        let by = match ty.lane_bits() {
            64 => types::I64X2,
            32 => types::I32X4,
            _ => types::I8X16,
        };
        let (c, a, b) = (self.cast(by, c), self.cast(by, a), self.cast(by, b));
        let out = self.ins().blendv(c, a, b);
        self.cast(ty, out)
    }

    /// Length of the run of statements at the start of `stmts` to be done chunk by chunk; at most 1 if it does not pay.
    ///
    /// Chains of lane-wise work on several chunks need fewer registers that way. Accumulators (no value of the run is
    /// used in it) are better off in the order in which they were written.
    pub(super) fn strip(&self, stmts: &[Stmt]) -> usize {
        let mut shape = None;
        let mut inside: Vec<Val> = Vec::new();
        let (mut chained, mut len) = (0, 0);
        for (at, stmt) in stmts.iter().enumerate() {
            let Stmt::Let(v, instr) = stmt else { break };
            if matches!(instr, Instr::Const(_) | Instr::Splat(_)) || matches!(instr, Instr::Load { count: None, .. }) {
                continue;
            }
            let Some(found) = self.strip_shape(*v, instr) else { break };
            if *shape.get_or_insert(found) != found {
                break;
            }
            chained += usize::from(instr.operands().iter().any(|o| inside.contains(o)));
            inside.push(*v);
            len = at + 1;
        }
        if 2 * chained >= inside.len() && inside.len() > 1 { len } else { 1 }
    }

    /// Lanes and lane width of an instruction that works chunk by chunk.
    fn strip_shape(&self, v: Val, instr: &Instr) -> Option<(u32, u32)> {
        let of = match instr {
            Instr::Un(_, a) | Instr::Cmp(_, a, _) | Instr::Fma(a, ..) => *a,
            Instr::Select(..) => v,
            Instr::Bin(op, a, _) => {
                let lanewise = matches!(op, BinOp::Div | BinOp::Rem | BinOp::Shl | BinOp::Shr);
                let float = self.kernel.ty(*a).dtype.is_float();
                if lanewise && !float {
                    return None;
                }
                *a
            }
            _ => return None,
        };
        let ty = self.kernel.ty(of);
        let plain = !matches!(ty.dtype, DType::Bool | DType::F16 | DType::BF16);
        let width = ty.dtype.size() as u32;
        (plain && ty.lanes > 1 && count(ty.lanes, width) > 1).then_some((ty.lanes, width))
    }

    /// Emits a strip found by [`Emitter::strip`].
    pub(super) fn emit_strip(&mut self, stmts: &[Stmt]) -> Result<()> {
        let mut work: Vec<(Val, &Instr)> = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, instr) if self.strip_shape(*v, instr).is_some() => work.push((*v, instr)),
                _ => self.statement(stmt)?,
            }
        }
        let (lanes, width) = self.strip_shape(work[0].0, work[0].1).expect("a strip has a shape");
        let mut whole: Vec<(Val, Rep)> = Vec::new();
        for (v, instr) in &work {
            for o in instr.operands() {
                if whole.iter().any(|(w, _)| *w == o) || work.iter().any(|(w, _)| *w == o) {
                    continue;
                }
                let rep = self.get(o)?;
                let rep = self.mask_width(&rep, width);
                whole.push((o, rep));
            }
            debug_assert_eq!(self.kernel.ty(*v).lanes, lanes);
        }
        let mut parts: Vec<Vec<Value>> = vec![Vec::new(); work.len()];
        for i in 0..count(lanes, width) {
            for (o, rep) in &whole {
                self.env[o.0 as usize] = Some(part(rep, i));
            }
            for ((v, instr), made) in work.iter().zip(&mut parts) {
                let rep = self.instr(*v, instr)?;
                made.push(self.chunk(&rep, 0));
                self.env[v.0 as usize] = Some(rep);
            }
        }
        for (o, rep) in whole {
            self.env[o.0 as usize] = Some(rep);
        }
        for ((v, _), chunks) in work.iter().zip(parts) {
            self.env[v.0 as usize] = Some(Rep::wide(self.kernel.ty(*v), width, chunks));
        }
        Ok(())
    }
}

/// Chunk `i` of a vector as a value of its own; scalars as they are.
fn part(rep: &Rep, i: usize) -> Rep {
    if rep.is_scalar() {
        return rep.clone();
    }
    let ty = VType::vector(rep.ty.dtype, 16 / rep.width);
    let chunks = if rep.bits.is_some() { Vec::new() } else { vec![rep.chunks[i]] };
    Rep { ty, chunks, ..rep.clone() }
}

fn is_nan(t: DType, bits: u64) -> bool {
    if t == DType::F32 { f32::from_bits(bits as u32).is_nan() } else { f64::from_bits(bits).is_nan() }
}

fn float_cc(pred: Pred) -> FloatCC {
    match pred {
        Pred::Eq => FloatCC::Equal,
        Pred::Ne => FloatCC::NotEqual,
        Pred::Lt => FloatCC::LessThan,
        Pred::Le => FloatCC::LessThanOrEqual,
        Pred::Gt => FloatCC::GreaterThan,
        Pred::Ge => FloatCC::GreaterThanOrEqual,
    }
}

/// The condition for integers of type `t`; bools are unsigned.
fn int_cc(pred: Pred, t: DType) -> IntCC {
    match (pred, t.is_signed()) {
        (Pred::Eq, _) => IntCC::Equal,
        (Pred::Ne, _) => IntCC::NotEqual,
        (Pred::Lt, true) => IntCC::SignedLessThan,
        (Pred::Le, true) => IntCC::SignedLessThanOrEqual,
        (Pred::Gt, true) => IntCC::SignedGreaterThan,
        (Pred::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (Pred::Lt, false) => IntCC::UnsignedLessThan,
        (Pred::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (Pred::Gt, false) => IntCC::UnsignedGreaterThan,
        (Pred::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}
