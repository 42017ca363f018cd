//! The lexer of both text forms: the graph's (`.xir`) and the kernel's (`.kir`).
//!
//! Tokens: identifiers (`f32`, `fc.bias`), values (`%x`), global names (`@fc.bias`), numbers (`3`, `0.5`, `1e-5`, `0x3f`),
//! text in quotes, and punctuation. Names that are not plain are quoted: `%"data:0"`, `@"conv/w"`. Signs are punctuation.
//! `//` starts a comment that runs to the end of the line; comments are kept aside with their lines.

use std::fmt::Write;

/// Where a text is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Lower case, no final stop.
    pub message: String,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `name`: letters, digits, `_` and `.`, not starting with a digit.
    Ident(String),
    /// `%name`, without the sign.
    Value(String),
    /// `@name`, without the sign.
    Global(String),
    /// A number, as written; without sign.
    Number(String),
    /// Text in quotes, unescaped.
    Text(String),
    /// One of the signs in [`PUNCTUATION`].
    Punct(&'static str),
    /// After the last token.
    End,
}

/// Signs, longer ones before those they start with.
pub const PUNCTUATION: &[&str] = &[
    "->", "==", "<=", "..", "(", ")", "{", "}", "[", "]", "<", ">", ",", ":", ";", "=", "+", "-", "*", "/", "&", "|", "!",
    "?", "#", ".",
];

/// A comment: its line, and its text without the slashes and the space around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Line, from 1.
    pub line: usize,
    /// Text.
    pub text: String,
}

/// Tokens with a position.
#[derive(Clone, Debug)]
pub struct Tokens {
    tokens: Vec<(Token, usize)>,
    at: usize,
    /// Comments in order.
    pub comments: Vec<Comment>,
}

impl Tokens {
    /// Splits a text.
    pub fn new(text: &str) -> Result<Tokens, ParseError> {
        let mut tokens = Tokens { tokens: Vec::new(), at: 0, comments: Vec::new() };
        for (i, line) in text.lines().enumerate() {
            tokens.add_line(line, i + 1).map_err(|message| ParseError { line: i + 1, message })?;
        }
        let last = text.lines().count().max(1);
        tokens.tokens.push((Token::End, last));
        Ok(tokens)
    }

    fn add_line(&mut self, mut rest: &str, line: usize) -> Result<(), String> {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(());
            }
            if let Some(comment) = rest.strip_prefix("//") {
                self.comments.push(Comment { line, text: comment.trim().into() });
                return Ok(());
            }
            let (token, length) = lex(rest)?;
            self.tokens.push((token, line));
            rest = &rest[length..];
        }
    }

    /// The next token.
    pub fn peek(&self) -> &Token { &self.tokens[self.at].0 }

    /// The token after the next.
    pub fn peek_second(&self) -> &Token { &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0 }

    /// Takes the next token; the last one, [`Token::End`], stays.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// Line of the next token.
    pub fn line(&self) -> usize { self.tokens[self.at].1 }

    /// Line of the token taken last.
    pub fn last_line(&self) -> usize { self.tokens[self.at.saturating_sub(1)].1 }

    /// An error at the next token.
    pub fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line(), message: message.into() })
    }

    /// An error that says what the next token should have been.
    pub fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        self.error(format!("expected {what}, found {}", describe(self.peek())))
    }

    /// True if the next token is this sign.
    pub fn at(&self, punct: &str) -> bool { matches!(self.peek(), Token::Punct(p) if *p == punct) }

    /// True if the next token is this identifier.
    pub fn at_word(&self, word: &str) -> bool { matches!(self.peek(), Token::Ident(s) if s == word) }

    /// Takes this sign, if it is next.
    pub fn eat(&mut self, punct: &str) -> bool {
        let found = self.at(punct);
        if found {
            self.next();
        }
        found
    }

    /// Takes this identifier, if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.next();
        }
        found
    }

    /// Takes this sign.
    pub fn expect(&mut self, punct: &str) -> Result<(), ParseError> {
        if self.eat(punct) { Ok(()) } else { self.expected(&format!("`{punct}`")) }
    }

    /// Takes this identifier.
    pub fn expect_word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.eat_word(word) { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    /// Takes an identifier.
    pub fn ident(&mut self) -> Result<String, ParseError> {
        match self.peek() {
            Token::Ident(_) => match self.next() {
                Token::Ident(s) => Ok(s),
                _ => unreachable!("just seen"),
            },
            _ => self.expected("a name"),
        }
    }

    /// Takes a value's name.
    pub fn value(&mut self) -> Result<String, ParseError> {
        let Token::Value(name) = self.peek().clone() else { return self.expected("a value") };
        self.next();
        Ok(name)
    }

    /// Takes a global name.
    pub fn global(&mut self) -> Result<String, ParseError> {
        let Token::Global(name) = self.peek().clone() else { return self.expected("a name with `@`") };
        self.next();
        Ok(name)
    }

    /// Takes text in quotes.
    pub fn text(&mut self) -> Result<String, ParseError> {
        let Token::Text(text) = self.peek().clone() else { return self.expected("text in quotes") };
        self.next();
        Ok(text)
    }

    /// Takes an integer with an optional sign; hexadecimal after `0x`.
    pub fn integer(&mut self) -> Result<i64, ParseError> {
        let negative = self.eat("-");
        let Token::Number(digits) = self.peek().clone() else { return self.expected("an integer") };
        let parsed = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => digits.parse::<i128>(),
        };
        let value = parsed.ok().and_then(|x| i64::try_from(if negative { -x } else { x }).ok());
        let Some(value) = value else { return self.error(format!("`{digits}` is not a 64-bit integer")) };
        self.next();
        Ok(value)
    }

    /// Takes items separated by commas up to `close`, which is taken too.
    pub fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Tokens) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }
}

/// The first token of a text that starts with one, and its length in bytes.
fn lex(text: &str) -> Result<(Token, usize), String> {
    let first = text.chars().next().unwrap_or(' ');
    match first {
        '%' | '@' => {
            let wrap = if first == '%' { Token::Value } else { Token::Global };
            if text[1..].starts_with('"') {
                let (name, length) = quoted(&text[1..])?;
                return Ok((wrap(name), length + 1));
            }
            let length = name_length(&text[1..]);
            if length == 0 {
                return Err(format!("a name must follow `{first}`"));
            }
            Ok((wrap(text[1..1 + length].into()), length + 1))
        }
        '"' => quoted(text).map(|(s, length)| (Token::Text(s), length)),
        '0'..='9' => {
            let length = number_length(text);
            Ok((Token::Number(text[..length].into()), length))
        }
        'a'..='z' | 'A'..='Z' | '_' => {
            let length = name_length(text);
            Ok((Token::Ident(text[..length].into()), length))
        }
        _ => match PUNCTUATION.iter().find(|p| text.starts_with(**p)) {
            Some(p) => Ok((Token::Punct(p), p.len())),
            None => Err(format!("unexpected character {first:?}")),
        },
    }
}

/// Length of the letters, digits, `_` and single dots a text starts with.
fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut n = 0;
    while n < bytes.len() {
        let dot = bytes[n] == b'.' && bytes.get(n + 1).is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_');
        if !(bytes[n].is_ascii_alphanumeric() || bytes[n] == b'_' || dot) {
            break;
        }
        n += 1;
    }
    n
}

/// Length of the number a text starts with: digits, a fraction, an exponent with its sign; or hexadecimal.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if text.starts_with("0x") {
        return 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
    }
    let mut n = digits(0);
    if bytes.get(n) == Some(&b'.') && bytes.get(n + 1).is_some_and(u8::is_ascii_digit) {
        n += 1 + digits(n + 1);
    }
    if matches!(bytes.get(n), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(n + 1), Some(b'+' | b'-')));
        let exponent = digits((n + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            n += 1 + sign + exponent;
        }
    }
    n
}

/// The text in the quotes a text starts with, and its length with them.
fn quoted(text: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((out, i + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('u') => out.push(unicode(&mut chars).ok_or("a `\\u{..}` is not a character")?),
                Some(c @ ('"' | '\\')) => out.push(c),
                _ => return Err("unknown escape in quotes".into()),
            },
            c => out.push(c),
        }
    }
    Err("quotes are not closed on this line".into())
}

/// The text in quotes that `text` starts with, unescaped, and its length with the quotes.
pub fn leading_quoted(text: &str) -> Option<(String, usize)> {
    if text.starts_with('"') { quoted(text).ok() } else { None }
}

/// The character of a `{hex}` after `\u`.
fn unicode(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let mut code = 0u32;
    chars.next().filter(|&(_, c)| c == '{')?;
    loop {
        match chars.next()?.1 {
            '}' => return char::from_u32(code),
            c => code = code.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
        }
    }
}

/// Text in quotes, as the lexer reads it back.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => _ = write!(out, "\\u{{{:x}}}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// True for text that is one identifier.
pub fn is_ident(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name_length(text) == text.len()
}

/// A name as it is written after `%` or `@`, and where a word stands: quoted unless it is an identifier.
pub fn name(text: &str) -> String { if is_ident(text) { text.into() } else { quote(text) } }

fn describe(token: &Token) -> String {
    match token {
        Token::Ident(s) | Token::Number(s) => format!("`{s}`"),
        Token::Value(s) => format!("`%{s}`"),
        Token::Global(s) => format!("`@{s}`"),
        Token::Text(s) => quote(s),
        Token::Punct(s) => format!("`{s}`"),
        Token::End => "the end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_all_kinds() {
        let mut t = Tokens::new("%x.1 = f32 @\"a/b\" 0x1f 1.5e-3 0..4 -> \"q\\n\" // MatMul_0").unwrap();
        let found: Vec<Token> = std::iter::from_fn(|| Some(t.next()).filter(|t| *t != Token::End)).collect();
        let expected = [
            Token::Value("x.1".into()),
            Token::Punct("="),
            Token::Ident("f32".into()),
            Token::Global("a/b".into()),
            Token::Number("0x1f".into()),
            Token::Number("1.5e-3".into()),
            Token::Number("0".into()),
            Token::Punct(".."),
            Token::Number("4".into()),
            Token::Punct("->"),
            Token::Text("q\n".into()),
        ];
        assert_eq!(found, expected);
        assert_eq!(t.comments, [Comment { line: 1, text: "MatMul_0".into() }]);
    }

    #[test]
    fn integers_have_all_64_bits() {
        let mut t = Tokens::new("-9223372036854775808 9223372036854775808").unwrap();
        assert_eq!(t.integer(), Ok(i64::MIN));
        assert_eq!(t.integer().unwrap_err().to_string(), "line 1: `9223372036854775808` is not a 64-bit integer");
    }

    #[test]
    fn quotes_round_trip() {
        for s in ["", "a b", "\"\\\n\r\t\u{7f}\u{2028}é"] {
            assert_eq!(Tokens::new(&quote(s)).unwrap().text().unwrap(), s);
        }
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(Tokens::new("a\n\"b").unwrap_err().to_string(), "line 2: quotes are not closed on this line");
        assert_eq!(Tokens::new("a\n$").unwrap_err().to_string(), "line 2: unexpected character '$'");
    }
}
