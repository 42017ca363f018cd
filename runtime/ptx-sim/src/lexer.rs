//! Splits PTX text into tokens.

use crate::fault::ParseError;

/// One token.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Token<'a> {
    /// An identifier, opcode with its suffixes, directive or register name.
    Word(&'a str),
    Int(u64),
    /// `0f` constant: bits of an f32.
    F32(u32),
    /// `0d` or decimal constant: bits of an f64.
    F64(u64),
    Text(&'a str),
    Mark(char),
}

/// A token and the line it stands on, counted from one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexeme<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

/// All tokens of `text`.
pub(crate) fn lex(text: &str) -> Result<Vec<Lexeme<'_>>, ParseError> {
    let mut lexer = Lexer { text, at: 0, line: 1 };
    let mut found = Vec::with_capacity(text.len() / 4);
    while lexer.skip_blank()? {
        let line = lexer.line;
        found.push(Lexeme { token: lexer.token()?, line });
    }
    Ok(found)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$%.".contains(&byte)
}

impl<'a> Lexer<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, message: &str) -> ParseError {
        ParseError::new(self.text, self.line, message)
    }

    /// Skips blanks and comments; false at the end of the text.
    fn skip_blank(&mut self) -> Result<bool, ParseError> {
        while self.at < self.text.len() {
            match (self.byte(0), self.byte(1)) {
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at),
                (b'/', b'*') => {
                    let rest = &self.text[self.at..];
                    let Some(length) = rest.find("*/") else { return Err(self.error("comment without an end")) };
                    self.line += rest[..length].matches('\n').count() as u32;
                    self.at += length + 2;
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    fn token(&mut self) -> Result<Token<'a>, ParseError> {
        let first = self.byte(0);
        if first.is_ascii_digit() {
            return self.number();
        }
        if is_word(first) {
            return Ok(Token::Word(self.word()));
        }
        if first == b'"' {
            let rest = &self.text[self.at + 1..];
            let Some(length) = rest.find('"') else { return Err(self.error("text without an end")) };
            self.at += length + 2;
            return Ok(Token::Text(&rest[..length]));
        }
        if !b"{}()[]<>,;:+-@!|=".contains(&first) {
            return Err(self.error("unexpected character"));
        }
        self.at += 1;
        Ok(Token::Mark(first as char))
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        loop {
            if is_word(self.byte(0)) {
                self.at += 1;
            } else if self.byte(0) == b':' && self.byte(1) == b':' {
                self.at += 2;
            } else {
                return &self.text[start..self.at];
            }
        }
    }

    fn number(&mut self) -> Result<Token<'a>, ParseError> {
        let start = self.at;
        while self.byte(0).is_ascii_alphanumeric() || self.byte(0) == b'.' || self.exponent_sign(start) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        parse_number(text).ok_or_else(|| self.error("malformed number"))
    }

    /// Whether the next byte is the sign of a decimal exponent.
    fn exponent_sign(&self, start: usize) -> bool {
        let before = self.text.as_bytes()[self.at - usize::from(self.at > start)];
        let decimal = self.text[start..self.at].contains('.');
        decimal && matches!(before, b'e' | b'E') && matches!(self.byte(0), b'+' | b'-')
    }
}

fn parse_number(text: &str) -> Option<Token<'static>> {
    let digits = text.strip_suffix('U').unwrap_or(text);
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok();
    match text.get(..2).unwrap_or("") {
        "0f" | "0F" if text.len() == 10 => return radix(&text[2..], 16).map(|v| Token::F32(v as u32)),
        "0d" | "0D" if text.len() == 18 => return radix(&text[2..], 16).map(Token::F64),
        "0x" | "0X" => return radix(&digits[2..], 16).map(Token::Int),
        "0b" | "0B" => return radix(&digits[2..], 2).map(Token::Int),
        _ => {}
    }
    if text.contains(['.', 'e', 'E']) {
        return text.parse::<f64>().ok().map(|v| Token::F64(v.to_bits()));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return radix(&digits[1..], 8).map(Token::Int);
    }
    digits.parse().ok().map(Token::Int)
}
