//! Chooses one of two regions.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Operand: bool scalar. Two regions without inputs, then and else; they may use values of the enclosing regions.
    /// Results are those of the region that ran. Result `i` has type `types[i]` = `(dtype, rank)` unless both regions give
    /// the same type: dims in which the regions differ become the symbols listed in `symbols`, in order of results and axes.
    "if" => If { symbols: Vec<Symbol> }
}

impl If {
    /// Types of the results, or what is wrong, from the operands' types and those the two regions give.
    pub fn result_types(&self, operands: &[Type], then: &[Type], els: &[Type]) -> Result<Vec<Type>, InferError> {
        if operands != [Type::new(DType::Bool, [])] {
            bail!("takes one condition, bool[]");
        }
        if then.len() != els.len() {
            bail!("the regions give {} and {} values", then.len(), els.len());
        }
        let mut symbols = self.symbols.iter();
        let mut types = Vec::with_capacity(then.len());
        for (i, (a, b)) in then.iter().zip(els).enumerate() {
            if a.dtype != b.dtype || a.rank() != b.rank() {
                bail!("the regions give result {i} as {a} and as {b}");
            }
            let mut shape = Vec::with_capacity(a.rank());
            for (x, y) in a.shape.iter().zip(&b.shape) {
                let dim = if x == y { Some(x.clone()) } else { symbols.next().map(|s| Dim::sym(s)) };
                let Some(dim) = dim else { bail!("no symbol is left for result {i}, where {x} and {y} differ") };
                shape.push(dim);
            }
            types.push(Type::new(a.dtype, shape));
        }
        if symbols.next().is_some() {
            bail!("{} symbols are more than the regions differ in", self.symbols.len());
        }
        Ok(types)
    }
}

impl OpImpl for If {
    fn infer(&self, _: &[Type]) -> Result<Vec<Type>, InferError> {
        bail!("the types of `if` come from its regions");
    }

    fn eval(&self, _: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        Err(EvalError("`if` is run by the interpreter".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse_type;

    fn check(symbols: &[&str], then: &[&str], els: &[&str]) -> String {
        let types = |t: &[&str]| t.iter().map(|t| parse_type(t).unwrap()).collect::<Vec<_>>();
        let op = If { symbols: symbols.iter().map(|&s| s.into()).collect() };
        match op.result_types(&types(&["bool[]"]), &types(then), &types(els)) {
            Ok(types) => types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn dims_that_differ_become_symbols() {
        assert_eq!(check(&[], &["f32[N, 3]"], &["f32[N, 3]"]), "f32[N, 3]");
        assert_eq!(check(&["a", "b"], &["f32[N, 3]", "i8[2]"], &["f32[4, 3]", "i8[1]"]), "f32[a, 3], i8[b]");
        assert_eq!(check(&["a"], &["f32[N]", "i8[2]"], &["f32[4]", "i8[1]"]), "no symbol is left for result 1, where 2 and 1 differ");
        assert_eq!(check(&["a"], &["f32[N]"], &["f32[N]"]), "1 symbols are more than the regions differ in");
    }

    #[test]
    fn regions_agree_otherwise() {
        assert_eq!(check(&[], &["f32[]"], &["i8[]"]), "the regions give result 0 as f32[] and as i8[]");
        assert_eq!(check(&[], &["f32[1]"], &["f32[1, 1]"]), "the regions give result 0 as f32[1] and as f32[1, 1]");
        assert_eq!(check(&[], &["f32[]"], &[]), "the regions give 1 and 0 values");
        let op = If { symbols: Vec::new() };
        assert_eq!(op.result_types(&[], &[], &[]).unwrap_err().to_string(), "takes one condition, bool[]");
    }
}
