//! Repeats a region.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Operands: the i64 scalar largest number of trips if `trips`, the bool scalar first condition if `cond`, then
    /// what is carried. The region's inputs: i64 scalar trip number, then the carried values; its outputs: the bool
    /// condition to go on (if `cond`), the next carried values, and elements of scan outputs. Results: the last carried
    /// values, then the scan outputs, stacked along a new first axis whose size is the symbol `count`. Carried values
    /// keep their types.
    "loop" => Loop {
        trips: bool,
        cond: bool,
        /// Number of carried values.
        carried: usize,
        /// One symbol: the number of trips made; while the body runs, the trip number.
        count: Vec<Symbol>,
    }
}

impl OpImpl for Loop {
    fn infer(&self, _: &[Type]) -> Result<Vec<Type>, InferError> {
        bail!("the types of `loop` come from its region");
    }

    fn eval(&self, _: &[Tensor], _: &EvalCx) -> Result<Vec<Tensor>, EvalError> {
        Err(EvalError("`loop` is run by the interpreter".into()))
    }
}

impl Loop {
    /// Types of the results, or what is wrong, from the operands' types and those of the region's inputs and outputs.
    pub fn result_types(&self, operands: &[Type], inputs: &[Type], outputs: &[Type]) -> Result<Vec<Type>, InferError> {
        let [count] = self.count.as_slice() else { bail!("{} symbols for one count", self.count.len()) };
        let leading = usize::from(self.trips) + usize::from(self.cond);
        if operands.len() != leading + self.carried {
            bail!("takes {} operands, not {}", leading + self.carried, operands.len());
        }
        if self.trips && operands[0] != Type::new(DType::I64, []) {
            bail!("the number of trips is {}, not i64[]", operands[0]);
        }
        if self.cond && operands[leading - 1] != Type::new(DType::Bool, []) {
            bail!("the condition is {}, not bool[]", operands[leading - 1]);
        }
        let carried = &operands[leading..];
        if inputs.first() != Some(&Type::new(DType::I64, [])) || &inputs[1..] != carried {
            bail!("the region takes {}, the trip number and {} are given", list(inputs), list(carried));
        }
        let conditions = usize::from(self.cond);
        if self.cond && outputs.first() != Some(&Type::new(DType::Bool, [])) {
            bail!("the region gives {}, a condition is needed first", list(outputs));
        }
        if outputs.get(conditions..conditions + self.carried) != Some(carried) {
            bail!("the region gives {}, the carried values are {}", list(outputs), list(carried));
        }
        let stacked = |t: &Type| Type::new(t.dtype, [&[Dim::sym(count)], t.shape.as_slice()].concat());
        let scans = outputs[conditions + self.carried..].iter().map(stacked);
        Ok(carried.iter().cloned().chain(scans).collect())
    }
}

/// Types for a message.
fn list(types: &[Type]) -> String {
    if types.is_empty() { "nothing".into() } else { types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{eval, infer};
    use std::slice::from_ref;

    const F: DType = DType::F32;

    fn op(trips: bool, cond: bool, carried: usize) -> Loop { Loop { trips, cond, carried, count: vec!["k".into()] } }

    fn types(op: &Loop, operands: &[Type], inputs: &[Type], outputs: &[Type]) -> String {
        op.result_types(operands, inputs, outputs).map_or_else(|e| e.0, |types| list(&types))
    }

    #[test]
    fn results_are_carried_and_stacked() {
        let (n, x, go_on) = (Type::new(DType::I64, []), Type::new(F, [Dim::sym("N")]), Type::new(DType::Bool, []));
        let all = [n.clone(), go_on.clone(), x.clone()];
        let outputs = [go_on.clone(), x.clone(), x.clone()];
        assert_eq!(types(&op(true, true, 1), &all, &[n.clone(), x.clone()], &outputs), "f32[N], f32[k, N]");
        assert_eq!(types(&op(true, false, 1), &all[..1], &[], &[]), "takes 2 operands, not 1");
        assert_eq!(types(&op(false, true, 1), &[x.clone(), x.clone()], &[], &[]), "the condition is f32[N], not bool[]");
        let entered = types(&op(true, true, 1), &all, from_ref(&n), &outputs);
        assert_eq!(entered, "the region takes i64[], the trip number and f32[N] are given");
        let unconditional = types(&op(true, true, 1), &all, &[n.clone(), x.clone()], &outputs[1..]);
        assert_eq!(unconditional, "the region gives f32[N], f32[N], a condition is needed first");
        let grown = [go_on, Type::new(F, [Dim::sym("M")])];
        let carried = types(&op(true, true, 1), &all, &[n, x], &grown);
        assert_eq!(carried, "the region gives bool[], f32[M], the carried values are f32[N]");
    }

    #[test]
    fn does_not_stand_alone() {
        assert_eq!(infer(op(false, false, 0), &[]), "the types of `loop` come from its region");
        assert!(eval(op(false, false, 0), &[]).is_err());
    }
}
