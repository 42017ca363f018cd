//! Text to graph.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{BODY, Constraint, Graph, Loc, Program, RegionId, ValueId};
use crate::lex::{ParseError, Token, Tokens};
use crate::op::{Attr, Attrs, InferError};
use crate::ops::{self, Op};
use crate::tensor::Tensor;
use crate::types::Type;

/// Gives the data of a weight from its name and type.
type Resolver<'a> = &'a mut dyn FnMut(&str, &Type) -> Option<Tensor>;

/// Regions and lists may be nested this deep.
const MAX_DEPTH: usize = 100;

/// Reads a program; the data of weights is made up by [`made_up_weight`].
pub fn parse(text: &str) -> Result<Program, ParseError> { parse_with(text, &mut made_up_weight) }

/// Reads a program; `resolve` gives the data of weights from their name and type.
pub fn parse_with(text: &str, resolve: &mut dyn FnMut(&str, &Type) -> Option<Tensor>) -> Result<Program, ParseError> {
    let tokens = Tokens::new(text)?;
    let mut p = Parser { tokens, program: Program::default(), names: BTreeMap::new(), resolve, depth: 0 };
    p.graph()?;
    p.program.graph.reserve_symbols();
    Ok(p.program)
}

/// Reads a type, `f32[N, 2]`.
pub fn parse_type(text: &str) -> Result<Type, ParseError> { whole(text, ty) }

/// Reads a dim, `2*N + 1`.
pub fn parse_dim(text: &str) -> Result<Dim, ParseError> { whole(text, |t| dim(t, 0)) }

fn whole<T>(text: &str, item: impl Fn(&mut Tokens) -> Result<T, ParseError>) -> Result<T, ParseError> {
    let mut tokens = Tokens::new(text)?;
    let found = item(&mut tokens)?;
    if *tokens.peek() == Token::End { Ok(found) } else { tokens.expected("the end") }
}

/// Data for a weight of this name and type: floats in -1..1, integers in -8..8, always the same. None for types that are
/// not fixed, not computed with, or larger than 1 GiB.
pub fn made_up_weight(name: &str, ty: &Type) -> Option<Tensor> {
    let shape = ty.fixed_shape().filter(|_| ty.dtype.in_kernels())?;
    let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
    ty.dtype.bytes_for(count).filter(|&b| b <= 1 << 30)?;
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let mut random = crate::random::Random::new(hasher.finish());
    Some(random.tensor(ty.dtype, shape))
}

struct Parser<'a> {
    tokens: Tokens,
    program: Program,
    names: BTreeMap<String, ValueId>,
    resolve: Resolver<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn graph(&mut self) -> Result<(), ParseError> {
        self.tokens.expect_word("graph")?;
        self.program.graph = Graph::new(&self.tokens.global()?);
        self.tokens.expect("(")?;
        self.region_inputs(BODY)?;
        self.tokens.expect("->")?;
        self.tokens.expect("(")?;
        let names = self.tokens.list(")", Tokens::value)?;
        self.program.graph.output_names = names.iter().map(|n| Arc::from(n.as_str())).collect();
        self.tokens.expect("{")?;
        while self.tokens.at_word("range") || self.tokens.at_word("constraint") {
            self.assumption()?;
        }
        self.region(BODY)?;
        if *self.tokens.peek() == Token::End { Ok(()) } else { self.tokens.expected("the end") }
    }

    /// `range N 1..64` or `constraint N <= 4 "why"`.
    fn assumption(&mut self) -> Result<(), ParseError> {
        if self.tokens.eat_word("range") {
            let symbol = symbol(&mut self.tokens)?;
            let lo = self.tokens.integer()?;
            self.tokens.expect("..")?;
            self.program.graph.ranges.push((symbol.into(), lo, self.tokens.integer()?));
            return Ok(());
        }
        self.tokens.expect_word("constraint")?;
        let left = dim(&mut self.tokens, 0)?;
        let equal = self.tokens.eat("==");
        if !equal {
            self.tokens.expect("<=")?;
        }
        let right = dim(&mut self.tokens, 0)?;
        let why = self.tokens.text()?;
        self.program.graph.constraints.push(Constraint { left, right, equal, why });
        Ok(())
    }

    /// `%x: f32[N], %0 "data:0": f32[])`, the opening parenthesis taken.
    fn region_inputs(&mut self, region: RegionId) -> Result<Vec<String>, ParseError> {
        let inputs = self.tokens.list(")", |t| {
            let name = t.value()?;
            let given = if matches!(t.peek(), Token::Text(_)) { Some(t.text()?) } else { None };
            t.expect(":")?;
            Ok((name, given, ty(t)?))
        })?;
        for (name, given, ty) in &inputs {
            let value = self.program.graph.add_input(region, ty.clone(), given.as_deref().or(onnx_name(name)));
            self.define(name, value)?;
        }
        Ok(inputs.into_iter().map(|(name, ..)| name).collect())
    }

    fn define(&mut self, name: &str, value: ValueId) -> Result<(), ParseError> {
        match self.names.insert(name.into(), value) {
            Some(_) => Err(ParseError { line: self.tokens.last_line(), message: format!("`%{name}` is defined twice") }),
            None => Ok(()),
        }
    }

    /// Nodes, `yield` and the closing brace. The names it defines end with it.
    fn region(&mut self, region: RegionId) -> Result<(), ParseError> {
        let mut defined = Vec::new();
        while !self.tokens.eat_word("yield") {
            defined.extend(self.node(region)?);
        }
        let outputs = self.operands()?;
        self.program.graph.region_mut(region).outputs = outputs;
        self.tokens.expect("}")?;
        defined.iter().for_each(|name| _ = self.names.remove(name));
        Ok(())
    }

    fn operands(&mut self) -> Result<Vec<ValueId>, ParseError> {
        let mut values = Vec::new();
        while let Token::Value(name) = self.tokens.peek() {
            let Some(&value) = self.names.get(name) else { return self.tokens.error(format!("`%{name}` is not defined")) };
            values.push(value);
            self.tokens.next();
            if !self.tokens.eat(",") {
                break;
            }
        }
        Ok(values)
    }

    /// One node; returns the names it defines.
    fn node(&mut self, region: RegionId) -> Result<Vec<String>, ParseError> {
        let mut names = Vec::new();
        while let Token::Value(_) = self.tokens.peek() {
            names.push(self.tokens.value()?);
            let sign = if matches!(self.tokens.peek_second(), Token::Value(_)) { "," } else { "=" };
            self.tokens.expect(sign)?;
        }
        let line = self.tokens.line();
        let mnemonic = self.tokens.ident()?;
        let id = if mnemonic == "weight" { self.weight(region)? } else { self.op(region, &mnemonic, line, names.len())? };
        let outputs = self.program.graph.node(id).outputs.clone();
        if outputs.len() != names.len() {
            return Err(ParseError { line, message: format!("{mnemonic} gives {} values", outputs.len()) });
        }
        for (name, value) in names.iter().zip(outputs) {
            self.program.graph.value_mut(value).name = onnx_name(name).map(Arc::from);
            self.define(name, value)?;
        }
        Ok(names)
    }

    /// `@fc.weight : f32[128, 10]`
    fn weight(&mut self, region: RegionId) -> Result<crate::graph::NodeId, ParseError> {
        let name = self.tokens.global()?;
        let line = self.tokens.last_line();
        self.tokens.expect(":")?;
        let ty = ty(&mut self.tokens)?;
        let Some(tensor) = (self.resolve)(&name, &ty) else {
            return Err(ParseError { line, message: format!("there is no weight `{name}` of type {ty}") });
        };
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        if tensor.ty() != ty {
            return Err(ParseError { line, message: format!("weight `{name}` has type {}, not {ty}", tensor.ty()) });
        }
        let id = self.program.weights.add(&name, tensor);
        let loc = self.loc();
        Ok(self.program.graph.add_typed(region, ops::Weight { id, dtype, shape }.into(), &[], Vec::new(), vec![ty], &loc))
    }

    /// Operands, attributes, types and regions.
    fn op(&mut self, region: RegionId, mnemonic: &str, line: usize, results: usize) -> Result<crate::graph::NodeId, ParseError> {
        let inputs = self.operands()?;
        let mut attrs = if self.tokens.eat("{") { attributes(&mut self.tokens)? } else { Attrs::new() };
        let op = Op::from_text(mnemonic, &mut attrs).map_err(|message| ParseError { line, message })?;
        if let Some(name) = attrs.keys().next() {
            return Err(ParseError { line, message: format!("{mnemonic} has no attribute `{name}`") });
        }
        let mut declared = Vec::new();
        if results > 0 {
            self.tokens.expect(":")?;
            declared.push(ty(&mut self.tokens)?);
            while self.tokens.eat(",") {
                declared.push(ty(&mut self.tokens)?);
            }
        }
        let regions = (0..op.regions()).map(|_| self.nested()).collect::<Result<Vec<_>, _>>()?;
        // The comment stands on the first line, where the last of the header is.
        let loc = if regions.is_empty() { self.loc() } else { self.loc_of(line) };
        let inferred = self.infer(&op, &inputs, &regions);
        let inferred = inferred.map_err(|e| ParseError { line, message: format!("{mnemonic}: {e}") })?;
        if inferred != declared {
            let (found, said) = (list(&inferred), list(&declared));
            return Err(ParseError { line, message: format!("{mnemonic} gives {found}, the text says {said}") });
        }
        Ok(self.program.graph.add_typed(region, op, &inputs, regions, declared, &loc))
    }

    fn infer(&self, op: &Op, inputs: &[ValueId], regions: &[RegionId]) -> Result<Vec<Type>, InferError> {
        let graph = &self.program.graph;
        let types = |values: &[ValueId]| -> Vec<Type> { values.iter().map(|&v| graph.ty(v).clone()).collect() };
        let given = |r: RegionId| types(&graph.region(r).outputs);
        match (op, regions) {
            (Op::If(op), &[then, els]) => op.result_types(&types(inputs), &given(then), &given(els)),
            (Op::Loop(op), &[body]) => op.result_types(&types(inputs), &types(&graph.region(body).inputs), &given(body)),
            _ => op.infer(&types(inputs)),
        }
    }

    /// A region of a node, with inputs if it has any.
    fn nested(&mut self) -> Result<RegionId, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.tokens.error("regions are nested too deep");
        }
        let region = self.program.graph.add_region();
        let inputs = if self.tokens.eat("(") { self.region_inputs(region)? } else { Vec::new() };
        self.tokens.expect("{")?;
        self.region(region)?;
        inputs.iter().for_each(|name| _ = self.names.remove(name));
        self.depth -= 1;
        Ok(region)
    }

    /// The origin in the comment after the token taken last.
    fn loc(&self) -> Loc { self.loc_of(self.tokens.last_line()) }

    fn loc_of(&self, line: usize) -> Loc {
        let comments = &self.tokens.comments;
        match comments.binary_search_by_key(&line, |c| c.line) {
            Ok(i) => Loc(origins(&comments[i].text)),
            Err(_) => Loc::default(),
        }
    }
}

/// The names in a comment: separated by commas, with odd ones in quotes.
fn origins(comment: &str) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    let mut rest = comment.trim_start();
    while !rest.is_empty() {
        let (name, length) = match crate::lex::leading_quoted(rest) {
            Some((name, length)) => (name, length),
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                (rest[..length].trim_end().into(), length)
            }
        };
        names.push(name.into());
        rest = rest[length..].trim_start().trim_start_matches(',').trim_start();
    }
    names
}

/// The ONNX name a value's name in the text stands for; numbers stand for none.
fn onnx_name(name: &str) -> Option<&str> { (!name.bytes().all(|b| b.is_ascii_digit())).then_some(name) }

fn list(types: &[Type]) -> String {
    if types.is_empty() { "nothing".into() } else { types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ") }
}

fn ty(t: &mut Tokens) -> Result<Type, ParseError> {
    let Token::Ident(name) = t.peek() else { return t.expected("a type") };
    let Some(dtype) = DType::from_name(name) else { return t.error(format!("no element type is called `{name}`")) };
    t.next();
    t.expect("[")?;
    Ok(Type::new(dtype, t.list("]", |t| dim(t, 0))?))
}

fn symbol(t: &mut Tokens) -> Result<String, ParseError> {
    if matches!(t.peek(), Token::Text(_)) { t.text() } else { t.ident() }
}

/// A sum of products.
fn dim(t: &mut Tokens, depth: usize) -> Result<Dim, ParseError> {
    if depth > MAX_DEPTH {
        return t.error("the dim is nested too deep");
    }
    let mut sum = product(t, depth)?;
    loop {
        // A sign belongs to the product after it, so that the smallest integer can be read.
        let plus = t.eat("+");
        if !plus && !t.at("-") {
            return Ok(sum);
        }
        sum = &sum + &product(t, depth)?;
    }
}

fn product(t: &mut Tokens, depth: usize) -> Result<Dim, ParseError> {
    let number_follows = matches!(t.peek_second(), Token::Number(_));
    let negative = !number_follows && t.eat("-");
    let mut product = factor(t, depth)?;
    while t.eat("*") {
        product = &product * &factor(t, depth)?;
    }
    Ok(if negative { &Dim::ZERO - &product } else { product })
}

fn factor(t: &mut Tokens, depth: usize) -> Result<Dim, ParseError> {
    match t.peek().clone() {
        Token::Number(_) | Token::Punct("-") => t.integer().map(Dim::from),
        Token::Text(_) => t.text().map(|s| Dim::sym(&s)),
        Token::Ident(name) => {
            let called = *t.peek_second() == Token::Punct("(");
            t.next();
            let function: fn(&Dim, &Dim) -> Dim = match name.as_str() {
                symbol if !called => return Ok(Dim::sym(symbol)),
                "floordiv" => Dim::floor_div,
                "mod" => Dim::rem,
                "min" => Dim::at_most,
                "max" => Dim::at_least,
                _ => return t.error(format!("no function of dims is called `{name}`")),
            };
            t.expect("(")?;
            let a = dim(t, depth + 1)?;
            t.expect(",")?;
            let b = dim(t, depth + 1)?;
            t.expect(")")?;
            Ok(function(&a, &b))
        }
        Token::Punct("(") => {
            t.next();
            let inner = dim(t, depth + 1)?;
            t.expect(")")?;
            Ok(inner)
        }
        _ => t.expected("a dim"),
    }
}

/// `name = value, ...}`, the opening brace taken.
fn attributes(t: &mut Tokens) -> Result<Attrs, ParseError> {
    let mut attrs = Attrs::new();
    let pairs = t.list("}", |t| {
        let name = t.ident()?;
        t.expect("=")?;
        let value = if t.eat("[") { attribute_list(t)? } else { scalar_attribute(t)? };
        Ok((name, value))
    })?;
    for (name, value) in pairs {
        if attrs.insert(name.clone(), value).is_some() {
            return t.error(format!("attribute `{name}` is given twice"));
        }
    }
    Ok(attrs)
}

fn scalar_attribute(t: &mut Tokens) -> Result<Attr, ParseError> {
    if let Some(x) = float(t) {
        return Ok(Attr::Float(x));
    }
    match t.peek().clone() {
        Token::Number(_) | Token::Punct("-") => t.integer().map(Attr::Int),
        Token::Text(_) => t.text().map(Attr::Str),
        Token::Ident(word) => {
            t.next();
            Ok(match word.as_str() {
                "true" => Attr::Bool(true),
                "false" => Attr::Bool(false),
                _ => Attr::Str(word),
            })
        }
        _ => t.expected("an attribute"),
    }
}

/// A number with a fraction or an exponent, `inf` or `nan`, with its sign; nothing is taken otherwise.
fn float(t: &mut Tokens) -> Option<f64> {
    let negative = t.at("-");
    let token = if negative { t.peek_second() } else { t.peek() };
    let x: f64 = match token {
        Token::Number(s) if !s.starts_with("0x") && s.contains(['.', 'e', 'E']) => s.parse().ok()?,
        Token::Ident(s) if s == "inf" => f64::INFINITY,
        Token::Ident(s) if s == "nan" => f64::NAN,
        _ => return None,
    };
    t.next();
    if negative {
        t.next();
    }
    Some(if negative { -x } else { x })
}

/// Floats, integers, words, or dims: whatever all of the elements are.
fn attribute_list(t: &mut Tokens) -> Result<Attr, ParseError> {
    enum Item {
        Float(f64),
        Dim(Dim),
    }
    let items = t.list("]", |t| match float(t) {
        Some(x) => Ok(Item::Float(x)),
        None => dim(t, 0).map(Item::Dim),
    })?;
    if items.iter().any(|i| matches!(i, Item::Float(_))) {
        let floats = items.iter().map(|i| match i {
            Item::Float(x) => Some(*x),
            Item::Dim(d) => d.as_const().map(|c| c as f64),
        });
        return match floats.collect() {
            Some(floats) => Ok(Attr::Floats(floats)),
            None => t.error("a list has numbers with a fraction and names"),
        };
    }
    let dims: Vec<Dim> = items.into_iter().filter_map(|i| if let Item::Dim(d) = i { Some(d) } else { None }).collect();
    if let Some(ints) = dims.iter().map(Dim::as_const).collect() {
        return Ok(Attr::Ints(ints));
    }
    let words: Option<Vec<String>> = dims.iter().map(|d| d.as_symbol().map(|s| s.to_string())).collect();
    Ok(words.map_or(Attr::Dims(dims), Attr::Strs))
}
