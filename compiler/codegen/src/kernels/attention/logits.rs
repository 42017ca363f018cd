//! The elementwise nodes on scores and rows, lane by lane, with narrow floats kept in f32.

use xlac_ir::ops::Op;

use super::*;
use crate::eval;

/// Where values are wanted.
pub struct Spot {
    /// Index along batch axes, queries and keys; the last one is that of lane 0.
    index: Vec<Val>,
    lanes: u32,
    /// Number of keys from lane 0 on, if there may be fewer than lanes.
    count: Option<Val>,
    known: HashMap<ValueId, Val>,
}

impl Spot {
    /// A point and what is known there.
    pub fn new(index: Vec<Val>, lanes: u32, count: Option<Val>, known: &[(ValueId, Val)]) -> Spot {
        Spot { index, lanes, count, known: known.iter().copied().collect() }
    }
}

impl Blocked<'_> {
    /// The logit of a score, both of the accumulators' type.
    pub fn logit(&self, kb: &mut Kb, mut spot: Spot, score: Val) -> Val {
        let factor = f64::from_bits(self.a.factor);
        let score = if factor == 1.0 {
            score
        } else {
            let factor = kb.k.constant(Const::number(self.acc, factor));
            kb.k.bin(BinOp::Mul, score, factor)
        };
        spot.known.insert(self.a.raw, score);
        let x = self.value(kb, &mut spot, self.a.logits);
        let x = kb.k.convert(x, self.acc);
        kb.k.widen(x, spot.lanes)
    }

    /// The value of `v`: one lane if it is the same for all keys.
    pub fn value(&self, kb: &mut Kb, spot: &mut Spot, v: ValueId) -> Val {
        if let Some(&x) = spot.known.get(&v) {
            return x;
        }
        let x = if self.leaves.contains_key(&v) {
            let (index, known) = (spot.index.clone(), HashMap::new());
            let mut point = Point { g: self.g, leaves: &self.leaves, index, lanes: spot.lanes, count: spot.count, known };
            point.value(kb, v)
        } else {
            let node = self.g.producer(v).expect("a value is a leaf or computed by the group");
            let operands: Vec<Val> = node.inputs.iter().map(|&i| self.value(kb, spot, i)).collect();
            match &node.op {
                Op::Reshape(_) => operands[0],
                op => eval::apply(kb, op, &operands),
            }
        };
        let x = wide(kb, x);
        spot.known.insert(v, x);
        x
    }
}

/// A narrow float as f32.
fn wide(kb: &mut Kb, x: Val) -> Val {
    match kb.k.ty(x).dtype {
        DType::F16 | DType::BF16 => kb.k.convert(x, DType::F32),
        _ => x,
    }
}
