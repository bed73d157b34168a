//! EDN, the little of it that histories need: text to JSON values and back. Keywords become words, lists and sets become arrays,
//! tags are skipped. Called by `edn`.

use super::Damaged;
use serde_json::{Map, Number, Value};

/// A history nests a few levels; more is damage, or an attack on the stack.
const DEPTH_MAX: usize = 64;

pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0, line: 1 }
    }

    pub fn line(&self) -> usize {
        self.line
    }

    /// The next form; None at the end.
    pub fn form(&mut self) -> Result<Option<Value>, Damaged> {
        self.skip(0)?;
        if self.peek().is_none() { Ok(None) } else { self.value(0).map(Some) }
    }

    fn damaged(&self, what: impl Into<String>) -> Damaged {
        Damaged::new(self.line, what)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let found = self.peek()?;
        self.at += found.len_utf8();
        self.line += usize::from(found == '\n');
        Some(found)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
        &self.text[start..self.at]
    }

    /// Blanks, commas, comments, and forms that are struck out with `#_`.
    fn skip(&mut self, depth: usize) -> Result<(), Damaged> {
        if depth > DEPTH_MAX {
            return Err(self.damaged(format!("struck out more than {DEPTH_MAX} deep")));
        }
        loop {
            self.take_while(|c| c.is_whitespace() || c == ',');
            if self.peek() == Some(';') {
                self.take_while(|c| c != '\n');
            } else if self.text[self.at..].starts_with("#_") {
                self.at += 2;
                self.skip(depth + 1)?;
                self.value(depth + 1)?;
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Damaged> {
        if depth > DEPTH_MAX {
            return Err(self.damaged(format!("nested more than {DEPTH_MAX} deep")));
        }
        match self.peek() {
            None => Err(self.damaged("ends in the middle of a form")),
            Some('{') => self.map(depth),
            Some('[') => self.sequence(']', depth),
            Some('(') => self.sequence(')', depth),
            Some('"') => self.string().map(Value::String),
            Some('#') => self.tagged(depth),
            Some('\\') => {
                self.next();
                let rest = self.take_while(is_plain);
                Ok(Value::from(rest))
            }
            Some(_) => self.atom(),
        }
    }

    fn tagged(&mut self, depth: usize) -> Result<Value, Damaged> {
        self.next();
        if self.peek() == Some('{') {
            return self.sequence('}', depth);
        }
        self.take_while(is_plain);
        self.skip(depth)?;
        self.value(depth + 1)
    }

    fn sequence(&mut self, end: char, depth: usize) -> Result<Value, Damaged> {
        self.next();
        let mut values = Vec::new();
        loop {
            self.skip(depth)?;
            if self.peek() == Some(end) {
                self.next();
                return Ok(Value::Array(values));
            }
            values.push(self.value(depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Damaged> {
        self.next();
        let mut map = Map::new();
        loop {
            self.skip(depth)?;
            if self.peek() == Some('}') {
                self.next();
                return Ok(Value::Object(map));
            }
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            self.skip(depth)?;
            let value = self.value(depth + 1)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(self.damaged(format!("the key {key} is there twice")));
            }
        }
    }

    fn string(&mut self) -> Result<String, Damaged> {
        self.next();
        let mut string = String::new();
        loop {
            match self.next() {
                None => return Err(self.damaged("ends in the middle of a string")),
                Some('"') => return Ok(string),
                Some('\\') => string.push(self.escaped()?),
                Some(other) => string.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Damaged> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(plain @ ('"' | '\\' | '/')) => Ok(plain),
            Some('u') => {
                let digits = self.text.get(self.at..self.at + 4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
                let code = code.ok_or_else(|| self.damaged("\\u is not followed by a character's number"))?;
                self.at += 4;
                Ok(code)
            }
            other => Err(self.damaged(format!("unknown escape {other:?}"))),
        }
    }

    fn atom(&mut self) -> Result<Value, Damaged> {
        let word = self.take_while(is_plain);
        if let Some(keyword) = word.strip_prefix(':')
            && !keyword.is_empty()
        {
            return Ok(Value::from(keyword));
        }
        match word {
            "nil" => return Ok(Value::Null),
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            _ => {}
        }
        // 12N is a large whole number, 1.5M an exact one.
        let digits = word.strip_suffix(['N', 'M']).unwrap_or(word);
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        let number: Option<Number> = digits.parse().ok();
        match number {
            Some(number) => Ok(Value::Number(number)),
            None if word.is_empty() => Err(self.damaged(format!("unexpected {:?}", self.peek().unwrap_or(' ')))),
            None => Err(self.damaged(format!("unknown symbol {word}"))),
        }
    }
}

fn is_plain(c: char) -> bool {
    !c.is_whitespace() && !",;()[]{}\"\\".contains(c)
}

fn is_keyword(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-.*+!?$%&=<>".contains(c);
    word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(inner)
}

/// As a keyword where it can be one, else as a string.
pub fn write_keyword(word: &str, to: &mut String) {
    if is_keyword(word) {
        to.push(':');
        to.push_str(word);
    } else {
        to.push_str(&Value::from(word).to_string());
    }
}

pub fn write_value(value: &Value, to: &mut String) {
    match value {
        Value::Null => to.push_str("nil"),
        Value::Array(values) => {
            to.push('[');
            separated(values, to, write_value);
            to.push(']');
        }
        Value::Object(map) => {
            to.push('{');
            separated(map, to, |(key, value), to| {
                write_keyword(key, to);
                to.push(' ');
                write_value(value, to);
            });
            to.push('}');
        }
        // EDN's escapes of a string, and its numbers, are JSON's.
        plain => to.push_str(&plain.to_string()),
    }
}

pub fn separated<T>(items: impl IntoIterator<Item = T>, to: &mut String, mut write: impl FnMut(T, &mut String)) {
    for (count, item) in items.into_iter().enumerate() {
        if count > 0 {
            to.push_str(if to.ends_with(' ') { "" } else { " " });
        }
        write(item, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Option<Value>, usize> {
        Reader::new(text).form().map_err(|damaged| damaged.line)
    }

    #[test]
    fn forms_are_read() {
        assert_eq!(read("; nothing\n ,"), Ok(None));
        assert_eq!(
            read("{:a 1, :b/c [nil true -2 1.5 :k \\x], \"s t\" #{1}}"),
            Ok(Some(json!({"a": 1, "b/c": [null, true, -2, 1.5, "k", "x"], "s t": [1]})))
        );
        assert_eq!(read("#_ {:x 1} #jepsen.history.Op{:f (12N)}"), Ok(Some(json!({"f": [12]}))));
        assert_eq!(read(r#""\u00e9\n\"é""#), Ok(Some(json!("é\n\"é"))));
    }

    #[test]
    fn damage_is_an_error_with_its_line() {
        for (text, line) in [
            ("{:a\n 1", 2),
            ("\n\n]", 3),
            ("{:a 1 :a 2}", 1),
            ("[\n\"abc", 2),
            ("foo", 1),
            (":", 1),
            ("\"\\u12\"", 1),
            ("\"\\q\"", 1),
            ("{:a}", 1),
            ("#", 1),
            ("1.2.3", 1),
        ] {
            assert_eq!(read(text), Err(line), "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)), Err(1));
        assert_eq!(read(&"#a ".repeat(100_000)), Err(1));
        assert_eq!(read(&"#_ ".repeat(10)), Err(1));
    }
}
