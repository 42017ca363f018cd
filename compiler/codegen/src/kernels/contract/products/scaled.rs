//! Small products by fast inner products (`fip`): rows are scaled in place when they are transformed.

use super::*;
use crate::kernels::contract::weights::{constant, numbers};
use crate::pack::Source;
use xlac_ir::tensor::Tensor;

/// What fast inner products take.
pub(super) struct Scaled {
    rows: fip::Rows,
    sums: fip::Sums,
    /// Of each product, the power of two that its rows' sums of squares shall be near.
    squares: Buf,
}

impl Products {
    /// Makes the products by fast inner products with weights of these scales. Returns what the results are to be multiplied by,
    /// column by column.
    pub fn scale(&mut self, l: &mut Lowering, kb: &mut Kb, scales: &fip::FilterScales) -> Option<Buf> {
        let (terms, x_row) = (&self.terms, &self.x_row);
        let [terms, x_row] = [terms, x_row].map(|d| d.as_const().expect("weights have a size"));
        let lanes = i64::from(self.tile.lanes);
        let [of_terms, of_cols] = fip::scale_constants(l, [&scales.terms, &scales.cols], lanes);
        let squares: Vec<Const> = scales.squares.iter().map(|&x| Const::int(DType::I32, x)).collect();
        let squares = Tensor::from_consts(DType::I32, vec![squares.len()], squares);
        let squares = Blob { source: Source::Tensor(squares), pack: Pack::Plain, dtype: DType::I32 };
        let blobs = [numbers(scales.own.iter().map(|x| -x), lanes), numbers(fip::signs(terms), lanes), squares];
        let [of_columns, signs, squares] = blobs.map(|blob| constant(l, blob)).map(|place| kb.read(&place));
        let [of_terms, of_cols] = [of_terms, of_cols].map(|place| place.map(|place| kb.read(&place)));
        let mut scratch = |name: &str, len: i64| kb.scratch(name, DType::F32, &Dim::from(len));
        let all = self.len * self.matrices;
        let rows = fip::Rows {
            rows: Vec::new(),
            from: self.x,
            strides: Vec::new(),
            k: vec![(terms, Dim::ONE)],
            terms,
            lanes: self.tile.lanes,
            scales: of_terms,
            signs,
            gathered: false,
            x: self.x,
            x_row,
            own: scratch("own", all),
            inverses: scratch("inverses", all),
        };
        let known = (rows.own, rows.inverses, of_columns);
        let sums = fip::Sums::new(self.tile, (terms, x_row), (self.x, self.weights), known, |len| scratch("totals", len));
        self.fip = Some(Scaled { rows, sums, squares });
        of_cols
    }

    /// Scales the first `count` rows of every product, if they have to be. True if one is to be summed directly.
    pub fn scale_rows(&self, kb: &mut Kb, count: Val) -> Option<Val> {
        let Scaled { rows, squares, .. } = self.fip.as_ref()?;
        let (zero, all) = (kb.k.int(0), kb.k.int(self.matrices));
        let no = kb.k.constant(Const::bool(false));
        let [x_product, x_row] = [&self.x_product, &self.x_row].map(|d| kb.dim(d));
        let product = kb.k.begin_for((zero, all, 1), &[no], LoopHint::Plain);
        let square = kb.k.load(*squares, product.var, 0, 1, None);
        let first = kb.k.mul(product.var, x_product);
        let number = kb.k.mul_int(product.var, self.len);
        let row = kb.k.begin_for((zero, count, 1), &product.phis.clone(), LoopHint::Plain);
        let skip = kb.k.mul(row.var, x_row);
        let at = kb.k.add(first, skip);
        let number = kb.k.add(number, row.var);
        let odd = rows.row(kb, (at, at), number, square);
        let any = kb.k.bin(BinOp::Or, row.phis[0], odd);
        let any = kb.k.end_for(row, &[any]);
        kb.k.end_for(product, &any).pop()
    }

    /// [`Products::multiply`] of scaled rows, of which one is `odd` or none.
    pub fn multiply_scaled(&self, kb: &mut Kb, panel: Val, row_tiles: Val, odd: Val) {
        let Scaled { sums, .. } = self.fip.as_ref().expect("the rows are scaled");
        let (mr, nr) = (i64::from(self.tile.mr), self.tile.nr());
        let (zero, all) = (kb.k.int(0), kb.k.int(self.matrices));
        let [x_product, x_row] = [&self.x_product, &self.x_row].map(|d| kb.dim(d));
        let first = kb.k.mul_int(panel, self.matrices);
        let product = kb.k.begin_for((zero, all, 1), &[], LoopHint::Plain);
        let number = kb.k.add(first, product.var);
        let (b, columns) = (kb.k.mul_int(number, sums.terms * nr), kb.k.mul_int(number, nr));
        let a = kb.k.mul(product.var, x_product);
        let y = kb.k.mul_int(product.var, self.y_product);
        let known = kb.k.mul_int(product.var, self.len);
        let row_tile = kb.k.begin_for((zero, row_tiles, 1), &[], LoopHint::Plain);
        let row = kb.k.mul_int(row_tile.var, mr);
        let skip = kb.k.mul(row, x_row);
        let (a, known) = (kb.k.add(a, skip), kb.k.add(known, row));
        let skip = kb.k.mul_int(row, nr);
        let y = kb.k.add(y, skip);
        for (i, sum) in (0..).zip(sums.tile(kb, (a, known), (b, columns))) {
            let number = kb.k.add_int(known, i);
            let sum = sums.scaled_back(kb, number, sum);
            kb.k.store(self.y, y, i * nr, sum, None);
        }
        let mut some = kb.k.begin_if(odd);
        let height = kb.k.int(mr);
        let each = kb.k.begin_for((zero, height, 1), &[], LoopHint::Plain);
        let number = kb.k.add(known, each.var);
        let is_odd = sums.is_odd(kb, number);
        let mut this = kb.k.begin_if(is_odd);
        let skip = kb.k.mul(each.var, x_row);
        let at = kb.k.add(a, skip);
        let sum = sums.directly(kb, &[at], b)[0];
        let to = kb.k.mul_int(each.var, nr);
        let to = kb.k.add(y, to);
        kb.k.store(self.y, to, 0, sum, None);
        kb.k.begin_else(&mut this, &[]);
        kb.k.end_if(this, &[]);
        kb.k.end_for(each, &[]);
        kb.k.begin_else(&mut some, &[]);
        kb.k.end_if(some, &[]);
        kb.k.end_for(row_tile, &[]);
        kb.k.end_for(product, &[]);
    }
}
