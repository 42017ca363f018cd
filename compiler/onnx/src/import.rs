//! Graphs to regions: scopes of names, and nodes in order.

use std::collections::HashMap;

use xlac_ir::diag::Diagnostic;
use xlac_ir::graph::{Loc, ValueId};

use crate::builder::Builder;
use crate::fail::{Res, bail, ensure};
use crate::node::{Node, clean, display_name};
use crate::proto::{GraphProto, NodeProto, SparseTensorProto, TensorProto};
use crate::{codes, functions, ops, shape_fold, sort, tensor_data};

/// Names of one graph.
#[derive(Default)]
pub struct Scope<'m>(HashMap<&'m str, Entry<'m>>);

/// What a name stands for.
#[derive(Clone, Copy)]
enum Entry<'m> {
    Value(ValueId),
    /// An initializer, made into a constant when it is first used.
    Initializer(&'m TensorProto),
    Sparse(&'m SparseTensorProto),
    /// An output of a node that could not be imported: users are skipped, so that each error is told once.
    Poisoned,
}

/// Enters the initializers of a graph into the innermost scope.
pub fn enter_initializers<'m>(graph: &'m GraphProto, b: &mut Builder<'m>) -> Res<()> {
    for t in &graph.initializer {
        ensure!(!t.name.is_empty(), BAD_NAME, "an initializer has no name");
        enter(b, &t.name, Entry::Initializer(t))?;
    }
    for t in &graph.sparse_initializer {
        let name = t.values.as_ref().map_or("", |v| v.name.as_str());
        ensure!(!name.is_empty(), BAD_NAME, "a sparse initializer has no name");
        enter(b, name, Entry::Sparse(t))?;
    }
    Ok(())
}

/// True if the name is an initializer of the innermost graph.
pub fn is_initializer(b: &Builder, name: &str) -> bool {
    let entry = b.scopes.last().and_then(|s| s.0.get(name));
    matches!(entry, Some(Entry::Initializer(_) | Entry::Sparse(_)))
}

/// Gives a value a name in the innermost scope.
pub fn define<'m>(b: &mut Builder<'m>, name: &'m str, v: ValueId) -> Res<()> { enter(b, name, Entry::Value(v)) }

fn enter<'m>(b: &mut Builder<'m>, name: &'m str, entry: Entry<'m>) -> Res<()> {
    let taken = b.scopes.iter().any(|s| s.0.contains_key(name));
    ensure!(!taken, DUPLICATE, "two values are called `{}`", clean(name));
    if let Some(scope) = b.scopes.last_mut() {
        scope.0.insert(name, entry);
    }
    Ok(())
}

/// The value of a name; none if it stems from a node that could not be imported.
pub fn lookup<'m>(b: &mut Builder<'m>, name: &str) -> Res<Option<ValueId>> {
    let found = b.scopes.iter().enumerate().rev().find_map(|(i, s)| s.0.get_key_value(name).map(|(k, e)| (i, *k, *e)));
    let Some((level, key, entry)) = found else { bail!(UNDEFINED, "`{}` is produced by nothing", clean(name)) };
    let budget = b.options.limits.tensor_bytes;
    let tensor = match entry {
        Entry::Value(v) => return Ok(Some(v)),
        Entry::Poisoned => return Ok(None),
        Entry::Initializer(t) => tensor_data::tensor(t, &mut b.external, budget),
        Entry::Sparse(t) => tensor_data::sparse(t, &mut b.external, budget),
    };
    let made = tensor.map(|t| b.named_constant(&clean(key), t));
    let entry = made.as_ref().map_or(Entry::Poisoned, |&v| Entry::Value(v));
    b.scopes[level].0.insert(key, entry);
    made.map(Some)
}

/// Imports the nodes of a graph into the current region. What is wrong with single nodes is collected.
pub fn nodes<'m>(graph: &'m GraphProto, b: &mut Builder<'m>) -> Res<()> {
    let (order, sorted) = sort::order(graph)?;
    if !sorted {
        let message = format!("the nodes of graph `{}` are not in topological order; sorted", clean(&graph.name));
        b.warnings.push(Diagnostic::warning(codes::UNSORTED, message));
    }
    for index in order {
        node(&graph.node[index], index, b);
    }
    Ok(())
}

fn node<'m>(proto: &'m NodeProto, index: usize, b: &mut Builder<'m>) {
    let domain = functions::domain(&proto.domain);
    let opset = functions::opset(proto).or_else(|| b.opsets.get(domain).copied()).unwrap_or(1);
    let mut node = Node { proto, opset, name: display_name(proto, index), inputs: Vec::new() };
    let outer = std::mem::replace(&mut b.loc, Loc::node(&node.name));
    let errors = b.errors.len();
    let result = run(&mut node, b);
    b.loc = outer;
    match result {
        Ok(Some(())) => {}
        Ok(None) => poison(proto, b),
        // Nodes inside of a subgraph have told why already.
        Err(_) if b.errors.len() > errors => poison(proto, b),
        Err(e) => {
            b.errors.push(e.at(node.reference()).into_diagnostic());
            poison(proto, b);
        }
    }
}

/// Imports one node; none if it depends on one that failed.
fn run<'m>(node: &mut Node<'m>, b: &mut Builder<'m>) -> Res<Option<()>> {
    let mut poisoned = false;
    for name in &node.proto.input {
        let value = if name.is_empty() { None } else { lookup(b, name)? };
        poisoned |= value.is_none() && !name.is_empty();
        node.inputs.push(value);
    }
    if poisoned {
        return Ok(None);
    }
    let outputs = match shape_fold::fold(node, b)? {
        Some(v) => vec![v],
        None => (ops::find(&node.proto.domain, &node.proto.op_type, node.opset)?.import)(node, b)?,
    };
    if let (Some(equality), &[v, ..]) = (shape_fold::equality(node, b), outputs.as_slice()) {
        b.equalities.insert(v, equality);
    }
    for (i, name) in node.proto.output.iter().enumerate() {
        if name.is_empty() {
            continue;
        }
        let Some(&v) = outputs.get(i) else { bail!(ARITY, "output {i} (`{}`) is not known", clean(name)) };
        define(b, name, v)?;
        let value = b.program.graph.value_mut(v);
        if value.name.is_none() {
            value.name = Some(name.as_str().into());
        }
    }
    Ok(Some(()))
}

fn poison<'m>(proto: &'m NodeProto, b: &mut Builder<'m>) {
    for name in proto.output.iter().filter(|n| !n.is_empty()) {
        // A name that is taken keeps its meaning: the clash itself is the error.
        _ = enter(b, name, Entry::Poisoned);
    }
}

/// Imports a subgraph whose inputs are `inputs` into the current region and returns its outputs.
pub fn subgraph<'m>(graph: &'m GraphProto, inputs: &[ValueId], b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    ensure!(b.scopes.len() <= b.options.limits.nesting, NESTING, "subgraphs are nested more than {} deep", b.options.limits.nesting);
    ensure!(
        graph.input.len() == inputs.len(),
        SUBGRAPH, "subgraph `{}` has {} inputs, expected {}", clean(&graph.name), graph.input.len(), inputs.len()
    );
    b.scopes.push(Scope::default());
    let result = subgraph_body(graph, inputs, b);
    b.scopes.pop();
    result
}

fn subgraph_body<'m>(graph: &'m GraphProto, inputs: &[ValueId], b: &mut Builder<'m>) -> Res<Vec<ValueId>> {
    for (info, &v) in graph.input.iter().zip(inputs) {
        define(b, &info.name, v)?;
    }
    enter_initializers(graph, b)?;
    let errors = b.errors.len();
    nodes(graph, b)?;
    let mut outputs = Vec::new();
    for output in &graph.output {
        match lookup(b, &output.name)? {
            Some(v) => outputs.push(v),
            None => bail!(SUBGRAPH, "output `{}` of the subgraph could not be imported", clean(&output.name)),
        }
    }
    ensure!(b.errors.len() == errors, SUBGRAPH, "the subgraph could not be imported");
    Ok(outputs)
}
