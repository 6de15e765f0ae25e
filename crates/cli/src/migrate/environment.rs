//! `$NAME` and `${NAME}` in a text. Invariant: a variable that is not set is an error, not nothing.

use crate::failure::Failure;
use crate::hcl;

/// `$$` is a dollar sign; one that no name follows stays.
pub(super) fn expand(
    file: &str,
    text: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, Failure> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, length) = match behind.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((name, _)) if !name.is_empty() && name.chars().all(is_name) => (name, name.len() + 2),
                _ => ("", 0),
            },
            None => {
                let end = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
                (&behind[..end], end)
            }
        };
        rest = &behind[length..];
        if let Some(after) = rest.strip_prefix('$').filter(|_| name.is_empty()) {
            rest = after;
            expanded.push('$');
        } else if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            expanded.push('$');
            rest = behind;
        } else if let Some(value) = value(name) {
            expanded.push_str(&value);
        } else {
            let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
            return Err(Failure::failed(
                format!("{file}:{line}: the environment has no {name}"),
                format!("set {name} as SPIRE's unit does, or run without --expand-env"),
            ));
        }
        if expanded.len() > hcl::MAX_BYTES {
            return Err(Failure::failed(
                format!("{file} is too large with its variables"),
                "is one of them wrong?",
            ));
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_dollars_without_a_name_stay() {
        let value = |name: &str| (name == "A_1").then(|| "x$B".to_owned());
        for (text, expected) in [
            ("$A_1", "x$B"),
            ("${A_1}b$A_1.", "x$Bbx$B."),
            ("$$A_1 $$", "$A_1 $"),
            ("a$ $1 ${} ${a-b} ${", "a$ $1 ${} ${a-b} ${"),
            ("ä$", "ä$"),
        ] {
            assert_eq!(expand("f", text, value).unwrap(), expected, "{text}");
        }
        let missing = expand("f", "a\n\n b = \"${GONE}\"\n", value).unwrap_err();
        assert_eq!(missing.message, "f:3: the environment has no GONE");
    }
}
