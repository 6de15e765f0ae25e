//! Writes what each target starts from, made of `tests/vectors` and the examples: `seeds FOLDER` makes a folder in it for each target.

mod messages;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use landfast_fuzz::vectors::{Vector, pem, repository};
use landfast_fuzz::{der, fixed};

// Built with the flags of the targets, so it needs the library that they call; nothing is fuzzed here.
libfuzzer_sys::fuzz_target!(|_data: &[u8]| {});

fn main() {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.expect("where to write: seeds FOLDER");
    let seeds = Seeds { folder };
    ids(&seeds);
    tokens(&seeds);
    documents(&seeds);
    requests(&seeds);
    signatures(&seeds);
    chains(&seeds);
    steps(&seeds);
    journals(&seeds);
    configurations(&seeds);
    headers(&seeds);
    messages::x509pop(&seeds);
    messages::workload(&seeds);
    messages::server(&seeds);
}

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn put(&self, target: &str, name: &str, content: impl AsRef<[u8]>) {
        let folder = self.folder.join(target);
        let written =
            std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), content));
        written.expect("a folder to write to");
    }
}

fn ids(seeds: &Seeds) {
    for vector in Vector::all("id") {
        if let Some(text) = vector.field("id").or_else(|| vector.field("pattern")) {
            seeds.put("id", &vector.name, text);
            seeds.put("id_diff", &vector.name, text);
        }
    }
    for (name, text) in [
        ("name", "td.test"),
        ("capitals", "SPIFFE://TD.test/A"),
        ("of-id", "spiffe://td.test/a/b"),
    ] {
        seeds.put("id_diff", name, text);
        seeds.put("id", name, text);
    }
    let several = [
        "unix:uid:1000",
        "unix:sha256:00",
        "x509pop:san:site:north",
        "a:b\nc:d\na:b",
        ":",
        "kind:",
        "k:\u{e9}",
    ];
    for (at, text) in several.iter().enumerate() {
        seeds.put("selector", &at.to_string(), text);
    }
}

fn tokens(seeds: &Seeds) {
    for vector in Vector::all("jwt") {
        let Some(token) = vector.body.trim_end().strip_prefix("token: ") else {
            continue;
        };
        if token.len() < 20_000 {
            seeds.put("jwt", &vector.name, token);
        }
        let decoded: Vec<Vec<u8>> = token
            .split('.')
            .filter_map(|part| URL_SAFE_NO_PAD.decode(part).ok())
            .collect();
        if let [header, claims, ..] = &decoded[..] {
            // The key of the target is `k`.
            let header = String::from_utf8_lossy(header).replace("\"k1\"", "\"k\"");
            if claims.len() < 8000 {
                let both = [header.as_bytes(), &[0], claims, &[0, 0, 40, 3]].concat();
                seeds.put("jwt_diff", &vector.name, both);
            }
        }
    }
}

fn documents(seeds: &Seeds) {
    for vector in Vector::all("bundle") {
        if vector.body.len() < 30_000 {
            seeds.put("bundle", &vector.name, &vector.body);
        }
    }
}

fn signatures(seeds: &Seeds) {
    let folder = repository().join("crates/identity/src/ssh/tests");
    for name in ["ed25519", "p256", "p384"] {
        let read =
            |end: &str| std::fs::read_to_string(folder.join(format!("{name}{end}"))).expect("a fixture");
        let signature: String = read(".sig")
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let signature = STANDARD.decode(signature).expect("base64");
        seeds.put(
            "ssh",
            &format!("{name}-signature"),
            [&[0], &signature[..]].concat(),
        );
        let public = read(".pub");
        let public = public
            .split(' ')
            .nth(1)
            .and_then(|blob| STANDARD.decode(blob.trim()).ok());
        seeds.put(
            "ssh",
            &format!("{name}-public"),
            [&[1], &public.expect("a key")[..]].concat(),
        );
        seeds.put(
            "ssh",
            &format!("{name}-private"),
            [&[2], read("").as_bytes()].concat(),
        );
    }
}

/// Lines as agents write them (`docs/formats/journal.md`).
fn journals(seeds: &Seeds) {
    let (zero, other) = ("0".repeat(64), "5e".repeat(32));
    let lines = [
        format!(
            r#"{{"detail":{{"by":"workload-api","to":{{"gid":7,"path":"/bin/a\u001b","pid":9,"uid":7}}}},"prev":"{zero}","quality":"confirmed","seq":0,"time":"2026-11-27T10:00:00Z","type":"svid.denied","v":1}}"#
        ),
        format!(r#"{{"prev":"{other}","quality":"doubted","seq":7,"type":"agent.stopped","v":1}}"#),
        format!(
            r#"{{"chain":"{other}","counts":{{"svid.denied":3,"svid.handed-out":2}},"last":8,"prev":"{zero}","seq":4,"type":"journal.gap","v":1}}"#
        ),
    ];
    for (at, line) in lines.iter().enumerate() {
        seeds.put("journal", &at.to_string(), line);
    }
}

fn requests(seeds: &Seeds) {
    for vector in Vector::all("csr") {
        for request in pem(&vector.body, "CERTIFICATE REQUEST")
            .iter()
            .filter(|one| one.len() < 8000)
        {
            seeds.put("csr", &vector.name, [&[0], &request[..]].concat());
            if let Some(both) = subject_and_attributes(request) {
                seeds.put(
                    "csr",
                    &format!("{}-inside", vector.name),
                    [&[1], &both[..]].concat(),
                );
            }
        }
    }
}

/// Of a request: what the target signs anew.
fn subject_and_attributes(request: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = der::split(der::inside(der::inside(request)?)?)?;
    let (subject, rest) = der::split(rest)?;
    let (_, attributes) = der::split(rest)?;
    Some([subject, attributes].concat())
}

fn chains(seeds: &Seeds) {
    for vector in Vector::all("x509") {
        let chain = pem(&vector.body, "CERTIFICATE").concat();
        if chain.len() < 12_000 {
            seeds.put("chain", &vector.name, [&[0], &chain[..]].concat());
        }
        if vector.body.len() < 12_000 {
            seeds.put("pem", &vector.name, &vector.body);
        }
        for (at, leaf) in pem(&vector.body, "CERTIFICATE").iter().take(1).enumerate() {
            if let Some(wanted) = extensions(leaf).filter(|wanted| wanted.len() < 4000) {
                seeds.put(
                    "chain",
                    &format!("{}-inside-{at}", vector.name),
                    [&[1], &wanted[..]].concat(),
                );
            }
        }
    }
    let (device, root) = fixed::device();
    let both = [&[0], device.as_der(), root.as_der()].concat();
    seeds.put("chain", "device", both);
    seeds.put("pem", "key", fixed::KEY);
    let rsa = std::fs::read(repository().join("tests/vectors/keys/rsa-2048.pem"));
    seeds.put(
        "pem",
        "rsa",
        rsa.expect("tests/vectors is part of the repository"),
    );
}

/// The extensions of a certificate as the target reads them.
fn extensions(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut rest = der::inside(der::inside(certificate)?)?;
    let mut last: &[u8] = &[];
    while let Some((one, after)) = der::split(rest) {
        (last, rest) = (one, after);
    }
    let mut rest = der::inside(der::inside(last)?)?;
    let mut out = Vec::new();
    while let Some((one, after)) = der::split(rest) {
        rest = after;
        let (oid, value) = der::split(der::inside(one)?)?;
        let pick = NUMBERS.iter().position(|number| oid.last() == Some(number));
        let critical = value.first() == Some(&1);
        let value = if critical { der::split(value)?.1 } else { value };
        let value = der::inside(value)?;
        let length = u8::try_from(value.len()).ok()?;
        out.push((pick.unwrap_or(8) as u8) << 1 | u8::from(critical));
        out.push(length);
        out.extend_from_slice(value);
    }
    Some(out)
}

/// As in the target.
const NUMBERS: [u8; 8] = [17, 15, 19, 37, 30, 14, 35, 32];

/// A step of the bundle chain, with a vector's authorities.
fn steps(seeds: &Seeds) {
    use landfast_identity::chain::{RootPrivateKey, SignedStep, Step};
    let key = RootPrivateKey::generate().expect("a key");
    for vector in Vector::all("bundle") {
        let bundle = landfast_identity::Bundle::from_jwks(fixed::domain("td.test"), vector.body.as_bytes());
        let Ok(bundle) = bundle else { continue };
        let step = Step {
            epoch: 1,
            sequence: 2,
            previous: Some([7; 32]),
            bundle,
            root_keys: vec![key.public_key()],
            time: fixed::NOW,
        };
        let Ok(mut signed) = SignedStep::unsigned(&step) else {
            continue;
        };
        signed.sign(&key).expect("room");
        let bytes = signed.to_bytes();
        seeds.put("step", &vector.name, [&[0], &bytes[..]].concat());
        // A tag, a length of two bytes, the step.
        seeds.put(
            "step",
            &format!("{}-inside", vector.name),
            [&[1], &bytes[3..]].concat(),
        );
    }
}

fn configurations(seeds: &Seeds) {
    for (kind, name) in [(0, "server"), (1, "agent")] {
        let text = std::fs::read_to_string(repository().join(format!("examples/{name}.toml")))
            .expect("the examples are part of the repository");
        seeds.put("config", name, [&[kind], text.as_bytes()].concat());
        // With every commented key switched on: `# key = value`.
        let all: String = text
            .lines()
            .map(
                |line| match line.strip_prefix("# ").or_else(|| line.strip_prefix('#')) {
                    Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
                    _ => line,
                },
            )
            .filter(|line| !line.starts_with('#') && !line.contains("ca_bundle"))
            .flat_map(|line| [line, "\n"])
            .collect();
        seeds.put(
            "config",
            &format!("{name}-all"),
            [&[kind], all.as_bytes()].concat(),
        );
        for (at, line) in all.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
            let wrong = all.replacen(line, &line.replace(" = ", " = -"), 1);
            seeds.put(
                "config",
                &format!("{name}-{at}"),
                [&[kind], wrong.as_bytes()].concat(),
            );
        }
    }
    seeds.put("config", "duration", "\x0090s");
    seeds.put("config", "size", "\x0064KiB");
}

fn headers(seeds: &Seeds) {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut out = vec![
            0,
            (payload.len() >> 8) as u8,
            payload.len() as u8,
            kind,
            flags,
            0,
            0,
            0,
            stream,
        ];
        out.extend_from_slice(payload);
        out
    };
    let literal = |first: u8, value: &[u8]| [&[first, value.len() as u8], value].concat();
    let request = |authority: &[u8]| [&[0x83, 0x86, 0x84], authority].concat();
    let settings = frame(4, 0, 0, &[]);
    let named = request(&literal(0x41, b"localhost"));
    let path = request(&literal(0x41, b"/run/landfast/agent.sock"));
    let percent = request(&literal(0x01, b"%2Frun%2Fa.sock"));
    let empty = request(&literal(0x41, b""));
    let again = request(&[0xbe]);
    let huffman = request(
        &[
            &[0x41, 0x8c][..],
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
        ]
        .concat(),
    );
    let custom = [&named[..], &[0x40, 1, b'a'], &literal(1, b"b")[1..]].concat();
    let padded = [&[2], &named[..], &[0, 0]].concat();
    let priority = [&[0, 0, 0, 0, 1], &path[..]].concat();
    let resize = [&[0x3f, 0x01], &path[..]].concat();
    // A table that the second entry fills to the last byte, and a look at the first.
    let filled = [
        &[0x3f, 37][..],
        &request(&[0x01, 1, b'h']),
        &[0x40, 1, b'a', 1, b'b'].repeat(2),
        &[0xbf],
    ]
    .concat();
    let all: [(&str, Vec<u8>); 12] = [
        ("filled", frame(1, 5, 1, &filled)),
        ("named", frame(1, 5, 1, &named)),
        ("path", [frame(1, 4, 1, &path), frame(0, 1, 1, b"data")].concat()),
        ("percent", frame(1, 5, 1, &percent)),
        ("empty", frame(1, 5, 1, &empty)),
        ("table", [frame(1, 5, 1, &path), frame(1, 5, 3, &again)].concat()),
        ("huffman", frame(1, 5, 1, &huffman)),
        ("custom", frame(1, 5, 1, &custom)),
        ("padded", frame(1, 0x0d, 1, &padded)),
        ("priority", frame(1, 0x25, 1, &priority)),
        ("resize", frame(1, 5, 1, &resize)),
        (
            "continued",
            [frame(1, 1, 1, &path[..5]), frame(9, 4, 1, &path[5..])].concat(),
        ),
    ];
    for (name, frames) in all {
        seeds.put("authority", name, [&[7], &settings[..], &frames].concat());
        seeds.put("authority_h2", name, frames);
    }
}

/// Base64 as in JSON.
fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
