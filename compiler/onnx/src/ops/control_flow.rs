//! If and Loop: subgraphs as regions. An If whose condition is known at import becomes the branch it takes.

use xlac_ir::DType;
use xlac_ir::diag::Diagnostic;
use xlac_ir::dim::{Dim, Symbol};
use xlac_ir::graph::{RegionId, ValueId};
use xlac_ir::ops::{If, Loop, Op};
use xlac_ir::types::Type;

use crate::builder::Builder;
use crate::codes;
use crate::fail::{Res, ensure};
use crate::import::subgraph;
use crate::node::{Node, clean};
use crate::ops::{MANY, OnnxOp};
use crate::proto::GraphProto;

pub const OPS: &[OnnxOp] = &[
    OnnxOp::new("If", (1, 1), import_if).attrs(&["else_branch", "then_branch"]),
    OnnxOp::new("Loop", (0, MANY), import_loop).attrs(&["body"]),
];

fn import_if<'m>(n: &Node<'m>, b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    let condition = n.input(0)?;
    let (yes, no) = (n.graph("then_branch")?, n.graph("else_branch")?);
    let known = b.known_ints(condition);
    if let Some(&[c]) = known.as_deref() {
        return subgraph(if c != 0 { yes } else { no }, &[], b);
    }
    let equality = b.equalities.get(&condition).cloned();
    ensure!(b.dtype(condition) == DType::Bool, TYPES, "the condition has element type {}", b.dtype(condition));
    let condition = b.reshape(condition, &[])?;
    let (then_region, then_outputs) = branch(yes, b)?;
    let (else_region, else_outputs) = branch(no, b)?;
    let ranks = |b: &Builder, list: &[ValueId]| list.iter().map(|&v| b.rank(v)).collect::<Vec<_>>();
    if let (Some((left, right)), true) = (equality, ranks(b, &then_outputs) != ranks(b, &else_outputs)) {
        return assumed(b, yes, &left, &right);
    }
    ensure!(
        then_outputs.len() == else_outputs.len(),
        BRANCHES, "the branches give {} and {} results", then_outputs.len(), else_outputs.len()
    );
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut results = Vec::new();
    for (i, (&x, &y)) in then_outputs.iter().zip(&else_outputs).enumerate() {
        let (x, y) = (b.ty(x), b.ty(y));
        ensure!(x.dtype == y.dtype && x.rank() == y.rank(), BRANCHES, "result {i} is {x} in one branch and {y} in the other");
        let hint = n.proto.output.get(i).map_or("if", String::as_str);
        let mut shape = Vec::new();
        for (axis, (p, q)) in x.shape.iter().zip(&y.shape).enumerate() {
            if p == q {
                shape.push(p.clone());
            } else {
                let symbol = b.symbol(&format!("{}_d{axis}", clean(hint)));
                shape.push(Dim::sym(&symbol));
                symbols.push(symbol);
            }
        }
        results.push(Type::new(x.dtype, shape));
    }
    let regions = vec![then_region, else_region];
    let node = b.program.graph.add_typed(b.region, Op::If(If { symbols }), &[condition], regions, results, &b.loc);
    Ok(b.program.graph.node(node).outputs.clone())
}

/// `If (size == 1) Squeeze else Identity`: the ranks differ, so the model was meant for one case. That is assumed to be
/// the first, said so, and checked when the sizes are known.
fn assumed<'m>(b: &mut Builder<'m>, yes: &'m GraphProto, left: &Dim, right: &Dim) -> Res<Vec<ValueId>> {
    let message = format!("the branches give results of different rank; `{left}` is assumed to be {right}");
    let help = "set the symbolic dims with `--dim NAME=SIZE` to decide which branch is taken";
    b.warnings.push(Diagnostic::warning(codes::BRANCHES, message).help(help));
    b.equal(left, right, "the size that a branch was chosen by")?;
    subgraph(yes, &[], b)
}

fn branch<'m>(graph: &'m GraphProto, b: &mut Builder<'m>) -> Res<(RegionId, Vec<ValueId>)> {
    b.conditional += 1;
    let result = b.in_region(|b, region| {
        let outputs = subgraph(graph, &[], b)?;
        b.program.graph.region_mut(region).outputs = outputs.clone();
        Ok(outputs)
    });
    b.conditional -= 1;
    result
}

fn import_loop<'m>(n: &Node<'m>, b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    let body = n.graph("body")?;
    let trips = n.opt(0).map(|t| b.reshape(t, &[])).transpose()?;
    let condition = n.opt(1).map(|c| b.reshape(c, &[])).transpose()?;
    let carried: Vec<ValueId> = (2..n.inputs.len()).map(|i| n.input(i)).collect::<Res<_>>()?;
    let plan = Plan { trips, condition, carried: carried.clone(), hint: n.name.clone() };
    // A condition that is always true is none: the loop then runs a number of trips known before.
    let passes_condition = condition.is_some();
    run_loop(b, plan, |b, trip, carried| {
        let first = b.constant(xlac_ir::tensor::Tensor::scalar(xlac_ir::kernel::Const::bool(true)));
        let mut inputs = vec![trip, first];
        inputs.extend(carried);
        let outputs = subgraph(body, &inputs, b)?;
        ensure!(outputs.len() > carried.len(), SUBGRAPH, "the body gives {} results for {} carried values", outputs.len(), carried.len());
        let go_on = outputs[0];
        let always = !passes_condition && b.known_ints(go_on).is_some_and(|c| c == [1]);
        let go_on = if always { None } else { Some(b.reshape(go_on, &[])?) };
        Ok(Step { go_on, values: outputs[1..].to_vec() })
    })
}

/// What a loop starts with.
pub struct Plan {
    /// i64 scalar: the largest number of trips.
    pub trips: Option<ValueId>,
    /// bool scalar: whether to start at all.
    pub condition: Option<ValueId>,
    /// First values of what is carried.
    pub carried: Vec<ValueId>,
    /// What symbols are named after.
    pub hint: String,
}

/// What one trip gives.
pub struct Step {
    /// Whether to go on; none for always.
    pub go_on: Option<ValueId>,
    /// What is carried on, then the elements of scan outputs.
    pub values: Vec<ValueId>,
}

/// Adds a loop whose body is built by `f` from the trip number and the carried values.
pub fn run_loop<'m>(
    b: &mut Builder<'m>,
    plan: Plan,
    f: impl FnOnce(&mut Builder<'m>, ValueId, &[ValueId]) -> Res<Step>,
) -> Res<Vec<ValueId>> {
    let count = b.symbol(&format!("{}_trips", plan.hint));
    let types: Vec<Type> = plan.carried.iter().map(|&v| b.ty(v)).collect();
    let carried = plan.carried.len();
    let (region, step) = b.in_region(|b, region| {
        let trip = b.program.graph.add_input(region, Type::new(DType::I64, []), None);
        b.set_known(trip, &[Dim::sym(&count)]);
        let inputs: Vec<ValueId> = types.iter().map(|t| b.program.graph.add_input(region, t.clone(), None)).collect();
        let step = f(b, trip, &inputs)?;
        for (i, (ty, &v)) in types.iter().zip(&step.values).enumerate() {
            keeps_type(b, i, ty, v)?;
        }
        Ok(step)
    })?;
    let has_condition = plan.condition.is_some() || step.go_on.is_some();
    let always = |b: &mut Builder| b.constant(xlac_ir::tensor::Tensor::scalar(xlac_ir::kernel::Const::bool(true)));
    let mut outputs = Vec::new();
    let mut operands: Vec<ValueId> = plan.trips.into_iter().collect();
    if has_condition {
        outputs.push(step.go_on.unwrap_or_else(|| always(b)));
        operands.push(plan.condition.unwrap_or_else(|| always(b)));
    }
    operands.extend(&plan.carried);
    outputs.extend(&step.values);
    b.program.graph.region_mut(region).outputs = outputs;
    let mut results = types;
    for &v in &step.values[carried..] {
        let mut ty = b.ty(v);
        ty.shape.insert(0, Dim::sym(&count));
        results.push(ty);
    }
    let op = Op::Loop(Loop { trips: plan.trips.is_some(), cond: has_condition, carried, count: vec![count] });
    let node = b.program.graph.add_typed(b.region, op, &operands, vec![region], results, &b.loc);
    Ok(b.program.graph.node(node).outputs.clone())
}

/// Checks that a carried value leaves the body as it entered.
fn keeps_type(b: &mut Builder, i: usize, before: &Type, v: ValueId) -> Res<()> {
    let after = b.ty(v);
    let fits = before.dtype == after.dtype && before.rank() == after.rank();
    ensure!(fits, CARRIED, "carried value {i} is {before} before a trip and {after} after it");
    for (p, q) in before.shape.iter().zip(&after.shape) {
        let same = p == q || (p.as_symbol().is_some() && q.as_symbol().is_some());
        ensure!(same, CARRIED, "carried value {i} is {before} before a trip and {after} after it");
        b.equal(p, q, "a carried value keeps its shape")?;
    }
    Ok(())
}
