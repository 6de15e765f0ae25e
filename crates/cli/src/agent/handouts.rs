//! `landfast agent handouts`: who was given what on this node, read from the files that the agent writes.
//!
//! Invariant: nothing is asked of the agent, so it works beside one that is stopped; only who may read the agent's files gets an answer.

use std::path::{Path, PathBuf};

use landfast_daemon::error_chain;
use landfast_store::read_beside;
use serde_json::Value;

use crate::cli::Globals;
use crate::failure::Failure;
use crate::{output, wire};

#[derive(clap::Args, Debug)]
pub(crate) struct HandOutsArgs {
    /// The agent's data directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/landfast-agent")]
    data_dir: PathBuf,
    /// Only what was handed out since then: a time in UTC (2026-11-26T08:00:00Z, or its beginning), or a duration before now (2h).
    #[arg(long, value_name = "WHEN", value_parser = wire::moment)]
    since: Option<String>,
    /// Only what comes from this entry.
    #[arg(long, value_name = "ID")]
    entry: Option<String>,
}

pub(super) fn show(args: &HandOutsArgs, globals: &Globals) -> Result<(), Failure> {
    let text = read(&args.data_dir)?;
    let (mut lines, mut unreadable) = (Vec::new(), 0_usize);
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(line) if line.is_object() => lines.push(line),
            _ => unreadable += 1,
        }
    }
    lines.retain(|line| is_wanted(line, args));
    if unreadable > 0 {
        output::complain(&format!(
            "{unreadable} lines cannot be read: a power cut leaves half of one; more than that, and somebody else wrote to the file"
        ));
    }
    if globals.json() {
        return output::print_json(&Value::from(lines));
    }
    let columns = &["TIME", "WHAT", "IDENTITY", "NAME", "UNTIL", "TO", "BY", "MORE"];
    output::print(&output::table(columns, lines.iter().map(row)))
}

fn is_wanted(line: &Value, args: &HandOutsArgs) -> bool {
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let lost = line.get("lost").is_some();
    let later = args.since.as_deref().is_none_or(|since| text("time") >= since);
    // What was lost may have been of any entry.
    later
        && args
            .entry
            .as_deref()
            .is_none_or(|entry| lost || text("entry") == entry)
}

/// Both files, oldest first.
fn read(dir: &Path) -> Result<String, Failure> {
    let one = |name: &str| -> Result<Option<String>, Failure> {
        let bytes = read_beside(dir, name).map_err(|error| {
            Failure::failed(
                error_chain(&error),
                "read it as root or as the agent's user; --data-dir is the data_dir of the agent's configuration",
            )
        })?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (now, before) = (one(NOW)?, one(BEFORE)?.unwrap_or_default());
    let now = match now {
        // Put aside between the two looks.
        Some(now) if !now.is_empty() && before.starts_with(&now) => one(NOW)?,
        now => now,
    };
    if now.is_none() && before.is_empty() {
        return Err(Failure::failed(
            format!("there is no {NOW} in {}", dir.display()),
            "the agent makes it with the first SVID that it hands out; --data-dir is the data_dir of its configuration",
        ));
    }
    Ok(before + &now.unwrap_or_default())
}

fn row(line: &Value) -> Vec<String> {
    let text = |name: &str| shown(line.get(name));
    let mut more = Vec::new();
    for name in ["standing", "quality"] {
        let usual = matches!(text(name).as_str(), "" | "connected" | "confirmed");
        more.extend((!usual).then(|| text(name)));
    }
    if line.get("reserve") == Some(&Value::Bool(true)) {
        more.push("of the reserve".to_owned());
    }
    if let Some(of) = line.get("of") {
        more.push(format!("for {}", whom(of)));
    }
    if line.get("audience").is_some() {
        more.push(format!("audience {}", text("audience")));
    }
    if line.get("left_out").is_some() {
        more.push(format!("{} before it have no line", text("left_out")));
    }
    if line.get("lost").is_some() {
        more.push(format!("{} found no room on the disk", text("lost")));
    }
    let name = [text("serial"), text("jti")].concat();
    let to = line.get("to").map(whom).unwrap_or_default();
    vec![
        text("time"),
        text("kind"),
        text("id"),
        name,
        text("not_after"),
        to,
        text("by"),
        more.join("; "),
    ]
}

fn whom(party: &Value) -> String {
    let text = |name: &str| shown(party.get(name));
    if party.get("selectors").is_some() {
        return text("selectors");
    }
    let program = match text("path") {
        path if path.is_empty() => path,
        path => format!(" {path}"),
    };
    format!("uid {} pid {}{program}", text("uid"), text("pid"))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) => {
            let all: Vec<_> = all.iter().map(|one| shown(Some(one))).collect();
            all.join(" ")
        }
        Some(other) => other.to_string(),
    }
}

const NOW: &str = "handouts.log";
const BEFORE: &str = "handouts.log.1";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn args(dir: &Path, since: Option<&str>, entry: Option<&str>) -> HandOutsArgs {
        HandOutsArgs {
            data_dir: dir.to_owned(),
            since: since.map(|text| wire::moment(text).unwrap()),
            entry: entry.map(str::to_owned),
        }
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let mut file = fs::File::create(dir.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn both_files_are_read_and_a_missing_one_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read(dir.path()).unwrap_err();
        assert!(missing.message.contains("handouts.log"), "{}", missing.message);
        write(dir.path(), NOW, "b\n");
        assert_eq!(read(dir.path()).unwrap(), "b\n");
        write(dir.path(), BEFORE, "a\n");
        assert_eq!(read(dir.path()).unwrap(), "a\nb\n");
        fs::set_permissions(dir.path().join(NOW), fs::Permissions::from_mode(0o644)).unwrap();
        let open = read(dir.path()).unwrap_err();
        assert!(open.message.contains("chmod 600"), "{}", open.message);
    }

    #[test]
    fn lines_are_chosen_by_time_and_entry() {
        let dir = Path::new("/");
        let line = json!({"time": "2026-11-26T08:00:00Z", "entry": "a"});
        let lost = json!({"time": "2026-11-26T08:00:00Z", "lost": 3});
        for (since, entry, wanted) in [
            (None, None, true),
            (Some("2026-11-26"), Some("a"), true),
            (Some("2026-11-26T08:00:00Z"), None, true),
            (Some("2026-11-26T08:00:01Z"), None, false),
            (None, Some("b"), false),
        ] {
            let args = args(dir, since, entry);
            assert_eq!(is_wanted(&line, &args), wanted, "{since:?} {entry:?}");
        }
        assert!(is_wanted(&lost, &args(dir, None, Some("b"))));
        for wrong in [
            "",
            "yesterday",
            "2026",
            "26.11.2026",
            "2026-11-26 08:00",
            "2026-11-26T08:00:00+01:00",
        ] {
            wire::moment(wrong).unwrap_err();
        }
        assert!(wire::moment("2h").unwrap().ends_with('Z'));
    }

    #[test]
    fn a_row_says_what_is_unusual() {
        let line = json!({
            "time": "t", "quality": "estimated", "standing": "islanded", "kind": "x509", "by": "broker", "id": "spiffe://a/b",
            "serial": "12", "not_after": "u", "reserve": true, "to": {"pid": 7, "uid": 8, "path": "/bin/x"},
            "of": {"selectors": ["k8s:pod:x", "k8s:ns:y"]}, "left_out": 3,
        });
        let expected = [
            "t",
            "x509",
            "spiffe://a/b",
            "12",
            "u",
            "uid 8 pid 7 /bin/x",
            "broker",
            "islanded; estimated; of the reserve; for k8s:pod:x k8s:ns:y; 3 before it have no line",
        ];
        assert_eq!(row(&line), expected);
        let usual = json!({"quality": "confirmed", "standing": "connected", "reserve": false});
        assert_eq!(row(&usual).last().unwrap(), "");
    }
}
