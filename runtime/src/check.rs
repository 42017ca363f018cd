//! Checks a plan's tables, so that everything after may index without asking. The steps are checked by [`crate::lower`].
//!
//! A plan comes from a file, and a file is not to be trusted: every index, range and size is looked at here.

use crate::error::{Error, Result};
use crate::expr::{Dependencies, Values};
use crate::plan::{BufferId, Expr, ExprId, Plan, Storage, SymbolSource, TensorDecl};

/// A [`Error::BadPlan`].
pub(crate) fn bad<T>(problem: impl Into<String>) -> Result<T> {
    Err(Error::BadPlan(problem.into()))
}

/// Checks all tables but the steps; kernels of a CPU must start within `code_len` bytes, weights lie within `weights_len`.
pub(crate) fn check_tables(plan: &Plan, code_len: u64, weights_len: u64) -> Result<Dependencies> {
    check_lengths(plan)?;
    check_symbols(plan)?;
    check_exprs(plan)?;
    let dependencies = Dependencies::new(plan)?;
    check_constraints(plan)?;
    check_buffers(plan, &dependencies, weights_len)?;
    check_decls(plan, &dependencies)?;
    check_kernels(plan, code_len)?;
    Ok(dependencies)
}

/// Most threads of a block on any GPU served.
const MAX_THREADS: u32 = 1024;
/// Most shared memory of a block that is believed; what the device has is asked when the model is loaded.
const MAX_SHARED: u32 = 1 << 20;

fn check_kernels(plan: &Plan, code_len: u64) -> Result<()> {
    let on_gpu = plan.kernels.first().is_some_and(|kernel| kernel.block.is_some());
    for kernel in &plan.kernels {
        let name = &kernel.name;
        match kernel.block {
            None if on_gpu => return bad(format!("kernel `{name}` is for a CPU, others are for a GPU")),
            Some(_) if !on_gpu => return bad(format!("kernel `{name}` is for a GPU, others are for a CPU")),
            None if kernel.entry >= code_len => return bad(format!("kernel `{name}` starts outside the code")),
            None => {}
            Some(block) => {
                let fits = (1..=MAX_THREADS).contains(&block.threads)
                    && (1..=MAX_THREADS).contains(&block.tiles)
                    && block.shared <= MAX_SHARED;
                if !fits {
                    return bad(format!("kernel `{name}` has an impossible block ({block:?})"));
                }
                if name.is_empty() || name.contains('\0') {
                    return bad(format!("kernel `{}` cannot be found by its name", name.escape_debug()));
                }
            }
        }
    }
    Ok(())
}

/// Fails unless `id` is an expression of the plan.
pub(crate) fn check_expr(plan: &Plan, id: ExprId, what: &str) -> Result<()> {
    if id as usize >= plan.exprs.len() {
        return bad(format!("{what} refers to expression {id} of {}", plan.exprs.len()));
    }
    Ok(())
}

/// Fails unless `id` is a buffer of the plan.
pub(crate) fn check_buffer(plan: &Plan, id: BufferId, what: &str) -> Result<()> {
    if id as usize >= plan.buffers.len() {
        return bad(format!("{what} refers to buffer {id} of {}", plan.buffers.len()));
    }
    Ok(())
}

/// Ids have 32 bits, and so have the derived tables.
fn check_lengths(plan: &Plan) -> Result<()> {
    let lengths = [plan.symbols.len(), plan.exprs.len(), plan.buffers.len(), plan.kernels.len(), plan.inputs.len()];
    if lengths.iter().chain([&plan.outputs.len()]).any(|&length| length >= u32::MAX as usize) {
        return bad("a table is too long");
    }
    Ok(())
}

fn check_symbols(plan: &Plan) -> Result<()> {
    for symbol in &plan.symbols {
        let (low, high) = symbol.range;
        if low < 0 || low > high {
            return bad(format!("symbol `{}` has the range {low}..={high}", symbol.name));
        }
        if let SymbolSource::Input { input, axis } = symbol.source {
            let decl = plan.inputs.get(input as usize);
            if decl.is_none_or(|decl| axis as usize >= decl.shape.len()) {
                return bad(format!(
                    "symbol `{}` comes from axis {axis} of input {input}, which is not there",
                    symbol.name
                ));
            }
        }
    }
    Ok(())
}

fn check_exprs(plan: &Plan) -> Result<()> {
    for (id, expr) in plan.exprs.iter().enumerate() {
        let in_order = match *expr {
            Expr::Const(constant) => constant != crate::expr::UNKNOWN,
            Expr::Symbol(symbol) => (symbol as usize) < plan.symbols.len(),
            Expr::Add(a, b)
            | Expr::Mul(a, b)
            | Expr::FloorDiv(a, b)
            | Expr::Mod(a, b)
            | Expr::Min(a, b)
            | Expr::Max(a, b) => (a as usize) < id && (b as usize) < id,
        };
        if !in_order {
            return bad(format!("expression {id} ({expr:?}) refers to what is not there or comes later"));
        }
    }
    Ok(())
}

fn check_constraints(plan: &Plan) -> Result<()> {
    for constraint in &plan.constraints {
        check_expr(plan, constraint.left, "a constraint")?;
        check_expr(plan, constraint.right, "a constraint")?;
    }
    Ok(())
}

fn check_buffers(plan: &Plan, dependencies: &Dependencies, weights_len: u64) -> Result<()> {
    check_expr(plan, plan.arena_bytes, "the arena")?;
    if !dependencies.is_static(plan.arena_bytes) {
        return bad("the size of the arena depends on a run-time symbol");
    }
    let constants = Values::new(plan);
    for (id, buffer) in plan.buffers.iter().enumerate() {
        check_expr(plan, buffer.bytes, "a buffer")?;
        match buffer.storage {
            Storage::Arena(offset) => {
                check_expr(plan, offset, "a buffer")?;
                if !dependencies.is_static(offset) {
                    return bad(format!("the offset of buffer {id} depends on a run-time symbol"));
                }
            }
            Storage::Heap => {}
            Storage::Weight(offset) => {
                let bytes = constants.try_get(buffer.bytes).and_then(|bytes| u64::try_from(bytes).ok());
                let end = bytes.and_then(|bytes| offset.checked_add(bytes));
                if end.is_none_or(|end| end > weights_len) {
                    return bad(format!("buffer {id} lies outside the weights"));
                }
            }
            Storage::Input(input) => {
                if input as usize >= plan.inputs.len() {
                    return bad(format!("buffer {id} is input {input} of {}", plan.inputs.len()));
                }
            }
            Storage::Output(output) => {
                let Some(decl) = plan.outputs.get(output as usize) else {
                    return bad(format!("buffer {id} is output {output} of {}", plan.outputs.len()));
                };
                let own = plan.buffers.get(decl.buffer as usize);
                if own.is_none_or(|own| own.storage != buffer.storage) {
                    return bad(format!("buffer {id} is output `{}`, which lies elsewhere", decl.name));
                }
                for &dim in &decl.shape {
                    check_expr(plan, dim, "an output")?;
                    if !dependencies.is_static(dim) {
                        return bad(format!(
                            "the shape of output `{}` depends on data, so it must be on the heap",
                            decl.name
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_decls(plan: &Plan, dependencies: &Dependencies) -> Result<()> {
    for (number, input) in plan.inputs.iter().enumerate() {
        check_decl(plan, input)?;
        if !input.shape.iter().all(|&dim| dependencies.is_static(dim)) {
            return bad(format!("the shape of input `{}` depends on a run-time symbol", input.name));
        }
        if plan.buffers[input.buffer as usize].storage != Storage::Input(number as u32) {
            return bad(format!("the buffer of input `{}` is not the caller's", input.name));
        }
    }
    for (number, output) in plan.outputs.iter().enumerate() {
        check_decl(plan, output)?;
        match plan.buffers[output.buffer as usize].storage {
            Storage::Output(other) if other != number as u32 => {
                return bad(format!("the buffer of output `{}` is that of output {other}", output.name));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_decl(plan: &Plan, decl: &TensorDecl) -> Result<()> {
    check_buffer(plan, decl.buffer, &decl.name)?;
    decl.shape.iter().try_for_each(|&dim| check_expr(plan, dim, &decl.name))
}
