//! Sums of four 8-bit products, exactly: Cranelift multiplies pairs of 16-bit words and adds them up.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use xlac_ir::dtype::DType;

use super::rep::Rep;
use super::Emitter;

impl Emitter<'_> {
    /// `c` plus, in each lane, the products of four neighbouring elements of `a` and `b`.
    pub fn dot4(&mut self, a: &Rep, b: &Rep, c: &Rep) -> Rep {
        let chunks = (0..c.count()).map(|i| {
            let (x, y, sum) = (self.halves(a, i), self.halves(b, i), self.chunk(c, i));
            if c.is_scalar() {
                let sum = self.ins().scalar_to_vector(types::I32X4, sum);
                let sum = self.pairs(x, y, sum);
                return self.ins().extractlane(sum, 0);
            }
            self.pairs(x, y, sum)
        });
        let chunks = chunks.collect();
        Rep::new(c.ty, chunks)
    }

    /// The even bytes of a chunk as 16-bit words, and the odd ones.
    fn halves(&mut self, a: &Rep, i: usize) -> [Value; 2] {
        let signed = a.ty.dtype == DType::I8;
        let bytes = self.chunk(a, i);
        let words = self.cast(types::I16X8, bytes);
        let eight = self.ins().iconst(types::I32, 8);
        if signed {
            let up = self.ins().ishl(words, eight);
            return [self.ins().sshr(up, eight), self.ins().sshr(words, eight)];
        }
        let low = self.int_lanes(types::I16X8, 255);
        [self.ins().band(words, low), self.ins().ushr(words, eight)]
    }

    /// `sum` plus the products of the words, those of each pair added.
    fn pairs(&mut self, x: [Value; 2], y: [Value; 2], mut sum: Value) -> Value {
        for (x, y) in x.into_iter().zip(y) {
            // One instruction on x86.
            let (x_low, y_low) = (self.ins().swiden_low(x), self.ins().swiden_low(y));
            let (x_high, y_high) = (self.ins().swiden_high(x), self.ins().swiden_high(y));
            let (low, high) = (self.ins().imul(x_low, y_low), self.ins().imul(x_high, y_high));
            let pair = self.ins().iadd_pairwise(low, high);
            sum = self.ins().iadd(sum, pair);
        }
        sum
    }
}
