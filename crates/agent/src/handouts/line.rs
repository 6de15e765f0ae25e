//! What a line says. Invariant: nothing of a key and nothing of a token but its name; no longer than its bounds, whatever callers and servers say.

use landfast_identity::{UnixTime, jwt, wit};
use landfast_workload_api::{Given, HandOut, Party};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Line {
    v: u32,
    time: String,
    quality: &'static str,
    standing: &'static str,
    kind: &'static str,
    by: &'static str,
    entry: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    reserve: bool,
    to: Whom,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Whom>,
    /// So many hand-outs to this user before this one have no line.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

/// A process, or what stands for one.
#[derive(Serialize, Default)]
pub(crate) struct Whom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Where no process was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    selectors: Vec<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    pub(super) fn of(
        handed: &HandOut<'_>,
        now: UnixTime,
        quality: &'static str,
        standing: &'static str,
        left_out: u64,
    ) -> Self {
        let mut line = Self {
            v: VERSION,
            time: now.to_string(),
            quality,
            standing,
            kind: "",
            by: handed.way.as_str(),
            entry: String::new(),
            id: String::new(),
            serial: None,
            jti: None,
            audience: Vec::new(),
            not_before: None,
            not_after: None,
            reserve: false,
            to: Whom::of(handed.to),
            of: handed.of.map(Whom::of),
            left_out,
        };
        match handed.given {
            Given::X509(served) => {
                line.kind = "x509";
                (line.entry, line.id) = (cut(&served.entry_id), served.svid.id().to_string());
                line.serial = Some(served.svid.serial_hex());
                line.not_before = Some(served.svid.not_before().to_string());
                line.not_after = Some(served.svid.not_after().to_string());
                line.reserve = served.reserve;
            }
            Given::Jwt(jwt) => {
                line.kind = "jwt";
                (line.entry, line.id) = (cut(&jwt.entry_id), jwt.id.to_string());
                line.reserve = jwt.reserve;
                line.say_token(&jwt.token);
            }
            Given::Wit(wit) => {
                line.kind = "wit";
                (line.entry, line.id) = (cut(&wit.entry_id), wit.id.to_string());
                let parsed = wit::parse_unverified(&wit.token).ok();
                line.not_after = parsed.map(|wit| wit.expires_at().to_string());
            }
        }
        line
    }

    fn say_token(&mut self, token: &str) {
        // It was read when it came.
        let Ok(parsed) = jwt::parse_unverified(token) else {
            return;
        };
        self.jti = parsed.claims().get("jti").and_then(|jti| jti.as_str()).map(cut);
        self.audience = list(parsed.audience().iter().map(String::as_str));
        self.not_before = parsed.issued_at().map(|at| at.to_string());
        self.not_after = Some(parsed.expires_at().to_string());
    }

    /// What it says, for a record that has a time of its own.
    pub(super) fn without_time(&self) -> serde_json::Map<String, serde_json::Value> {
        let Ok(serde_json::Value::Object(mut members)) = serde_json::to_value(self) else {
            return serde_json::Map::new();
        };
        for name in ["v", "time", "quality", "left_out"] {
            members.remove(name);
        }
        members
    }

    /// With its end.
    pub(super) fn text(&self) -> String {
        text(self)
    }
}

impl Whom {
    pub(crate) fn of(party: Party<'_>) -> Self {
        let Some(process) = party.process else {
            let named: Vec<_> = party.selectors.iter().map(ToString::to_string).collect();
            return Self {
                selectors: list(named.iter().map(String::as_str)),
                ..Self::default()
            };
        };
        let unix = |name: &str| {
            let mut of_unix = party
                .selectors
                .iter()
                .filter(|selector| selector.kind() == "unix");
            of_unix.find_map(|selector| Some(cut(selector.value().strip_prefix(name)?)))
        };
        Self {
            pid: Some(process.pid()),
            uid: Some(process.uid()),
            gid: Some(process.gid()),
            path: unix("path:"),
            sha256: unix("sha256:"),
            selectors: Vec::new(),
        }
    }
}

/// How many lines found no room.
#[derive(Serialize)]
pub(super) struct Lost {
    v: u32,
    time: String,
    quality: &'static str,
    lost: u64,
}

impl Lost {
    pub(super) fn text(now: UnixTime, quality: &'static str) -> Self {
        Self {
            v: VERSION,
            time: now.to_string(),
            quality,
            lost: 0,
        }
    }

    pub(super) fn line(self, lost: u64) -> String {
        text(&Self { lost, ..self })
    }
}

/// What serialises without a chance to fail.
fn text(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn list<'a>(all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut shown = Vec::new();
    for one in all {
        if shown.len() == MOST {
            shown.push("…".to_owned());
            break;
        }
        shown.push(cut(one));
    }
    shown
}

const VERSION: u32 = 1;
/// Of an entry's ID, a path, an audience, in characters. A SPIFFE ID is bounded by itself.
const LONGEST: usize = 256;
/// Of audiences and selectors.
const MOST: usize = 16;
