//! Reads the text form of kernels.

use std::collections::HashMap;

use super::*;
use crate::lex::Tokens;

mod matrix;

/// Reads one kernel.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut kernels = parse_all(text)?;
    match kernels.len() {
        1 => Ok(kernels.remove(0)),
        n => Err(ParseError { line: 1, message: format!("expected one kernel, found {n}") }),
    }
}

/// Reads any number of kernels.
pub fn parse_all(text: &str) -> Result<Vec<Kernel>, ParseError> {
    let mut tokens = Tokens::new(text)?;
    let mut kernels = Vec::new();
    while tokens.at_word("kernel") {
        kernels.push(kernel(&mut tokens)?);
    }
    if *tokens.peek() == crate::lex::Token::End { Ok(kernels) } else { tokens.expected("`kernel`") }
}

fn kernel(t: &mut Tokens) -> Result<Kernel, ParseError> {
    t.expect_word("kernel")?;
    let name = t.global()?;
    t.expect("(")?;
    let params = t.list(")", param)?;
    let dims = match t.eat_word("dims") {
        true => {
            t.expect("(")?;
            t.list(")", word)?
        }
        false => Vec::new(),
    };
    let empty = Kernel {
        name,
        params,
        dims,
        scratch: Vec::new(),
        threads: 1,
        values: Vec::new(),
        body: Block::default(),
        notes: Vec::new(),
    };
    let mut p = Parser { t, kernel: empty, names: HashMap::new(), buffers: HashMap::new() };
    if p.t.eat_word("threads") {
        p.t.expect("(")?;
        p.kernel.threads = small(p.t)?;
        p.t.expect(")")?;
    }
    if p.t.eat_word("scratch") {
        p.t.expect("(")?;
        let dims = p.kernel.dims.clone();
        p.kernel.scratch = p.t.list(")", |t| scratch(t, &dims))?;
    }
    p.name_buffers()?;
    p.t.expect("{")?;
    let first = p.t.last_line();
    p.kernel.body = p.block()?.0;
    let lines = first..=p.t.last_line();
    let notes = p.t.comments.iter().filter(|c| lines.contains(&c.line)).map(|c| c.text.clone());
    p.kernel.notes = notes.collect();
    Ok(p.kernel)
}

fn param(t: &mut Tokens) -> Result<Param, ParseError> {
    let name = t.value()?;
    t.expect(":")?;
    let dtype = dtype(t)?;
    let found = [Access::Read, Access::Write, Access::ReadWrite].into_iter().find(|a| t.at_word(access_name(*a)));
    let Some(access) = found else { return t.expected("`read`, `write` or `readwrite`") };
    t.next();
    let noalias = t.eat_word("noalias");
    let align = if t.eat_word("align") { small(t)? } else { 1 };
    Ok(Param { name, dtype, access, noalias, align })
}

fn scratch(t: &mut Tokens, dims: &[String]) -> Result<Scratch, ParseError> {
    let name = t.value()?;
    t.expect(":")?;
    let dtype = dtype(t)?;
    t.expect("[")?;
    let len = match t.peek() {
        crate::lex::Token::Number(_) => ScratchLen::Const(small(t)?),
        _ => ScratchLen::Dim(dim(t, dims)?),
    };
    t.expect("]")?;
    let space = if t.eat_word("shared") { Space::Shared } else { Space::Private };
    Ok(Scratch { name, dtype, len, space })
}

/// A name that is quoted unless it is an identifier.
fn word(t: &mut Tokens) -> Result<String, ParseError> {
    if let crate::lex::Token::Text(_) = t.peek() { t.text() } else { t.ident() }
}

/// The index of a dim given by name.
fn dim(t: &mut Tokens, dims: &[String]) -> Result<u32, ParseError> {
    let line = t.line();
    let name = word(t)?;
    match dims.iter().position(|d| *d == name) {
        Some(i) => Ok(i as u32),
        None => Err(ParseError { line, message: format!("there is no dim `{name}`") }),
    }
}

fn dtype(t: &mut Tokens) -> Result<DType, ParseError> {
    let ty = vtype(t)?;
    if ty.lanes == 1 { Ok(ty.dtype) } else { t.error("expected a type of one lane") }
}

/// `f32` or `f32x16`.
fn vtype(t: &mut Tokens) -> Result<VType, ParseError> {
    let line = t.line();
    let text = t.ident()?;
    let (dtype, lanes) = text.rsplit_once('x').unwrap_or((&text, "1"));
    match (DType::from_name(dtype), lanes.parse()) {
        (Some(dtype), Ok(lanes)) => Ok(VType { dtype, lanes }),
        _ => Err(ParseError { line, message: format!("`{text}` is not a type") }),
    }
}

/// A number without sign, such as a lane.
fn small<T: TryFrom<i64>>(t: &mut Tokens) -> Result<T, ParseError> {
    let line = t.line();
    let x = t.integer()?;
    T::try_from(x).map_err(|_| ParseError { line, message: format!("{x} is out of range") })
}

struct Parser<'a> {
    t: &'a mut Tokens,
    kernel: Kernel,
    /// Values by name.
    names: HashMap<String, Val>,
    /// Buffers by name.
    buffers: HashMap<String, Buf>,
}

/// Where an access goes: buffer, index, offset, stride.
type Place = (Buf, Val, i64, Option<Val>);

impl Parser<'_> {
    fn name_buffers(&mut self) -> Result<(), ParseError> {
        let k = &self.kernel;
        let params = k.params.iter().enumerate().map(|(i, p)| (&p.name, Buf::Param(i as u32)));
        let scratch = k.scratch.iter().enumerate().map(|(i, s)| (&s.name, Buf::Scratch(i as u32)));
        for (name, buf) in params.chain(scratch) {
            if self.buffers.insert(name.clone(), buf).is_some() {
                return self.t.error(format!("two buffers are named `%{name}`"));
            }
        }
        Ok(())
    }

    /// The statements up to `}`, which is taken, and what they yield.
    fn block(&mut self) -> Result<(Block, Vec<Val>), ParseError> {
        let mut stmts = Vec::new();
        let mut yields = Vec::new();
        loop {
            if self.t.eat("}") {
                return Ok((Block(stmts), yields));
            }
            if self.t.eat_word("yield") {
                yields = self.operands()?;
                self.t.expect("}")?;
                return Ok((Block(stmts), yields));
            }
            stmts.push(self.stmt()?);
        }
    }

    fn stmt(&mut self) -> Result<Stmt, ParseError> {
        if self.t.eat_word("store") {
            return self.store();
        }
        if self.t.eat_word("prefetch") {
            let (buf, index, offset) = self.place_without_stride()?;
            return Ok(Stmt::Prefetch { buf, index, offset });
        }
        if self.t.eat_word("matrix_store") {
            return Ok(Stmt::MatrixStore(self.matrix_store()?));
        }
        if self.t.eat_word("for") {
            return self.for_loop();
        }
        if self.t.eat_word("if") {
            return self.branch();
        }
        if self.t.eat_word("check") {
            let cond = self.value()?;
            self.t.expect(",")?;
            self.t.expect_word("code")?;
            return Ok(Stmt::Check { cond, code: small(self.t)? });
        }
        if let Some(stmt) = self.team_stmt()? {
            return Ok(Stmt::Team(stmt));
        }
        let name = self.t.value()?;
        self.t.expect("=")?;
        self.definition(name)
    }

    fn team_stmt(&mut self) -> Result<Option<TeamStmt>, ParseError> {
        Ok(Some(if self.t.eat_word("barrier") {
            TeamStmt::Barrier
        } else if self.t.eat_word("copy_commit") {
            TeamStmt::CopyCommit
        } else if self.t.eat_word("copy_wait") {
            TeamStmt::CopyWait(small(self.t)?)
        } else if self.t.eat_word("copy_async") {
            let (to, to_index, to_offset) = self.place_without_stride()?;
            self.t.expect(",")?;
            let (from, from_index, from_offset) = self.place_without_stride()?;
            self.t.expect(",")?;
            let lanes = small(self.t)?;
            let count = self.count()?;
            TeamStmt::CopyAsync { to, to_index, to_offset, from, from_index, from_offset, lanes, count }
        } else {
            return Ok(None);
        }))
    }

    fn team_instr(&mut self, mnemonic: &str) -> Result<Option<TeamInstr>, ParseError> {
        let lane = |make: fn(u32) -> Lane| move |(a, n): (Val, u32)| TeamInstr::Shuffle(make(n), a);
        Ok(Some(match mnemonic {
            "thread" => TeamInstr::Thread,
            "shuffle_xor" => self.lane().map(lane(Lane::Xor))?,
            "shuffle_down" => self.lane().map(lane(Lane::Down))?,
            "shuffle_index" => self.lane().map(lane(Lane::Index))?,
            "mma" => self.exactly().map(|[a, b, c]| TeamInstr::Mma { a, b, c })?,
            "load_matrix" | "load_matrix_transposed" => {
                let (buf, index, offset) = self.place_without_stride()?;
                TeamInstr::LoadMatrix { buf, index, offset, transposed: mnemonic != "load_matrix" }
            }
            _ => return Ok(None),
        }))
    }

    /// `mnemonic operands : type`.
    fn definition(&mut self, name: String) -> Result<Stmt, ParseError> {
        let line = self.t.line();
        let mnemonic = self.t.ident()?;
        if mnemonic == "const" {
            let text = number::take(self.t)?;
            let ty = self.colon_type()?;
            let Some(c) = number::parse_text(&text, ty.dtype) else {
                return Err(ParseError { line, message: format!("`{text}` is not a number of type {}", ty.dtype) });
            };
            return Ok(Stmt::Let(self.define(name, ty)?, Instr::Const(c)));
        }
        let instr = self.instr(&mnemonic, line)?;
        let ty = self.colon_type()?;
        Ok(Stmt::Let(self.define(name, ty)?, instr))
    }

    fn instr(&mut self, mnemonic: &str, line: usize) -> Result<Instr, ParseError> {
        if let Some(op) = UnOp::from_name(mnemonic) {
            return Ok(Instr::Un(op, self.value()?));
        }
        if let Some(op) = BinOp::from_name(mnemonic) {
            return self.exactly().map(|[a, b]| Instr::Bin(op, a, b));
        }
        if let Some(pred) = Pred::from_name(mnemonic) {
            return self.exactly().map(|[a, b]| Instr::Cmp(pred, a, b));
        }
        if let Some(instr) = self.team_instr(mnemonic)? {
            return Ok(Instr::Team(instr));
        }
        if let Some(instr) = self.matrix_instr(mnemonic)? {
            return Ok(Instr::Matrix(instr));
        }
        Ok(match mnemonic {
            "tile" => Instr::Tile,
            "dim" => {
                let dims = &self.kernel.dims;
                Instr::Dim(dim(self.t, dims)?)
            }
            "fma" => self.exactly().map(|[a, b, c]| Instr::Fma(a, b, c))?,
            "dot4" => self.exactly().map(|[a, b, c]| Instr::Dot4(a, b, c))?,
            "select" => self.exactly().map(|[c, a, b]| Instr::Select(c, a, b))?,
            "convert" => Instr::Convert(self.value()?),
            "bitcast" => Instr::Bitcast(self.value()?),
            "splat" => Instr::Splat(self.value()?),
            "iota" => Instr::Iota(self.value()?),
            "extract" => self.lane().map(|(a, lane)| Instr::Extract(a, lane))?,
            "slice" => self.lane().map(|(a, first)| Instr::Slice(a, first))?,
            "concat" => self.exactly().map(|[a, b]| Instr::Concat(a, b))?,
            "permute" => self.permute()?,
            "load" => {
                let (buf, index, offset, stride) = self.place()?;
                let count = self.count()?;
                match stride {
                    Some(stride) => Instr::LoadStrided { buf, index, offset, stride, count },
                    None => Instr::Load { buf, index, offset, count },
                }
            }
            "gather" => {
                let (buf, index, offset) = self.place_without_stride()?;
                Instr::Gather { buf, index, offset, count: self.count()? }
            }
            _ => return Err(ParseError { line, message: format!("there is no instruction `{mnemonic}`") }),
        })
    }

    fn store(&mut self) -> Result<Stmt, ParseError> {
        let (buf, index, offset) = self.place_without_stride()?;
        self.t.expect(",")?;
        let value = self.value()?;
        let count = self.count()?;
        self.stored_type(value)?;
        Ok(Stmt::Store { buf, index, offset, value, count })
    }

    /// `: type` of a stored value.
    fn stored_type(&mut self, value: Val) -> Result<(), ParseError> {
        let line = self.t.line();
        let (ty, found) = (self.colon_type()?, self.kernel.ty(value));
        if ty == found { Ok(()) } else { Err(ParseError { line, message: format!("the stored value is {found}") }) }
    }

    fn for_loop(&mut self) -> Result<Stmt, ParseError> {
        let line = self.t.line();
        let var = self.typed()?;
        self.t.expect("=")?;
        let lo = self.value()?;
        self.t.expect_word("to")?;
        let hi = self.value()?;
        self.t.expect_word("step")?;
        let step = self.t.integer()?;
        let mut phis = Vec::new();
        if self.t.eat_word("carry") {
            self.t.expect("(")?;
            while !self.t.eat(")") {
                let phi = self.typed()?;
                self.t.expect("=")?;
                phis.push((phi, self.value()?));
                if !self.t.at(")") {
                    self.t.expect(",")?;
                }
            }
        }
        let hint = if self.t.eat_word("unroll") { LoopHint::Unroll(small(self.t)?) } else { LoopHint::Plain };
        self.t.expect("{")?;
        // The names are defined before those of the body.
        let var = self.define(var.0, var.1)?;
        let mut inits = Vec::new();
        for ((name, ty), init) in phis {
            inits.push((self.define(name, ty)?, init));
        }
        let (body, next) = self.block()?;
        let results = self.results(|p| p.t.value())?;
        if next.len() != inits.len() || results.len() != inits.len() {
            let message = format!("the loop carries {}, yields {}, gives {}", inits.len(), next.len(), results.len());
            return Err(ParseError { line, message });
        }
        let mut carried = Vec::new();
        for (((phi, init), next), name) in inits.into_iter().zip(next).zip(results) {
            let result = self.define(name, self.kernel.ty(phi))?;
            carried.push(Carried { phi, init, next, result });
        }
        Ok(Stmt::For(Box::new(For { var, lo, hi, step, carried, body, hint })))
    }

    fn branch(&mut self) -> Result<Stmt, ParseError> {
        let line = self.t.line();
        let cond = self.value()?;
        self.t.expect("{")?;
        let (then, a) = self.block()?;
        let (els, b) = match self.t.eat_word("else") {
            true => {
                self.t.expect("{")?;
                self.block()?
            }
            false => (Block::default(), Vec::new()),
        };
        let names = self.results(Parser::typed)?;
        if a.len() != names.len() || b.len() != names.len() {
            let message = format!("the branch yields {} and {}, gives {}", a.len(), b.len(), names.len());
            return Err(ParseError { line, message });
        }
        let mut results = Vec::new();
        for (((name, ty), a), b) in names.into_iter().zip(a).zip(b) {
            results.push((self.define(name, ty)?, a, b));
        }
        Ok(Stmt::If(Box::new(If { cond, then, els, results })))
    }

    /// `-> (result, ..)`, or nothing.
    fn results<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut results = Vec::new();
        if !self.t.eat("->") {
            return Ok(results);
        }
        self.t.expect("(")?;
        while !self.t.eat(")") {
            results.push(item(self)?);
            if !self.t.at(")") {
                self.t.expect(",")?;
            }
        }
        Ok(results)
    }

    /// `%name: type`.
    fn typed(&mut self) -> Result<(String, VType), ParseError> {
        let name = self.t.value()?;
        Ok((name, self.colon_type()?))
    }

    fn colon_type(&mut self) -> Result<VType, ParseError> {
        self.t.expect(":")?;
        vtype(self.t)
    }

    fn define(&mut self, name: String, ty: VType) -> Result<Val, ParseError> {
        let v = Val(self.kernel.values.len() as u32);
        if self.names.insert(name.clone(), v).is_some() {
            return self.t.error(format!("`%{name}` is defined twice"));
        }
        self.kernel.values.push(ty);
        Ok(v)
    }

    /// The use of a value.
    fn value(&mut self) -> Result<Val, ParseError> {
        let line = self.t.line();
        let name = self.t.value()?;
        let found = self.names.get(&name).copied();
        found.ok_or_else(|| ParseError { line, message: format!("there is no value `%{name}` yet") })
    }

    /// Values separated by commas.
    fn operands(&mut self) -> Result<Vec<Val>, ParseError> {
        let mut operands = vec![self.value()?];
        while self.t.eat(",") {
            operands.push(self.value()?);
        }
        Ok(operands)
    }

    /// As many operands as the caller asks for.
    fn exactly<const N: usize>(&mut self) -> Result<[Val; N], ParseError> {
        let line = self.t.line();
        let operands = self.operands()?;
        let found = operands.len();
        operands.try_into().map_err(|_| ParseError { line, message: format!("expected {N} operands, found {found}") })
    }

    /// `%value[lane]`.
    fn lane(&mut self) -> Result<(Val, u32), ParseError> {
        let value = self.value()?;
        self.t.expect("[")?;
        let lane = small(self.t)?;
        self.t.expect("]")?;
        Ok((value, lane))
    }

    /// `%a, %b [lane, lane, ...]`.
    fn permute(&mut self) -> Result<Instr, ParseError> {
        let [a, b] = self.exactly()?;
        self.t.expect("[")?;
        let picks: Vec<u32> = self.t.list("]", small)?;
        Ok(Instr::Permute(a, b, picks.into()))
    }

    /// `count %n`, or nothing.
    fn count(&mut self) -> Result<Option<Val>, ParseError> {
        if self.t.eat_word("count") { self.value().map(Some) } else { Ok(None) }
    }

    fn place(&mut self) -> Result<Place, ParseError> {
        let line = self.t.line();
        let name = self.t.value()?;
        let Some(&buf) = self.buffers.get(&name) else {
            return Err(ParseError { line, message: format!("there is no buffer `%{name}`") });
        };
        self.t.expect("[")?;
        let index = self.value()?;
        // A minus belongs to the number, so that the least one can be written.
        let offset = if self.t.eat("+") || self.t.at("-") { self.t.integer()? } else { 0 };
        let stride = if self.t.eat_word("by") { Some(self.value()?) } else { None };
        self.t.expect("]")?;
        Ok((buf, index, offset, stride))
    }

    fn place_without_stride(&mut self) -> Result<(Buf, Val, i64), ParseError> {
        let (buf, index, offset, stride) = self.place()?;
        if stride.is_none() { Ok((buf, index, offset)) } else { self.t.error("this access takes no stride") }
    }
}
