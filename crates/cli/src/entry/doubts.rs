//! What the selectors of an entry say that nobody can have meant.
//!
//! Pure. Only `unix` is judged: other kinds belong to agents that know them.

use landfast_proto::spire::api::types;

/// Why no process ever has this selector; `None` when one may.
pub(crate) fn never(kind: &str, value: &str) -> Option<String> {
    if kind != "unix" {
        return None;
    }
    let (name, wanted) = value.split_once(':').unwrap_or((value, ""));
    let expected = match name {
        "uid" | "gid" | "supplementary_gid" if !is_number(wanted) => "a number without leading zeros",
        "user" | "group" | "supplementary_group" if wanted.is_empty() => "a name",
        "path" if !is_real_path(wanted) => {
            "an absolute path without `.`, `..` or `//`, as the kernel shows it"
        }
        "sha256" if !is_sha256(wanted) => "64 hexadecimal digits in lower case, as sha256sum prints them",
        name if !KNOWN.contains(&name) => {
            return Some(format!(
                "no process ever has {kind}:{value}: unix knows {}",
                KNOWN.join(", ")
            ));
        }
        _ => return None,
    };
    Some(format!(
        "no process ever has {kind}:{value}: {name} is {expected}"
    ))
}

/// Warnings about an entry as it would be, one or two lines each.
pub(super) fn warnings(entry: &types::Entry) -> Vec<String> {
    let mut warnings: Vec<String> = entry
        .selectors
        .iter()
        .filter_map(|selector| never(&selector.r#type, &selector.value))
        .map(|why| format!("warning: {why}\nhint: landfast entry update replaces the selectors"))
        .collect();
    let mut unix = entry
        .selectors
        .iter()
        .filter(|s| s.r#type == "unix")
        .map(|s| s.value.as_str())
        .peekable();
    let any = unix.peek().is_some();
    // A path or a hash without a user: any user can run that program, and steer it.
    if any && !unix.any(|value| value.starts_with("uid:") || value.starts_with("user:")) {
        warnings.push(
            "warning: no unix:uid selector: every user of the node that fits the rest gets this identity. unix:path and \
             unix:sha256 narrow a uid; they do not separate programs that run under one uid\n\
             hint: add --selector unix:uid:UID, and give each workload a user of its own"
                .to_owned(),
        );
    }
    warnings
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|number| number.to_string() == text)
}

fn is_real_path(text: &str) -> bool {
    text.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What an agent's `unix` attestor finds out.
const KNOWN: [&str; 8] = [
    "uid",
    "user",
    "gid",
    "group",
    "supplementary_gid",
    "supplementary_group",
    "path",
    "sha256",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_is_told_from_what_may() {
        let hash = "0123456789abcdef".repeat(4);
        for fine in [
            "uid:0",
            "uid:4294967295",
            "user:me",
            "gid:100",
            "group:www-data",
            "supplementary_gid:7",
            "supplementary_group:dialout",
            "path:/usr/bin/x",
            "path:/opt/a b/.c/..d",
            &format!("sha256:{hash}"),
        ] {
            assert_eq!(never("unix", fine), None, "{fine}");
        }
        for wrong in [
            "uiid:0",
            "uid",
            "uid:",
            "uid:00",
            "uid:+1",
            "uid:root",
            "uid:4294967296",
            "gid:-1",
            "user:",
            "path:bin/x",
            "path:/usr//bin/x",
            "path:/usr/../bin/x",
            "path:/usr/bin/",
            "sha256:ab",
            &format!("sha256:{}", hash.to_uppercase()),
        ] {
            let why = never("unix", wrong).unwrap();
            assert!(
                why.starts_with(&format!("no process ever has unix:{wrong}: ")),
                "{why}"
            );
        }
        assert_eq!(never("k8s", "ns:default"), None);
    }
}
