//! A ledger with a story in it, and hands that change it.

use std::path::PathBuf;

use crate::{Evidence, Ledger, Ledgers, Opening, Parts, Period, pack};
use landfast_audit::verify::VerifierKey;
use landfast_audit::{
    Actor, ActorClass, Category, CheckpointKey, Decision, Log, Outcome, Record, TimeQuality,
};
use landfast_identity::UnixTime;
use landfast_store::Store;
use tempfile::TempDir;

pub(crate) const PLC: &str = "spiffe://plant.test/line4/plc-7";
pub(crate) const NODE: &str = "spiffe://plant.test/spire/agent/x509pop/gateway";
pub(crate) const JO: &str = "p-jo";

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) key: String,
}

/// So many seconds after 2026-11-23T08:00:00Z.
pub(crate) fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(1_795_420_800 + seconds)
}

pub(crate) fn record(seconds: i64, category: Category, kind: &'static str, actor: Actor) -> Record {
    Record {
        time: Some(at(seconds)),
        time_quality: TimeQuality::Unconfirmed,
        ..Record::new(category, kind, actor)
    }
}

pub(crate) fn jo() -> Actor {
    Actor::new(ActorClass::Person, Some(JO.to_owned())).known_by("uid", 1000_u64)
}

fn node() -> Actor {
    Actor::new(ActorClass::Node, Some(NODE.to_owned()))
}

fn server() -> Actor {
    Actor::new(ActorClass::Server, None)
}

pub(crate) fn change(seconds: i64, kind: &'static str, actor: Actor) -> Record {
    Record {
        decision: Decision::Allow,
        ..record(seconds, Category::Configuration, kind, actor)
    }
}

pub(crate) fn entry(seconds: i64, id: &str, subject: &str, actor: Actor) -> Record {
    change(seconds, "entry.created", actor)
        .about(subject)
        .because("commissioning of line 4")
        .with("admin", false)
        .with("downstream", false)
        .with("entry", id)
        .with("parent", NODE)
        .with("selectors", vec!["unix:uid:1001".to_owned()])
}

pub(crate) fn issued(seconds: i64, entry: &str, subject: &str, number: i64) -> Record {
    Record {
        decision: Decision::Allow,
        ..record(seconds, Category::AccessControl, "svid.issued", node())
    }
    .about(subject)
    .with("entry", entry)
    .with("kind", "x509")
    .with("not_after", at(seconds + 3600))
    .with("not_before", at(seconds))
    .with("serial", format!("{number:08x}"))
}

/// A thousand records of a day: a beginning, SVIDs, a self-test, an intruder who is refused, a node that is banned.
pub(crate) fn story() -> Vec<Record> {
    let mut all = vec![
        record(0, Category::AuditLog, "log.started", server()).with("version", "0.1.0"),
        change(
            10,
            "person.changed",
            Actor::new(ActorClass::Unknown, None).known_by("uid", 0_u64),
        )
        .about(JO)
        .because("first operator")
        .with("action", "add")
        .with("alone", true),
        entry(20, "e-plc", PLC, jo()),
        change(21, "policy.changed", jo())
            .because("it is ours")
            .with("entry", "e-plc"),
        record(30, Category::AccessControl, "node.attested", node()).about(NODE),
        Record {
            decision: Decision::Deny,
            ..record(40, Category::System, "selftest.tried", jo()).with("name", "expired-svid")
        },
        record(41, Category::System, "selftest.done", jo())
            .with("let_through", 0_u64)
            .with("not_tried", 0_u64)
            .with("tries", 1_u64),
    ];
    all.extend((0..900).map(|n| issued(60 + n * 60, "e-plc", PLC, n)));
    let after = 60 + 900 * 60;
    all.extend((0..92).map(|n| {
        Record {
            decision: Decision::Deny,
            result: Outcome::Refused,
            ..record(after + n, Category::AccessControl, "svid.denied", node())
                .about("spiffe://plant.test/line4/hmi")
                .because("the key is in use")
        }
    }));
    all.push(
        change(after + 100, "node.banned", jo())
            .about(NODE)
            .because("it asks for what is not its own"),
    );
    all
}

impl Rig {
    pub(crate) fn new(records: &[Record]) -> Self {
        Self::under(&CheckpointKey::generate().unwrap(), records)
    }

    /// Under a key that others have too.
    pub(crate) fn under(der: &[u8], records: &[Record]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", der).unwrap();
        let line = key.verifier_key();
        let store = Store::open(&dir.path().join("ledger")).unwrap();
        let mut log = Log::begin(store, key).unwrap();
        for batch in records.chunks(100) {
            log.append(batch).unwrap();
        }
        log.checkpoint().unwrap();
        drop(log);
        Self { dir, key: line }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("ledger").join(name)
    }

    pub(crate) fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.key).unwrap()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger_with(&[], &[])
    }

    /// With checkpoints that were kept, and archives.
    pub(crate) fn ledger_with(&self, checkpoints: &[(String, Vec<u8>)], archives: &[PathBuf]) -> Ledger {
        let opening = Opening {
            key: Some(&self.key),
            checkpoints,
            archives,
        };
        Ledger::open(&self.path(""), &opening).unwrap()
    }

    pub(crate) fn ledgers(&self) -> Ledgers {
        Ledgers::new(vec![self.ledger()]).unwrap()
    }

    pub(crate) fn evidence(&self) -> Evidence {
        self.ledgers().evidence(&Period::default()).unwrap()
    }

    pub(crate) fn pack(&self, stage: &str) -> Vec<u8> {
        pack(&self.ledgers(), &parts(stage)).unwrap().bytes
    }

    /// Changes the records from 256 on in the files, and leaves the hashes.
    #[expect(clippy::disallowed_methods, reason = "somebody else's hand")]
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let path = self.path("tile/entries/001");
        let (bytes, mut records) = (std::fs::read(&path).unwrap(), Vec::new());
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (record, after) = after.split_at(u16::from_be_bytes(*length).into());
            records.push(record.to_vec());
            rest = after;
        }
        change(&mut records);
        let framed = records
            .iter()
            .flat_map(|record| [&u16::try_from(record.len()).unwrap().to_be_bytes(), &record[..]].concat());
        std::fs::write(path, framed.collect::<Vec<u8>>()).unwrap();
    }
}

pub(crate) fn parts(stage: &str) -> Parts<'_> {
    Parts {
        stage,
        case: Some("line-4-intruder"),
        period: Period {
            from: Some("2026-11-23T12:00:00Z".to_owned()),
            to: Some("2026-11-24".to_owned()),
        },
    }
}

/// The files of a pack.
pub(crate) fn unpacked(pack: &[u8]) -> Vec<(String, Vec<u8>)> {
    use std::io::Read as _;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(pack)).unwrap();
    let files = (0..archive.len()).map(|index| {
        let mut file = archive.by_index(index).unwrap();
        let (name, mut bytes) = (file.name().unwrap().into_owned(), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    files.collect()
}

pub(crate) fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The pack with one file changed, as lines.
pub(crate) fn changed(pack: &[u8], name: &str, change: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
    let mut files = unpacked(pack);
    let file = files
        .iter_mut()
        .find(|(there, _)| there == name)
        .expect("the file is there");
    let mut lines: Vec<String> = String::from_utf8(file.1.clone())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    change(&mut lines);
    lines.push(String::new());
    file.1 = lines.join("\n").into_bytes();
    packed(&files)
}

/// The pack with another manifest.
pub(crate) fn with_manifest(pack: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut files = unpacked(pack);
    let file = files
        .iter_mut()
        .find(|(name, _)| name == "manifest.json")
        .expect("the file is there");
    let mut value: serde_json::Value = serde_json::from_slice(&file.1).unwrap();
    change(&mut value);
    file.1 = serde_json::to_vec(&value).unwrap();
    packed(&files)
}

pub(crate) fn period(from: &str, to: &str) -> Period {
    let some = |time: &str| Some(time.to_owned()).filter(|time| !time.is_empty());
    Period {
        from: some(from),
        to: some(to),
    }
}
