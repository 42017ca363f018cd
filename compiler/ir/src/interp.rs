//! Runs graphs, op by op, with the reference evaluation of each: what every target is held to.
//!
//! Values are freed after their last use. Symbols get their values from the shapes of the inputs, from `bind` and
//! `non_zero`, from the results of `if` and from the trips of `loop`; a constraint is checked as soon as the symbols in it
//! have values. The program must be valid: see [`crate::verify`].

use std::collections::{BTreeSet, HashMap};

use crate::dim::{Dim, Symbol};
use crate::graph::{BODY, Constraint, Graph, Loc, Node, NodeId, Program, RegionId, ValueId};
use crate::kernel::Const;
use crate::op::{EvalCx, EvalError};
use crate::ops::{self, Op};
use crate::tensor::Tensor;
use crate::types::Type;

mod liveness;

use liveness::Liveness;

/// Who watches a run: called with a value and what it became.
pub type Observer<'a> = dyn FnMut(ValueId, &Tensor) + 'a;

/// Limits of a run, and who watches it.
pub struct Options<'a> {
    /// Trips of all loops together.
    pub fuel: u64,
    /// Bytes of values alive at once, weights not included; none for no limit.
    pub memory: Option<usize>,
    /// Called with every value as it is computed, in loops once for each trip.
    pub observer: Option<&'a mut Observer<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self { Options { fuel: 10_000_000, memory: None, observer: None } }
}

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", prefix(loc))]
pub struct RunError {
    /// What kind of thing happened.
    pub kind: RunErrorKind,
    /// The node it happened in; empty if it is about the inputs.
    pub loc: Loc,
    /// Lower case, no final stop, names in backticks.
    pub message: String,
}

/// Kinds of [`RunError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunErrorKind {
    /// The inputs do not fit the graph.
    Input,
    /// An assumption about symbols does not hold.
    Constraint,
    /// An op could not be evaluated: an index out of range, a shape that does not fit.
    Eval,
    /// A limit of [`Options`] was reached.
    Limit,
    /// A mistake in the compiler: a value does not have the type it was given.
    Internal,
}

fn prefix(loc: &Loc) -> String {
    if loc.0.is_empty() { String::new() } else { format!("node `{}`: ", loc.0.join("`, `")) }
}

/// The outputs of a program for its inputs, in order.
pub fn run(program: &Program, inputs: &[Tensor], options: Options) -> Result<Vec<Tensor>, RunError> {
    let mut run = Run::new(program, options);
    run.bind_inputs(inputs)?;
    run.check_constraints(None, &Loc::default())?;
    run.region(BODY, inputs.to_vec(), &Loc::default())
}

/// The values of the symbols in the shapes of the inputs.
pub fn bind_symbols(graph: &Graph, shapes: &[Vec<usize>]) -> Result<HashMap<Symbol, i64>, String> {
    let types: Vec<&Type> = graph.inputs().iter().map(|&v| graph.ty(v)).collect();
    if types.len() != shapes.len() {
        return Err(format!("{} inputs are needed, {} are given", types.len(), shapes.len()));
    }
    let mut symbols: HashMap<Symbol, i64> = HashMap::new();
    for (ty, shape) in types.iter().zip(shapes) {
        for (dim, &size) in ty.shape.iter().zip(shape) {
            if let Some(symbol) = dim.as_symbol() {
                symbols.entry(symbol.clone()).or_insert(size as i64);
            }
        }
    }
    for ((&value, ty), shape) in graph.inputs().iter().zip(&types).zip(shapes) {
        let name = graph.value(value).name.as_deref().unwrap_or("");
        if ty.rank() != shape.len() {
            return Err(format!("input `{name}` has rank {}, {ty} is needed", shape.len()));
        }
        for (axis, (dim, &size)) in ty.shape.iter().zip(shape).enumerate() {
            match dim.eval(&|s| symbols.get(s).copied()) {
                Some(x) if x == size as i64 => {}
                Some(x) if dim.as_const().is_some() => {
                    return Err(format!("axis {axis} of input `{name}` has size {size}, {x} is needed"));
                }
                Some(x) => {
                    return Err(format!("axis {axis} of input `{name}` has size {size}, but `{dim}` is {x} elsewhere"));
                }
                None => return Err(format!("axis {axis} of input `{name}` does not say what is in `{dim}`")),
            }
        }
    }
    for (symbol, low, high) in &graph.ranges {
        if let Some(x) = symbols.get(symbol).filter(|x| !(low..=high).contains(x)) {
            return Err(format!("`{symbol}` is {x}, outside of {low}..={high}"));
        }
    }
    Ok(symbols)
}

/// A run in progress.
struct Run<'a, 'o> {
    program: &'a Program,
    options: Options<'o>,
    liveness: Liveness,
    symbols: HashMap<Symbol, i64>,
    /// Constraints by the symbols in them.
    constraints: HashMap<Symbol, Vec<&'a Constraint>>,
    values: Vec<Option<Tensor>>,
    /// Bytes of `values` and of scan outputs being collected.
    bytes: usize,
    /// Symbols bound since the innermost region was entered.
    bound: Vec<Symbol>,
}

impl<'a, 'o> Run<'a, 'o> {
    fn new(program: &'a Program, options: Options<'o>) -> Run<'a, 'o> {
        let graph = &program.graph;
        let mut constraints: HashMap<Symbol, Vec<&Constraint>> = HashMap::new();
        for constraint in &graph.constraints {
            let mut symbols = BTreeSet::new();
            constraint.left.symbols(&mut symbols);
            constraint.right.symbols(&mut symbols);
            for symbol in symbols {
                constraints.entry(symbol).or_default().push(constraint);
            }
        }
        Run {
            program,
            options,
            liveness: Liveness::new(graph),
            symbols: HashMap::new(),
            constraints,
            values: vec![None; graph.value_count()],
            bytes: 0,
            bound: Vec::new(),
        }
    }

    fn bind_inputs(&mut self, inputs: &[Tensor]) -> Result<(), RunError> {
        let graph = &self.program.graph;
        let error = |message| RunError { kind: RunErrorKind::Input, loc: Loc::default(), message };
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.shape.clone()).collect();
        self.symbols = bind_symbols(graph, &shapes).map_err(error)?;
        for (&value, tensor) in graph.inputs().iter().zip(inputs) {
            let expected = graph.ty(value).dtype;
            if tensor.dtype != expected {
                let name = graph.value(value).name.as_deref().unwrap_or("");
                return Err(error(format!("input `{name}` has elements of type {}, not {expected}", tensor.dtype)));
            }
        }
        Ok(())
    }

    /// Gives a symbol its value.
    fn bind(&mut self, symbol: &Symbol, value: i64, loc: &Loc) -> Result<(), RunError> {
        if self.symbols.insert(symbol.clone(), value).is_none() {
            self.bound.push(symbol.clone());
        }
        self.check_constraints(Some(symbol), loc)
    }

    /// Checks the constraints about a symbol, or all, as far as the symbols in them have values.
    fn check_constraints(&self, symbol: Option<&Symbol>, loc: &Loc) -> Result<(), RunError> {
        let all: Vec<&Constraint>;
        let constraints = match symbol {
            Some(s) => self.constraints.get(s).map_or(&[][..], Vec::as_slice),
            None => {
                all = self.program.graph.constraints.iter().collect();
                &all
            }
        };
        for c in constraints {
            let value = |d: &Dim| d.eval(&|s| self.symbols.get(s).copied());
            let (Some(left), Some(right)) = (value(&c.left), value(&c.right)) else { continue };
            let holds = if c.equal { left == right } else { left <= right };
            if !holds {
                let relation = if c.equal { "==" } else { "<=" };
                let message = format!("{}: `{} {relation} {}` is {left} {relation} {right}", c.why, c.left, c.right);
                return Err(RunError { kind: RunErrorKind::Constraint, loc: loc.clone(), message });
            }
        }
        Ok(())
    }

    /// Runs a region and gives its outputs; what it computes and binds is forgotten.
    fn region(&mut self, region: RegionId, inputs: Vec<Tensor>, loc: &Loc) -> Result<Vec<Tensor>, RunError> {
        let program = self.program;
        let r = program.graph.region(region);
        let outer = std::mem::take(&mut self.bound);
        for (&value, tensor) in r.inputs.iter().zip(inputs) {
            self.define(value, tensor, loc)?;
        }
        self.free(self.liveness.unused_inputs(region));
        for (at, &node) in r.nodes.iter().enumerate() {
            self.node(node)?;
            self.free(self.liveness.dying(region, at));
        }
        let outputs = r.outputs.iter().map(|&v| self.value(v, loc)).collect::<Result<_, _>>();
        self.free(self.liveness.defined(region));
        for symbol in std::mem::replace(&mut self.bound, outer) {
            self.symbols.remove(&symbol);
        }
        outputs
    }

    fn node(&mut self, id: NodeId) -> Result<(), RunError> {
        let program = self.program;
        let node = program.graph.node(id);
        let inputs = node.inputs.iter().map(|&v| self.value(v, &node.loc)).collect::<Result<Vec<_>, _>>()?;
        self.reserve(node)?;
        let results = match &node.op {
            Op::Weight(w) if (w.id.0 as usize) < program.weights.len() => {
                vec![program.weights.get(w.id).tensor.clone()]
            }
            Op::Bind(op) => {
                self.bind_sizes(&op.symbols, &inputs, &node.loc)?;
                Vec::new()
            }
            Op::If(op) => self.branch(op, node, &inputs)?,
            Op::Loop(op) => self.repeat(op, node, inputs)?,
            op => {
                let symbols = |s: &str| self.symbols.get(s).copied();
                let error = |EvalError(e)| {
                    let message = format!("{}: {e}", op.mnemonic());
                    RunError { kind: RunErrorKind::Eval, loc: node.loc.clone(), message }
                };
                op.eval(&inputs, &EvalCx { symbols: &symbols }).map_err(error)?
            }
        };
        if let (Op::NonZero(op), [positions]) = (&node.op, results.as_slice()) {
            self.bind(&op.count[0], positions.shape[1] as i64, &node.loc)?;
        }
        if results.len() != node.outputs.len() {
            let (given, expected) = (results.len(), node.outputs.len());
            return Err(internal(&node.loc, format!("{} gives {given} results, not {expected}", node.op.mnemonic())));
        }
        for (&value, tensor) in node.outputs.iter().zip(results) {
            self.define(value, tensor, &node.loc)?;
        }
        Ok(())
    }

    /// Fails if the results of a node would go over the memory limit, as far as their sizes are known.
    fn reserve(&self, node: &Node) -> Result<(), RunError> {
        let Some(limit) = self.options.memory else { return Ok(()) };
        let graph = &self.program.graph;
        let size = |&v: &ValueId| {
            let ty = graph.ty(v);
            let count = ty.elements().eval(&|s| self.symbols.get(s).copied())?;
            ty.dtype.bytes_for(usize::try_from(count).ok()?)
        };
        let weight = matches!(node.op, Op::Weight(_));
        let needed = node.outputs.iter().filter_map(size).fold(self.bytes, usize::saturating_add);
        if !weight && needed > limit { Err(over(&node.loc, needed, limit)) } else { Ok(()) }
    }

    fn bind_sizes(&mut self, symbols: &[Symbol], inputs: &[Tensor], loc: &Loc) -> Result<(), RunError> {
        let sizes = inputs.first().map(Tensor::to_i64).unwrap_or_default();
        for (symbol, size) in symbols.iter().zip(sizes) {
            if size < 0 {
                let message = format!("the size `{symbol}` is {size}");
                return Err(RunError { kind: RunErrorKind::Eval, loc: loc.clone(), message });
            }
            self.bind(symbol, size, loc)?;
        }
        Ok(())
    }

    fn branch(&mut self, op: &ops::If, node: &Node, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let taken = inputs.first().is_some_and(|t| !t.is_empty() && t.get(0).bits != 0);
        let results = self.region(node.regions[usize::from(!taken)], Vec::new(), &node.loc)?;
        let graph = &self.program.graph;
        for (&value, tensor) in node.outputs.iter().zip(&results) {
            for (dim, &size) in graph.ty(value).shape.iter().zip(&tensor.shape) {
                if let Some(symbol) = dim.as_symbol().filter(|s| op.symbols.contains(s)) {
                    self.bind(symbol, size as i64, &node.loc)?;
                }
            }
        }
        Ok(results)
    }

    fn repeat(&mut self, op: &ops::Loop, node: &Node, mut inputs: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
        let scalar = |t: Tensor| if t.is_empty() { 0 } else { t.get(0).as_i64() };
        let trips = if op.trips { scalar(inputs.remove(0)) } else { i64::MAX };
        let mut go_on = if op.cond { scalar(inputs.remove(0)) != 0 } else { true };
        let mut carried = inputs;
        let mut scans: Vec<Vec<Tensor>> = vec![Vec::new(); node.outputs.len() - op.carried];
        let (mut trip, before) = (0, self.bytes);
        while go_on && trip < trips {
            let Some(fuel) = self.options.fuel.checked_sub(1) else {
                let message = format!("the loop did not end: the limit on trips was reached after {trip}");
                return Err(RunError { kind: RunErrorKind::Limit, loc: node.loc.clone(), message });
            };
            self.options.fuel = fuel;
            self.bind(&op.count[0], trip, &node.loc)?;
            let arguments = [vec![Tensor::scalar(Const::i64(trip))], carried].concat();
            let mut results = self.region(node.regions[0], arguments, &node.loc)?;
            if op.cond {
                go_on = scalar(results.remove(0)) != 0;
            }
            let elements = results.split_off(op.carried);
            carried = results;
            for (scan, element) in scans.iter_mut().zip(elements) {
                self.account(element.data.len(), &node.loc)?;
                scan.push(element);
            }
            trip += 1;
        }
        self.bind(&op.count[0], trip, &node.loc)?;
        self.bytes = before;
        for (scan, &value) in scans.iter().zip(&node.outputs[op.carried..]) {
            carried.push(self.stack(scan, self.program.graph.ty(value), &node.loc)?);
        }
        Ok(carried)
    }

    /// The elements of a scan output along a new first axis.
    fn stack(&self, elements: &[Tensor], ty: &Type, loc: &Loc) -> Result<Tensor, RunError> {
        let symbols = |s: &str| self.symbols.get(s).copied();
        let cx = EvalCx { symbols: &symbols };
        let shape = cx.shape(&ty.shape).map_err(|EvalError(message)| internal(loc, message))?;
        if let Some(odd) = elements.iter().find(|t| t.dtype != ty.dtype || t.shape != shape[1..]) {
            return Err(internal(loc, format!("a scan output of type {} became {}", ty, odd.ty())));
        }
        let cells: Vec<_> = elements.iter().map(Tensor::cells).collect();
        Ok(Tensor::from_cells(ty.dtype, shape, cells.concat()))
    }

    fn value(&self, value: ValueId, loc: &Loc) -> Result<Tensor, RunError> {
        self.values[value.0 as usize].clone().ok_or_else(|| internal(loc, format!("value {} is not computed", value.0)))
    }

    /// Stores a value, after a check against its type.
    fn define(&mut self, value: ValueId, tensor: Tensor, loc: &Loc) -> Result<(), RunError> {
        let ty = self.program.graph.ty(value);
        let sizes: Option<Vec<i64>> = ty.shape.iter().map(|d| d.eval(&|s| self.symbols.get(s).copied())).collect();
        let same = sizes.is_some_and(|s| s.iter().copied().eq(tensor.shape.iter().map(|&d| d as i64)));
        if tensor.dtype != ty.dtype || !same {
            return Err(internal(loc, format!("a value of type {ty} became {}", tensor.ty())));
        }
        if let Some(observer) = &mut self.options.observer {
            observer(value, &tensor);
        }
        if self.program.graph.weight(value).is_none() {
            self.account(tensor.data.len(), loc)?;
        }
        self.values[value.0 as usize] = Some(tensor);
        Ok(())
    }

    fn account(&mut self, bytes: usize, loc: &Loc) -> Result<(), RunError> {
        self.bytes += bytes;
        match self.options.memory {
            Some(limit) if self.bytes > limit => Err(over(loc, self.bytes, limit)),
            _ => Ok(()),
        }
    }

    fn free(&mut self, values: Vec<ValueId>) {
        for value in values {
            let weight = self.program.graph.weight(value).is_some();
            match self.values[value.0 as usize].take() {
                Some(tensor) if !weight => self.bytes = self.bytes.saturating_sub(tensor.data.len()),
                _ => {}
            }
        }
    }
}

fn internal(loc: &Loc, message: String) -> RunError {
    RunError { kind: RunErrorKind::Internal, loc: loc.clone(), message: format!("{message}; this is a bug in xlac") }
}

fn over(loc: &Loc, needed: usize, limit: usize) -> RunError {
    let message = format!("{needed} bytes are needed, the limit is {limit}");
    RunError { kind: RunErrorKind::Limit, loc: loc.clone(), message }
}

#[cfg(test)]
mod tests;
