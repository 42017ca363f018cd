//! Rows with the lanes along a kept axis: the reduced elements are walked one after the other.

use super::*;

impl Rows<'_> {
    /// Lanes along the fastest kept axis; the reduced elements are walked by their row-major number.
    pub(super) fn emit_across(&self, kb: &mut Kb) -> Dim {
        let partial: Vec<Buf> = if self.exact {
            let length = Dim::from(i64::from(PARTIALS * self.lanes));
            self.reductions.iter().enumerate().map(|(i, r)| kb.scratch(&format!("partial{i}"), r.dtype, &length)).collect()
        } else {
            Vec::new()
        };
        let count = hint(&Dim::product(&self.red)).max(1);
        let mut dims = self.kept.clone();
        if dims.is_empty() {
            dims.push(Dim::ONE);
        }
        map::nest_sized(kb, &dims, self.lanes, self.walk, count, |kb, index, lanes, valid| {
            self.column(kb, &index, lanes, valid, &partial);
        })
    }

    fn column(&self, kb: &mut Kb, index: &[Val], lanes: u32, valid: Option<Val>, partial: &[Buf]) {
        let kept: Vec<Val> = if self.kept.is_empty() { Vec::new() } else { index.to_vec() };
        let (outer, inner) = index.split_at(index.len() - 1);
        let zero = kb.k.int(0);
        let full_index = |red: &[Val]| [outer, red, inner].concat();
        let zeros = vec![zero; self.red.len()];
        let n = Dim::product(&self.red);
        let n = kb.dim(&n);
        let mut known = HashMap::new();
        for s in 0..self.passes {
            self.row_values(kb, s, full_index(&zeros), lanes, valid, &mut known);
            if !self.busy(s) {
                continue;
            }
            let visit = |kb: &mut Kb, i: Val, accs: &[Val]| {
                let red = if self.red.is_empty() { Vec::new() } else { kb.unflatten(i, &self.red) };
                let slot = kb.k.mul_int(i, i64::from(lanes));
                let mut point = self.point(full_index(&red), lanes, valid, &known);
                self.pass_body(kb, s, &mut point, slot, accs, &kept, &red)
            };
            let reduces: Vec<&Reduction> = self.in_pass(s).collect();
            let totals = if reduces.is_empty() || !self.exact {
                self.running(kb, n, lanes, &reduces, visit)
            } else {
                let bufs: Vec<Buf> = self.reductions.iter().zip(partial).filter(|(r, _)| self.stage[&r.output] == s + 1).map(|p| *p.1).collect();
                self.strided(kb, n, lanes, &reduces, &bufs, visit)
            };
            for (r, x) in reduces.iter().zip(totals) {
                let x = kb.k.convert(x, self.g.ty(r.output).dtype);
                known.insert(r.output, x);
            }
        }
        self.row_values(kb, self.passes, full_index(&zeros), lanes, valid, &mut known);
        self.store_reduced(kb, &kept, lanes, valid, &known);
    }

    /// Four running results, combined at the end.
    fn running(&self, kb: &mut Kb, n: Val, lanes: u32, reduces: &[&Reduction], visit: impl Fn(&mut Kb, Val, &[Val]) -> Vec<Val>) -> Vec<Val> {
        const WAYS: usize = 4;
        let width = reduces.len();
        let init: Vec<Val> = (0..WAYS).flat_map(|_| reduces.iter()).map(|r| kb.k.splat_const(neutral(r.f, r.dtype), lanes)).collect();
        let zero = kb.k.int(0);
        let ways = kb.k.int(WAYS as i64);
        let rest = kb.k.bin(BinOp::Rem, n, ways);
        let main = kb.k.sub(n, rest);
        let open = kb.k.begin_for((zero, main, WAYS as i64), &init, LoopHint::Plain);
        let (i, phis) = (open.var, open.phis.clone());
        let mut next = Vec::new();
        for way in 0..WAYS {
            let at = kb.k.add_int(i, way as i64);
            next.extend(visit(kb, at, &phis[way * width..][..width]));
        }
        let accs = kb.k.end_for(open, &next);
        let open = kb.k.begin_for((main, n, 1), &accs[..width], LoopHint::Plain);
        let (i, phis) = (open.var, open.phis.clone());
        let next = visit(kb, i, &phis);
        let first = kb.k.end_for(open, &next);
        let at = |way: usize, r: usize| if way == 0 { first[r] } else { accs[way * width + r] };
        (0..width)
            .map(|r| {
                let op = combine(reduces[r].f);
                let a = kb.k.bin(op, at(0, r), at(2, r));
                let b = kb.k.bin(op, at(1, r), at(3, r));
                kb.k.bin(op, a, b)
            })
            .collect()
    }

    /// The contract's order: partial results in scratch memory, then the tree.
    fn strided(&self, kb: &mut Kb, n: Val, lanes: u32, reduces: &[&Reduction], bufs: &[Buf], visit: impl Fn(&mut Kb, Val, &[Val]) -> Vec<Val>) -> Vec<Val> {
        let zero = kb.k.int(0);
        let limit = kb.k.int(i64::from(PARTIALS));
        let at = |kb: &mut Kb, j: Val| kb.k.mul_int(j, i64::from(lanes));
        let open = kb.k.begin_for((zero, limit, 1), &[], LoopHint::Plain);
        let slot = at(kb, open.var);
        for (r, &buf) in reduces.iter().zip(bufs) {
            let x = kb.k.splat_const(neutral(r.f, r.dtype), lanes);
            kb.k.store(buf, slot, 0, x, None);
        }
        kb.k.end_for(open, &[]);
        let open = kb.k.begin_for((zero, n, 1), &[], LoopHint::Plain);
        let i = open.var;
        let mask = kb.k.int(i64::from(PARTIALS) - 1);
        let j = kb.k.bin(BinOp::And, i, mask);
        let slot = at(kb, j);
        let accs: Vec<Val> = bufs.iter().map(|&b| kb.k.load(b, slot, 0, lanes, None)).collect();
        let next = visit(kb, i, &accs);
        for (&buf, x) in bufs.iter().zip(next) {
            kb.k.store(buf, slot, 0, x, None);
        }
        kb.k.end_for(open, &[]);
        let mut distance = PARTIALS / 2;
        while distance > 0 {
            let limit = kb.k.int(i64::from(distance));
            let open = kb.k.begin_for((zero, limit, 1), &[], LoopHint::Plain);
            let slot = at(kb, open.var);
            for (r, &buf) in reduces.iter().zip(bufs) {
                let a = kb.k.load(buf, slot, 0, lanes, None);
                let b = kb.k.load(buf, slot, i64::from(distance * lanes), lanes, None);
                let x = kb.k.bin(combine(r.f), a, b);
                kb.k.store(buf, slot, 0, x, None);
            }
            kb.k.end_for(open, &[]);
            distance /= 2;
        }
        bufs.iter().map(|&b| kb.k.load(b, zero, 0, lanes, None)).collect()
    }
}
