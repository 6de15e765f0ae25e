//! A line of a node's journal, as a server takes it. What is taken counts what it stands for, continues by what its bytes are, and is no longer than its
//! format allows; the rule is written a second time here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ring::digest::{SHA256, digest};
use serde_json::Value;

#[path = "../../../crates/server/src/journals/line.rs"]
mod line;

use line::Line;

fuzz_target!(|data: &[u8]| {
    let Ok(line) = Line::parse(data) else { return };
    assert!(data.len() <= 4096 && line.length == data.len());
    assert!(line.first <= line.last && line.last < u64::MAX / 2);
    // What is not known is passed over, also where it is deeper than this reads.
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    assert_eq!(value["v"], 1);
    let hash = value["prev"].as_str().expect("a hash").to_lowercase();
    assert_eq!(hash, hex(&line.prev));
    let numbers = line.last - line.first + 1;
    match &line.counts {
        None => {
            assert_ne!(line.kind, line::GAP);
            assert_eq!(numbers, 1, "a record is one");
            assert_eq!(digest(&SHA256, data).as_ref(), line.chain);
        }
        Some(counts) => {
            assert_eq!(line.kind, line::GAP);
            let counted: u128 = counts.values().map(|number| u128::from(*number)).sum();
            assert_eq!(counted, u128::from(numbers));
        }
    }
    // Whatever it says beside that is passed on, and bounded by the line.
    let beside = [line.time.unwrap_or_default(), line.quality];
    assert!(beside.iter().all(|text| text.len() <= data.len()) && line.detail.len() <= data.len());
});

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
