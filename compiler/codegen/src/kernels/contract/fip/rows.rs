//! The rows of a tile task: copied, scaled, and what is to be taken off of their sums.

use super::*;

/// Sums of squares between these tell the size of a row.
const SQUARES: [f32; 2] = [1e-30, 1e30];
/// Vectors taken in turns, whose sums do not wait for each other.
const PARTS: usize = 2;
/// Bits of an f32 before its exponent, and what is added to that.
const MANTISSA: i64 = 23;
const BIAS: i64 = 127;

/// Where the rows come from and go to.
pub(in crate::kernels::contract) struct Rows {
    /// Sizes of the row axes.
    pub rows: Vec<Dim>,
    pub from: Buf,
    /// Strides of the operand along the row axes.
    pub strides: Vec<Dim>,
    /// Nested axes of the sum: size and stride in the operand; the innermost is contiguous.
    pub k: Vec<(i64, Dim)>,
    pub terms: i64,
    pub lanes: u32,
    /// What the operand's elements are multiplied by, term by term.
    pub scales: Option<Buf>,
    /// [`signs`].
    pub signs: Buf,
    /// Terms do not lie side by side as f32: they are copied before they are scaled.
    pub gathered: bool,
    /// Scaled rows: `[row][term]`, with zeros after the last term of a vector.
    pub x: Buf,
    /// Elements from row to row.
    pub x_row: i64,
    /// What the pairs of a row add to its sums; NaN if it is to be summed directly.
    pub own: Buf,
    /// What its sums are multiplied by.
    pub inverses: Buf,
}

/// Elements from row to row: an odd number of vectors, as powers of two would meet in few sets of the cache.
pub(in crate::kernels::contract) fn pitch(terms: i64, lanes: i64) -> i64 { ((terms + lanes - 1) / lanes / 2 * 2 + 1) * lanes }

/// The sign with which a term's product with the term two after it is added up; zero for terms that begin no pair.
pub(in crate::kernels::contract) fn signs(terms: i64) -> impl Iterator<Item = f32> {
    (0..terms).map(move |term| {
        let six = term / SIX;
        let pair = PAIRS.iter().position(|pair| pair.0 == term % SIX).filter(|_| (six + 1) * SIX <= terms);
        pair.map_or(0.0, |pair| if is_opposite(pair, six) { -1.0 } else { 1.0 })
    })
}

impl Rows {
    /// Copies `count` rows from row `first` on; those past the last repeat it. True if one is to be summed directly. `visit` is
    /// told the number of each in the task, and its index. Rows are scaled to sums of squares near the power of two `square`.
    pub fn prepare(&self, kb: &mut Kb, (first, count): (Val, Val), square: i64, visit: &dyn Fn(&mut Kb, Val, &[Val])) -> Val {
        let (zero, no) = (kb.k.int(0), kb.k.constant(Const::bool(false)));
        let each = kb.k.begin_for((zero, count, 1), &[no], LoopHint::Plain);
        let last = kb.dim(&(&Dim::product(&self.rows) - &Dim::ONE));
        let row = kb.k.add(first, each.var);
        let row = kb.min(row, last);
        let index = kb.unflatten(row, &self.rows);
        visit(kb, each.var, &index);
        let at = kb.address(&index, &self.strides);
        let to = kb.k.mul_int(each.var, self.x_row);
        let square = kb.k.constant(Const::int(DType::I32, square));
        let odd = self.row(kb, (at, to), each.var, square);
        let any = kb.k.bin(BinOp::Or, each.phis[0], odd);
        kb.k.end_for(each, &[any])[0]
    }

    /// Copies a row, whose number says where what is known of it goes. True if it is to be summed directly.
    pub fn row(&self, kb: &mut Kb, (at, to): (Val, Val), number: Val, square: Val) -> Val {
        let (found, bits) = self.measure(kb, at, to);
        let (scale, inverse, odd) = self.scale(kb, (found, square), bits);
        let own = self.copy(kb, (at, to), scale);
        let nan = kb.k.constant(Const::f32(f32::NAN));
        let own = kb.k.select(odd, nan, own);
        kb.k.store(self.own, number, 0, own, None);
        kb.k.store(self.inverses, number, 0, inverse, None);
        odd
    }

    /// The sum of a row's squares, and all bits of its elements in one; copies what is to be gathered.
    fn measure(&self, kb: &mut Kb, at: Val, to: Val) -> (Val, Val) {
        let float = kb.k.splat_const(Const::f32(0.0), self.lanes);
        let none = kb.k.splat_const(Const::int(DType::I32, 0), self.lanes);
        let (&(length, _), outer) = self.k.split_last().expect("a sum has an axis");
        let runs: i64 = outer.iter().map(|k| k.0).product();
        let (zero, all) = (kb.k.int(0), kb.k.int(runs));
        let run = kb.k.begin_for((zero, all, 1), &[float, float, none], LoopHint::Plain);
        let (sizes, strides): (Vec<Dim>, Vec<Dim>) = outer.iter().map(|(n, stride)| (Dim::from(*n), stride.clone())).unzip();
        let index = kb.unflatten(run.var, &sizes);
        let skip = kb.address(&index, &strides);
        let at = kb.k.add(at, skip);
        let term = kb.k.mul_int(run.var, length);
        let found = self.vectors(kb, length, &run.phis.clone(), &mut |kb, (i, part), count, phis| {
            let term = kb.k.add(term, i);
            let from = kb.k.add(at, i);
            let x = kb.k.load(self.from, from, 0, self.lanes, count);
            let x = kb.k.convert(x, DType::F32);
            let x = self.scaled(kb, x, term, count);
            if self.gathered {
                let to = kb.k.add(to, term);
                kb.k.store(self.x, to, 0, x, count);
            }
            let bits = kb.k.bitcast(x, DType::I32);
            phis[part] = kb.k.fma(x, x, phis[part]);
            phis[PARTS] = kb.k.bin(BinOp::Or, phis[PARTS], bits);
        });
        let found = kb.k.end_for(run, &found);
        let squares = kb.k.add(found[0], found[1]);
        (kb.across(BinOp::Add, squares), kb.across(BinOp::Or, found[PARTS]))
    }

    /// Visits vectors of so many elements in turns of some parts, changing values along the way.
    fn vectors(&self, kb: &mut Kb, length: i64, init: &[Val], body: &mut dyn FnMut(&mut Kb, (Val, usize), Option<Val>, &mut [Val])) -> Vec<Val> {
        let lanes = i64::from(self.lanes);
        let turn = lanes * PARTS as i64;
        let [turns, whole] = [turn, lanes].map(|step| length / step * step);
        let zero = kb.k.int(0);
        let mut values = init.to_vec();
        if turns > 0 {
            let end = kb.k.int(turns);
            let open = kb.k.begin_for((zero, end, turn), &values, LoopHint::Plain);
            let mut next = open.phis.clone();
            for part in 0..PARTS {
                let at = kb.k.add_int(open.var, part as i64 * lanes);
                body(kb, (at, part), None, &mut next);
            }
            values = kb.k.end_for(open, &next);
        }
        for (part, first) in (turns..length).step_by(self.lanes as usize).enumerate() {
            let count = (first == whole).then(|| kb.k.int(length - whole));
            let at = kb.k.int(first);
            body(kb, (at, part), count, &mut values);
        }
        values
    }

    fn scaled(&self, kb: &mut Kb, x: Val, term: Val, count: Option<Val>) -> Val {
        let Some(scales) = self.scales else { return x };
        let scale = kb.k.load(scales, term, 0, self.lanes, count);
        kb.k.mul(x, scale)
    }

    /// A power of two that brings a sum of squares near what it should be, its inverse, and whether the row is to be summed
    /// directly. A row of zeros has the inverse 0, so that zeros come of it.
    fn scale(&self, kb: &mut Kb, (square, wanted): (Val, Val), all: Val) -> (Val, Val, Val) {
        let int = |kb: &mut Kb, x: i64| kb.k.constant(Const::int(DType::I32, x));
        let [low, high, zero, one] = [SQUARES[0], SQUARES[1], 0.0, 1.0].map(|x| kb.k.constant(Const::f32(x)));
        let above = kb.k.cmp(Pred::Ge, square, low);
        let below = kb.k.cmp(Pred::Le, square, high);
        let even = kb.k.bin(BinOp::And, above, below);
        // All but the signs.
        let (half, none) = (int(kb, 1), int(kb, 0));
        let all = kb.k.bin(BinOp::Shl, all, half);
        let zeros = kb.k.cmp(Pred::Eq, all, none);
        let bits = kb.k.bitcast(square, DType::I32);
        let mantissa = int(kb, MANTISSA);
        let exponent = kb.k.bin(BinOp::Shr, bits, mantissa);
        let bias = int(kb, BIAS);
        let exponent = kb.k.sub(exponent, bias);
        let twice = kb.k.sub(wanted, exponent);
        let by = kb.k.bin(BinOp::Shr, twice, half);
        let [scale, inverse] = [BinOp::Add, BinOp::Sub].map(|op| {
            let exponent = kb.k.bin(op, bias, by);
            let bits = kb.k.bin(BinOp::Shl, exponent, mantissa);
            let power = kb.k.bitcast(bits, DType::F32);
            kb.k.select(even, power, one)
        });
        let inverse = kb.k.select(zeros, zero, inverse);
        let fits = kb.k.bin(BinOp::Or, even, zeros);
        let odd = kb.k.un(UnOp::Not, fits);
        (scale, inverse, odd)
    }

    /// Scales a row, and returns what its pairs add up to.
    fn copy(&self, kb: &mut Kb, (at, to): (Val, Val), scale: Val) -> Val {
        let lanes = i64::from(self.lanes);
        let read = |kb: &mut Kb, term: Val, count: Option<Val>| {
            let (buf, at) = if self.gathered { (self.x, to) } else { (self.from, at) };
            let from = kb.k.add(at, term);
            let x = kb.k.load(buf, from, 0, self.lanes, count);
            let x = if self.gathered { x } else { self.scaled(kb, x, term, count) };
            kb.k.mul(x, scale)
        };
        let write = |kb: &mut Kb, term: Val, x: Val, next: Val, own: Val| {
            let to = kb.k.add(to, term);
            kb.k.store(self.x, to, 0, x, None);
            let sign = kb.k.load(self.signs, term, 0, self.lanes, None);
            let picks: Vec<u32> = (2..self.lanes + 2).collect();
            let partner = kb.k.permute(x, next, &picks);
            let signed = kb.k.mul(x, sign);
            kb.k.fma(signed, partner, own)
        };
        // A vector is written when the one after it is known.
        let zeros = kb.k.splat_const(Const::f32(0.0), self.lanes);
        let zero = kb.k.int(0);
        let first = (self.terms < lanes).then(|| kb.k.int(self.terms));
        let first = read(kb, zero, first);
        let start = lanes.min(self.terms);
        let [x, a, b] = self.vectors(kb, self.terms - start, &[first, zeros, zeros], &mut |kb, (i, part), count, values| {
            let term = kb.k.add_int(i, start);
            let next = read(kb, term, count);
            values[1 + part] = write(kb, i, values[0], next, values[1 + part]);
            values[0] = next;
        })[..] else { unreachable!("three values are carried") };
        let last = kb.k.int((self.terms - 1) / lanes * lanes);
        let a = write(kb, last, x, zeros, a);
        let own = kb.k.add(a, b);
        kb.across(BinOp::Add, own)
    }
}
