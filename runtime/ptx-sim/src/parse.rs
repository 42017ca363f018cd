//! Parses modules: directives, kernels, declarations and statements.

use std::sync::Arc;

use crate::decode::{self, Builder};
use crate::fault::ParseError;
use crate::lexer::{Lexeme, Token, lex};
use crate::module::{Module, ParamDecl};
use crate::symbols::{Globals, Variable, round_up};
use crate::types::{Space, Ty};

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, special register, symbol or label.
    Name(&'a str),
    Int(u64),
    F32(u32),
    F64(u64),
    Vector(Vec<Operand<'a>>),
    Memory(Box<Operand<'a>>, i64),
    /// `d|p`
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    Not(&'a str),
    Sink,
}

/// One instruction as written.
#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    pub guard: Option<(&'a str, bool)>,
    /// The opcode and its suffixes.
    pub words: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
    pub line: u32,
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    lexemes: Vec<Lexeme<'a>>,
    at: usize,
}

/// Parses a whole module.
pub(crate) fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser { text, lexemes: lex(text)?, at: 0 };
    let mut module = Module { kernels: Vec::new(), version: (0, 0), target: String::new() };
    let mut globals = Globals::default();
    let source: Arc<str> = text.into();
    while let Some(token) = parser.peek() {
        match token {
            Token::Word(".version") => module.version = parser.version()?,
            Token::Word(".target") => module.target = parser.target()?,
            Token::Word(".address_size") => {
                parser.at += 1;
                if parser.int()? != 64 {
                    return Err(parser.error("only 64-bit addresses are supported"));
                }
            }
            Token::Word(".visible" | ".weak") => parser.at += 1,
            Token::Word(".extern" | ".shared" | ".const") => {
                let variables = parser.variables()?;
                variables.into_iter().try_for_each(|v| globals.declare(v)).map_err(|m| parser.error(&m))?;
            }
            Token::Word(".entry") => {
                let kernel = parser.entry(&globals, &source)?;
                module.kernels.push(kernel);
            }
            Token::Word(".file" | ".pragma") => parser.skip_line(),
            _ => return Err(parser.error("unknown directive")),
        }
    }
    if module.version == (0, 0) || module.target.is_empty() {
        return Err(ParseError::new(text, 1, "`.version` or `.target` is missing"));
    }
    let constants: Arc<[u8]> = globals.constants.into();
    module.kernels.iter_mut().for_each(|k| k.constants = constants.clone());
    Ok(module)
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.lexemes.get(self.at).map(|l| l.token)
    }

    fn line(&self) -> u32 {
        let at = self.at.min(self.lexemes.len().saturating_sub(1));
        self.lexemes.get(at).map_or(1, |l| l.line)
    }

    fn error(&self, message: &str) -> ParseError {
        ParseError::new(self.text, self.line(), message)
    }

    fn next(&mut self) -> Result<Token<'a>, ParseError> {
        let token = self.peek().ok_or_else(|| self.error("unexpected end of the text"))?;
        self.at += 1;
        Ok(token)
    }

    fn accept(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<(), ParseError> {
        if self.accept(mark) {
            return Ok(());
        }
        // What is missing is missing behind the token before.
        let line = self.at.checked_sub(1).and_then(|at| self.lexemes.get(at)).map_or(1, |l| l.line);
        Err(ParseError::new(self.text, line, format!("`{mark}` expected")))
    }

    fn word(&mut self) -> Result<&'a str, ParseError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error("a name was expected")),
        }
    }

    fn int(&mut self) -> Result<u64, ParseError> {
        let negative = self.accept('-');
        match self.peek() {
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(if negative { value.wrapping_neg() } else { value })
            }
            _ => Err(self.error("an integer was expected")),
        }
    }

    fn version(&mut self) -> Result<(u32, u32), ParseError> {
        self.at += 1;
        match self.next()? {
            Token::F64(bits) => {
                let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
                Ok((tenths / 10, tenths % 10))
            }
            _ => Err(self.error("a version was expected")),
        }
    }

    fn target(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let target = self.word()?;
        while self.accept(',') {
            self.word()?;
        }
        Ok(target.to_owned())
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.lexemes.get(self.at).is_some_and(|l| l.line == line) {
            self.at += 1;
        }
    }

    /// Three extents after `.maxntid` or `.reqntid`.
    fn extents(&mut self) -> Result<[u32; 3], ParseError> {
        let mut extents = [1; 3];
        for (index, extent) in extents.iter_mut().enumerate() {
            if index > 0 && !self.accept(',') {
                break;
            }
            *extent = self.int()? as u32;
        }
        Ok(extents)
    }

    fn entry(&mut self, globals: &Globals, source: &Arc<str>) -> Result<crate::Kernel, ParseError> {
        self.at += 1;
        let name = self.word()?;
        let mut builder = Builder::new(name, globals, source);
        if self.accept('(') {
            while !self.accept(')') {
                let param = self.param(builder.param_end())?;
                builder.add_param(param);
                self.accept(',');
            }
        }
        while let Some(Token::Word(directive)) = self.peek() {
            self.at += 1;
            match directive {
                ".maxntid" => builder.kernel.max_threads = Some(self.extents()?),
                ".reqntid" => builder.kernel.required_threads = Some(self.extents()?),
                ".minnctapersm" | ".maxnreg" => drop(self.int()?),
                ".noreturn" => {}
                ".pragma" => self.skip_line(),
                _ => return Err(self.error("unknown kernel directive")),
            }
        }
        self.expect('{')?;
        self.body(&mut builder)?;
        builder.finish()
    }

    fn param(&mut self, end: usize) -> Result<ParamDecl, ParseError> {
        if self.word()? != ".param" {
            return Err(self.error("`.param` was expected"));
        }
        let (mut align, mut ty) = (None, None);
        loop {
            match self.word()? {
                ".align" if ty.is_some() => drop(self.int()?),
                ".align" => align = Some(self.int()? as usize),
                ".ptr" | ".global" | ".shared" | ".const" | ".local" => {}
                word if word.starts_with('.') => {
                    ty = Some(Ty::parse(&word[1..]).ok_or_else(|| self.error("unknown type"))?);
                }
                name => {
                    let ty = ty.ok_or_else(|| self.error("a type was expected"))?;
                    let count = if self.accept('[') { self.int()? as usize } else { 1 };
                    if self.peek() == Some(Token::Mark(']')) {
                        self.at += 1;
                    }
                    let align = align.unwrap_or(ty.bytes());
                    let offset = round_up(end, align);
                    return Ok(ParamDecl { name: name.to_owned(), offset, size: ty.bytes() * count, align });
                }
            }
        }
    }

    /// Declarations of `.shared`, `.const` or `.local` variables, up to the semicolon.
    fn variables(&mut self) -> Result<Vec<Variable>, ParseError> {
        let (mut space, mut align, mut ty, mut external) = (None, None, None, false);
        let mut found = Vec::new();
        loop {
            match self.word()? {
                ".extern" => external = true,
                ".visible" | ".weak" => {}
                ".align" => align = Some(self.int()? as usize),
                word if word.starts_with('.') && space.is_none() => {
                    space = Some(Space::parse(&word[1..]).ok_or_else(|| self.error("unknown state space"))?);
                }
                word if word.starts_with('.') => {
                    ty = Some(Ty::parse(&word[1..]).ok_or_else(|| self.error("unknown type"))?);
                }
                name => {
                    let (Some(space), Some(ty)) = (space, ty) else { return Err(self.error("a type was expected")) };
                    let align = align.unwrap_or(ty.bytes());
                    found.push(self.variable(name, space, ty, align, external)?);
                    if !self.accept(',') {
                        self.expect(';')?;
                        return Ok(found);
                    }
                }
            }
        }
    }

    fn variable(
        &mut self,
        name: &str,
        space: Space,
        ty: Ty,
        align: usize,
        external: bool,
    ) -> Result<Variable, ParseError> {
        let mut count = Some(1);
        while self.accept('[') {
            if self.accept(']') {
                count = None;
                continue;
            }
            let extent = self.int()? as usize;
            count = count.map(|c| c * extent);
            self.expect(']')?;
        }
        let mut data = Vec::new();
        if self.accept('=') {
            self.initialiser(ty, &mut data)?;
        }
        if external && count.is_some() || !external && count.is_none() && data.is_empty() {
            return Err(self.error("the size of a variable is missing, or given for an external one"));
        }
        let bytes = count.map_or(data.len(), |c| c * ty.bytes());
        if data.len() > bytes {
            return Err(self.error("more initial values than elements"));
        }
        data.resize(if space == Space::Const { bytes } else { 0 }, 0);
        Ok(Variable { name: name.to_owned(), space, align, bytes, data, external })
    }

    fn initialiser(&mut self, ty: Ty, data: &mut Vec<u8>) -> Result<(), ParseError> {
        if self.accept('{') {
            while !self.accept('}') {
                self.initialiser(ty, data)?;
                self.accept(',');
            }
            return Ok(());
        }
        let negative = self.accept('-');
        let bits = match (self.next()?, ty) {
            (Token::Int(value), _) => {
                if negative {
                    value.wrapping_neg()
                } else {
                    value
                }
            }
            (Token::F32(bits), Ty::F32 | Ty::B32) => u64::from(bits ^ u32::from(negative) << 31),
            (Token::F64(bits), Ty::F64 | Ty::B64) => bits ^ u64::from(negative) << 63,
            (Token::F64(bits), Ty::F32) => {
                let value = f64::from_bits(bits) as f32;
                u64::from(value.to_bits() ^ u32::from(negative) << 31)
            }
            _ => return Err(self.error("an initial value was expected")),
        };
        data.extend_from_slice(&bits.to_le_bytes()[..ty.bytes()]);
        Ok(())
    }

    fn body(&mut self, builder: &mut Builder<'a>) -> Result<(), ParseError> {
        builder.open_scope();
        while !self.accept('}') {
            let line = self.line();
            match self.next()? {
                Token::Mark('{') => self.body(builder)?,
                Token::Mark(';') => {}
                Token::Word(".reg") => self.registers(builder)?,
                Token::Word(".shared" | ".local" | ".const" | ".extern") => {
                    self.at -= 1;
                    for variable in self.variables()? {
                        builder.declare(variable).map_err(|m| ParseError::new(self.text, line, m))?;
                    }
                }
                Token::Word(".loc" | ".pragma" | ".file") => {
                    self.at -= 1;
                    self.skip_line();
                }
                Token::Word(name) if self.accept(':') => self.label(name, line, builder)?,
                Token::Word(_) | Token::Mark('@') => {
                    self.at -= 1;
                    let statement = self.statement()?;
                    decode::decode(builder, &statement).map_err(|m| ParseError::new(self.text, line, m))?;
                }
                _ => return Err(ParseError::new(self.text, line, "a statement was expected")),
            }
        }
        builder.close_scope();
        Ok(())
    }

    /// A label, or a list of branch targets under one.
    fn label(&mut self, name: &'a str, line: u32, builder: &mut Builder<'a>) -> Result<(), ParseError> {
        if self.peek() != Some(Token::Word(".branchtargets")) {
            return builder.label(name).map_err(|m| ParseError::new(self.text, line, m));
        }
        self.at += 1;
        let mut targets = vec![self.word()?];
        while self.accept(',') {
            targets.push(self.word()?);
        }
        self.expect(';')?;
        builder.branch_targets(name, targets);
        Ok(())
    }

    fn registers(&mut self, builder: &mut Builder<'a>) -> Result<(), ParseError> {
        let word = self.word()?;
        let ty = word.strip_prefix('.').and_then(Ty::parse).ok_or_else(|| self.error("unknown type"))?;
        loop {
            let name = self.word()?;
            if self.accept('<') {
                let count = self.int()?;
                self.expect('>')?;
                builder.declare_range(name, ty, count);
            } else {
                builder.declare_register(name, ty).map_err(|m| self.error(&m))?;
            }
            if !self.accept(',') {
                return self.expect(';');
            }
        }
    }

    fn statement(&mut self) -> Result<Statement<'a>, ParseError> {
        let line = self.line();
        let mut guard = None;
        if self.accept('@') {
            let negated = self.accept('!');
            guard = Some((self.word()?, negated));
        }
        let words = self.word()?.split('.').collect();
        let mut operands = Vec::new();
        if !self.accept(';') {
            operands.push(self.operand()?);
            while self.accept(',') {
                operands.push(self.operand()?);
            }
            self.expect(';')?;
        }
        Ok(Statement { guard, words, operands, line })
    }

    fn operand(&mut self) -> Result<Operand<'a>, ParseError> {
        let first = self.simple_operand()?;
        if self.accept('|') {
            let second = self.simple_operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple_operand(&mut self) -> Result<Operand<'a>, ParseError> {
        let negative = self.accept('-');
        Ok(match self.next()? {
            Token::Int(value) if negative => Operand::Int(value.wrapping_neg()),
            Token::F64(bits) if negative => Operand::F64(bits ^ 1 << 63),
            _ if negative => return Err(self.error("a number was expected after `-`")),
            Token::Word("_") => Operand::Sink,
            Token::Word(name) => Operand::Name(name),
            Token::Int(value) => Operand::Int(value),
            Token::F32(bits) => Operand::F32(bits),
            Token::F64(bits) => Operand::F64(bits),
            Token::Mark('!') => Operand::Not(self.word()?),
            Token::Mark('[') => self.memory_operand()?,
            Token::Mark('{') => {
                let mut parts = vec![self.operand()?];
                while self.accept(',') {
                    parts.push(self.operand()?);
                }
                self.expect('}')?;
                Operand::Vector(parts)
            }
            _ => {
                self.at -= 1;
                return Err(self.error("an operand was expected"));
            }
        })
    }

    fn memory_operand(&mut self) -> Result<Operand<'a>, ParseError> {
        let base = self.simple_operand()?;
        let mut offset = 0i64;
        while !self.accept(']') {
            let plus = self.accept('+');
            if !plus && self.peek() != Some(Token::Mark('-')) {
                return Err(self.error("`]` expected"));
            }
            offset = offset.wrapping_add(self.int()? as i64);
        }
        Ok(Operand::Memory(Box::new(base), offset))
    }
}
