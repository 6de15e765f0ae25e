//! HCL as SPIRE reads it (version 1, and its JSON form): text in, a tree with places out.
//!
//! Invariant: size and depth are bounded, and an error says where, what was found and what was expected. Nothing is evaluated:
//! `${…}` stays text.

mod lexer;

use std::fmt;

use lexer::{Lexer, Token};

/// What stands between two braces, or in the whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) items: Vec<Item>,
}

/// `name = value`, or a block with its labels: `keys` is never empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) keys: Vec<String>,
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// JSON only.
    Null,
    List(Vec<Self>),
    Body(Body),
}

/// Line and column, from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The text is not HCL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{place}: expected {expected}, found {found}")]
pub(crate) struct HclError {
    pub(crate) file: String,
    pub(crate) place: Place,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// Reads a file's text; one that begins with `{` is the JSON form.
///
/// # Errors
/// The first thing that is wrong, with its place in `file`.
pub(crate) fn parse(file: &str, text: &str) -> Result<Body, HclError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(HclError {
            file: file.to_owned(),
            place: START,
            expected: format!("a file of at most {MAX_BYTES} bytes"),
            found: format!("{} bytes", text.len()),
        });
    }
    let json = text.trim_start().starts_with('{');
    if json {
        strict_json(file, text)?;
    }
    let mut lexer = Lexer::new(text, json);
    let (token, place) = lexer.next().map_err(|wrong| wrong.within(file))?;
    let mut parser = Parser {
        lexer,
        json,
        token,
        place,
    };
    let body = if json { parser.object(0) } else { parser.items(0) };
    body.and_then(|body| match parser.token {
        Token::End => Ok(body),
        _ => parser.unexpected("the end of the file"),
    })
    .map_err(|wrong| wrong.within(file))
}

/// Our own parser forgives what JSON does not; that is not its business here.
fn strict_json(file: &str, text: &str) -> Result<(), HclError> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(HclError {
            file: file.to_owned(),
            place: Place {
                line: error.line(),
                column: error.column(),
            },
            expected: "JSON, since the file begins with a brace".to_owned(),
            found: error.to_string(),
        }),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    json: bool,
    /// The one looked at, and where it began.
    token: Token,
    place: Place,
}

impl Parser<'_> {
    /// Up to the closing brace or the end, which stays.
    fn items(&mut self, depth: usize) -> Result<Body, Wrong> {
        let mut body = Body::default();
        loop {
            let place = self.place;
            let mut keys = Vec::new();
            while let Token::Word(key) | Token::Text(key) = &mut self.token {
                keys.push(std::mem::take(key));
                self.advance()?;
            }
            if keys.is_empty() {
                return match self.token {
                    Token::End | Token::CloseBrace => Ok(body),
                    _ => self.unexpected("a name or a closing brace"),
                };
            }
            let value = self.item_value(keys.len(), depth)?;
            body.items.push(Item { keys, place, value });
            if depth > 0 && self.token == Token::Comma {
                self.advance()?;
            }
        }
    }

    fn item_value(&mut self, keys: usize, depth: usize) -> Result<Value, Wrong> {
        match self.token {
            Token::OpenBrace if !self.json => Ok(Value::Body(self.object(depth)?)),
            // As in SPIRE, a block with labels takes no sign.
            Token::Assign if keys == 1 => {
                self.advance()?;
                self.value(depth)
            }
            _ if keys == 1 => self.unexpected("= or { after the name"),
            _ => self.unexpected("{ after the labels"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Wrong> {
        let value = match &mut self.token {
            Token::Text(text) => Value::Text(std::mem::take(text)),
            Token::Integer(number) => Value::Integer(*number),
            Token::Float(number) => Value::Float(*number),
            Token::Word(word) if word == "true" => Value::Bool(true),
            Token::Word(word) if word == "false" => Value::Bool(false),
            Token::Word(word) if word == "null" && self.json => Value::Null,
            Token::OpenBrace => return Ok(Value::Body(self.object(depth)?)),
            Token::OpenBracket => return self.list(depth),
            _ => return self.unexpected("a value: a string in quotes, a number, true, false, [ or {"),
        };
        self.advance()?;
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        let depth = self.deeper(depth)?;
        self.advance()?;
        let mut values = Vec::new();
        loop {
            if self.token == Token::CloseBracket {
                self.advance()?;
                return Ok(Value::List(values));
            }
            values.push(self.value(depth)?);
            match self.token {
                Token::Comma => self.advance()?,
                Token::CloseBracket => {}
                _ => return self.unexpected("a comma or ]"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Body, Wrong> {
        let depth = self.deeper(depth)?;
        let opened = self.place.line;
        self.advance()?;
        let body = self.items(depth)?;
        if self.token != Token::CloseBrace {
            return self.unexpected(&format!("}} for the {{ of line {opened}"));
        }
        self.advance()?;
        Ok(body)
    }

    fn deeper(&self, depth: usize) -> Result<usize, Wrong> {
        if depth >= MAX_DEPTH {
            return self.unexpected(&format!("at most {MAX_DEPTH} levels"));
        }
        Ok(depth + 1)
    }

    fn advance(&mut self) -> Result<(), Wrong> {
        (self.token, self.place) = self.lexer.next()?;
        Ok(())
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, Wrong> {
        Err(Wrong {
            place: self.place,
            expected: expected.to_owned(),
            found: self.token.to_string(),
        })
    }
}

/// An error that does not know its file yet.
#[derive(Debug)]
struct Wrong {
    place: Place,
    expected: String,
    found: String,
}

impl Wrong {
    fn within(self, file: &str) -> HclError {
        HclError {
            file: file.to_owned(),
            place: self.place,
            expected: self.expected,
            found: self.found,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

const START: Place = Place { line: 1, column: 1 };
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests;
