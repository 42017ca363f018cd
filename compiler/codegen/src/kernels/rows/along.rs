//! Rows with the lanes along the reduced axis: a tile is a row.

use super::*;

impl Rows<'_> {
    /// Lanes along the reduced axis; a tile is a row.
    pub(super) fn emit_along(&self, kb: &mut Kb) -> Dim {
        let tiles = Dim::product(&self.kept);
        let tile = kb.k.tile();
        let kept = if self.kept.is_empty() { Vec::new() } else { kb.unflatten(tile, &self.kept) };
        let zero = kb.k.int(0);
        let n = kb.dim(&self.red[0]);
        let mut known = HashMap::new();
        for s in 0..self.passes {
            self.row_values(kb, s, [&kept[..], &[zero]].concat(), 1, None, &mut known);
            if !self.busy(s) {
                continue;
            }
            let reduces: Vec<&Reduction> = self.in_pass(s).collect();
            let lanes = if reduces.is_empty() { self.lanes } else { PARTIALS };
            let init: Vec<Val> = reduces.iter().map(|r| kb.k.splat_const(neutral(r.f, r.dtype), lanes)).collect();
            let totals = self.row_loop(kb, s, &kept, n, lanes, &init, &known);
            for (r, total) in reduces.iter().zip(totals) {
                let x = tree(kb, r.f, total);
                let x = kb.k.convert(x, self.g.ty(r.output).dtype);
                known.insert(r.output, x);
            }
        }
        self.row_values(kb, self.passes, [&kept[..], &[zero]].concat(), 1, None, &mut known);
        self.store_reduced(kb, &kept, 1, None, &known);
        tiles
    }

    /// One pass over a row, with its tail.
    fn row_loop(&self, kb: &mut Kb, s: usize, kept: &[Val], n: Val, lanes: u32, init: &[Val], known: &HashMap<ValueId, Val>) -> Vec<Val> {
        let zero = kb.k.int(0);
        let step = kb.k.int(i64::from(lanes));
        let rest = kb.k.bin(BinOp::Rem, n, step);
        let main = kb.k.sub(n, rest);
        let open = kb.k.begin_for((zero, main, i64::from(lanes)), init, LoopHint::Plain);
        let (j, phis) = (open.var, open.phis.clone());
        let mut point = self.point([kept, &[j]].concat(), lanes, None, known);
        let next = self.pass_body(kb, s, &mut point, j, &phis, kept, &[j]);
        let accs = kb.k.end_for(open, &next);
        if kb.k.known(rest) == Some(Const::i64(0)) {
            return accs;
        }
        let some = kb.k.cmp(Pred::Gt, rest, zero);
        if kb.k.known(some).is_some() {
            let mut point = self.point([kept, &[main]].concat(), lanes, Some(rest), known);
            return self.pass_body(kb, s, &mut point, main, &accs, kept, &[main]);
        }
        let mut open = kb.k.begin_if(some);
        let mut point = self.point([kept, &[main]].concat(), lanes, Some(rest), known);
        let next = self.pass_body(kb, s, &mut point, main, &accs, kept, &[main]);
        kb.k.begin_else(&mut open, &next);
        kb.k.end_if(open, &accs)
    }
}
