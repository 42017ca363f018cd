//! Repeats a region.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::op::{EvalCx, EvalError, InferError, OpImpl, bail, op};
use crate::tensor::Tensor;
use crate::types::Type;

op! {
    /// Operands: the i64 scalar largest number of trips if `trips`, the bool scalar first condition if `cond`, then what is
    /// carried. The region's inputs: i64 scalar trip number, then the carried values; its outputs: the bool condition to go
    /// on (if `cond`), the next carried values, and elements of scan outputs. Results: the last carried values, then the
    /// scan outputs, stacked along a new first axis whose size is the symbol `count`. Carried values keep their types.
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
