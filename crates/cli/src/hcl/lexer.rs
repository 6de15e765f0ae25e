//! Words, strings and signs of HCL. Invariant: it always moves on or ends, whatever the text is.

use std::fmt;

use super::{Place, START, Wrong};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Comma,
    /// `=`, or in JSON `:`.
    Assign,
    End,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
    place: Place,
    json: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, json: bool) -> Self {
        Self {
            rest: text,
            place: START,
            json,
        }
    }

    /// The next token and where it begins; `End` again and again at the end.
    pub(super) fn next(&mut self) -> Result<(Token, Place), Wrong> {
        self.skip()?;
        let place = self.place;
        let assign = if self.json { ':' } else { '=' };
        let Some(c) = self.peek() else {
            return Ok((Token::End, place));
        };
        let sign = match c {
            '{' => Some(Token::OpenBrace),
            '}' => Some(Token::CloseBrace),
            '[' => Some(Token::OpenBracket),
            ']' => Some(Token::CloseBracket),
            ',' => Some(Token::Comma),
            c if c == assign => Some(Token::Assign),
            _ => None,
        };
        let token = if let Some(sign) = sign {
            self.bump();
            sign
        } else if c == '"' {
            Token::Text(self.string()?)
        } else if self.rest.starts_with("<<") && !self.json {
            Token::Text(self.heredoc()?)
        } else if c.is_ascii_digit() || c == '-' {
            self.number()?
        } else if c.is_alphabetic() || c == '_' {
            Token::Word(self.while_of(is_word).to_owned())
        } else {
            return Err(self.wrong(place, "a name, a value or a sign of HCL", &format!("{c:?}")));
        };
        Ok((token, place))
    }

    /// White space and the three kinds of comments.
    fn skip(&mut self) -> Result<(), Wrong> {
        loop {
            self.while_of(char::is_whitespace);
            if self.json {
                return Ok(());
            }
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                self.while_of(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                let begin = self.place;
                let Some(end) = self.rest.find("*/") else {
                    return Err(self.wrong(begin, "*/ at the end of the comment", "the end of the file"));
                };
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn string(&mut self) -> Result<String, Wrong> {
        let begin = self.place;
        self.bump();
        // Bytes, because \xHH and octal escapes are bytes.
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let place = self.place;
            if !self.json && self.rest.starts_with("${") {
                bytes.extend_from_slice(self.interpolation(begin)?.as_bytes());
                continue;
            }
            match self.bump() {
                Some('"') => break,
                Some('\\') => self.escape(place, &mut bytes)?,
                Some(c) if c != '\n' => push(&mut bytes, c),
                Some(_) => return Err(self.wrong(begin, "a closing quote", "the end of the line")),
                None => return Err(self.wrong(begin, "a closing quote", "the end of the file")),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(self.wrong(begin, "UTF-8", &error.to_string())),
        }
    }

    /// `${…}` as it is written: quotes and line ends inside belong to it.
    fn interpolation(&mut self, begin: Place) -> Result<&'a str, Wrong> {
        let mut depth = 0_usize;
        for (at, c) in self.rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Ok(self.take(at + 1)),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Err(self.wrong(begin, "} at the end of ${", "the end of the file"))
    }

    fn escape(&mut self, place: Place, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let found = self.bump();
        let simple = match found {
            Some(c @ ('"' | '\\')) => Some(c),
            Some('/') if self.json => Some('/'),
            Some('a') => Some('\u{7}'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('v') => Some('\u{b}'),
            _ => None,
        };
        if let Some(c) = simple {
            push(bytes, c);
            return Ok(());
        }
        match found {
            Some(first @ '0'..='7') => {
                let rest = self.digits(2, 8);
                let value =
                    rest.and_then(|rest| u8::try_from(first.to_digit(8).unwrap_or(0) * 64 + rest).ok());
                value.map(|byte| bytes.push(byte))
            }
            Some('x') => self
                .digits(2, 16)
                .and_then(|v| u8::try_from(v).ok())
                .map(|byte| bytes.push(byte)),
            Some('u') => self.unicode().map(|c| push(bytes, c)),
            Some('U') => self
                .digits(8, 16)
                .and_then(char::from_u32)
                .map(|c| push(bytes, c)),
            _ => None,
        }
        .ok_or_else(|| {
            let shown = found.map_or_else(|| "the end of the file".to_owned(), |c| format!("\\{c}"));
            self.wrong(
                place,
                "an escape such as \\n, \\\", \\\\, \\x41 or \\u00e4",
                &shown,
            )
        })
    }

    /// Four digits; in JSON perhaps two times, for what lies beyond the first plane.
    fn unicode(&mut self) -> Option<char> {
        let unit = self.digits(4, 16)?;
        if !(self.json && (0xd800..0xdc00).contains(&unit)) {
            return char::from_u32(unit);
        }
        self.rest.starts_with("\\u").then(|| self.take(2))?;
        let low = self.digits(4, 16).filter(|low| (0xdc00..0xe000).contains(low))?;
        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
    }

    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let digits = self.rest.get(..count)?;
        let value = digits.chars().try_fold(0_u32, |value, c| {
            Some(value.wrapping_mul(radix) + c.to_digit(radix)?)
        })?;
        self.take(count);
        Some(value)
    }

    /// `<<EOF` or `<<-EOF`, up to a line with the marker alone. With the hyphen, an indentation that all lines share with the
    /// marker is taken away.
    fn heredoc(&mut self) -> Result<String, Wrong> {
        let begin = self.place;
        self.take(2);
        let indented = self.rest.starts_with('-');
        if indented {
            self.bump();
        }
        let marker = self.while_of(is_word);
        let end_of_line = self.while_of(|c| c != '\n').trim_end();
        if marker.is_empty() || !end_of_line.is_empty() || self.bump().is_none() {
            return Err(self.wrong(
                begin,
                "<<, a marker such as EOF, and the end of the line",
                "something else",
            ));
        }
        let mut lines = Vec::new();
        loop {
            if self.rest.is_empty() {
                return Err(self.wrong(
                    begin,
                    &format!("a line with {marker} alone"),
                    "the end of the file",
                ));
            }
            let line = self.while_of(|c| c != '\n').trim_end_matches('\r');
            if line.trim_start() == marker {
                // The line end is not the marker's.
                let indentation = &line[..line.len() - marker.len()];
                return Ok(joined(&lines, if indented { indentation } else { "" }));
            }
            lines.push(line);
            self.bump();
        }
    }

    fn number(&mut self) -> Result<Token, Wrong> {
        let place = self.place;
        let text = self.while_of(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let radix = |digits, radix| i64::from_str_radix(digits, radix).ok();
        let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
        let whole = match (hex, octal) {
            (Some(hex), _) if !hex.starts_with(['-', '+']) => radix(hex, 16),
            (_, Some(octal)) if octal.bytes().all(|b| b.is_ascii_digit()) => {
                let octal = radix(octal, 8);
                octal
                    .ok_or_else(|| self.wrong(place, "an octal number, since it begins with 0", text))?
                    .into()
            }
            _ if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        };
        if let Some(number) = whole {
            return Ok(Token::Integer(if negative { -number } else { number }));
        }
        let plain = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || b"eE+-.".contains(&b));
        match text.parse::<f64>() {
            Ok(number) if plain && number.is_finite() => Ok(Token::Float(number)),
            _ => Err(self.wrong(place, "a number", text)),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.take(c.len_utf8());
        Some(c)
    }

    fn while_of(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// The next bytes; the place moves with them.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        match taken.rsplit_once('\n') {
            Some((before, after)) => {
                self.place.line += 1 + before.matches('\n').count();
                self.place.column = 1 + after.chars().count();
            }
            None => self.place.column += taken.chars().count(),
        }
        taken
    }

    fn wrong(&self, place: Place, expected: &str, found: &str) -> Wrong {
        Wrong {
            place,
            expected: expected.to_owned(),
            found: found.chars().take(SHOWN).collect(),
        }
    }
}

fn joined(lines: &[&str], indentation: &str) -> String {
    let shared = lines.iter().all(|line| line.starts_with(indentation));
    let cut = if shared { indentation.len() } else { 0 };
    lines.iter().map(|line| format!("{}\n", &line[cut..])).collect()
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Strings are not repeated: a wrong comma must not put a password on the screen.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{}", word.chars().take(SHOWN).collect::<String>()),
            Self::Text(_) => f.write_str("a string"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::OpenBrace => f.write_str("{"),
            Self::CloseBrace => f.write_str("}"),
            Self::OpenBracket => f.write_str("["),
            Self::CloseBracket => f.write_str("]"),
            Self::Comma => f.write_str("a comma"),
            Self::Assign => f.write_str("="),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// Characters of the text that an error repeats.
const SHOWN: usize = 40;
