//! PEM in and out. Invariant: text between blocks is ignored, a broken block is never skipped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The contents of every block with this label, in order; `None` when a block is broken.
pub(crate) fn blocks(text: &str, label: &str) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("-----BEGIN ")
            .and_then(|l| l.strip_suffix("-----"))
        else {
            continue;
        };
        let end = format!("-----END {name}-----");
        let mut body = Zeroizing::new(String::with_capacity(room(&lines)));
        loop {
            match lines.next()? {
                line if line == end => break,
                line if line.starts_with("-----") => return None,
                line => body.push_str(line),
            }
        }
        if name == label {
            found.push(Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?));
        }
    }
    Some(found)
}

/// The bytes of the block that has begun: enough that a key is never copied to a larger buffer, and no more, or a text of many small
/// blocks would take the square of its length to wipe.
fn room<'a>(lines: &(impl Iterator<Item = &'a str> + Clone)) -> usize {
    let body = lines.clone().take_while(|line| !line.starts_with("-----"));
    body.map(str::len).sum()
}

/// The first block with this label.
pub(crate) fn first(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    blocks(text, label)?.into_iter().next()
}

/// One block, 64 characters a line.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut out = Zeroizing::new(String::with_capacity(
        body.len() + body.len() / 64 + 2 * label.len() + 40,
    ));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(der in proptest::collection::vec(any::<u8>(), 1..300), n in 1usize..4) {
            let text = format!("note\n{}", encode("X Y", &der).repeat(n));
            let back = blocks(&text, "X Y").unwrap();
            prop_assert_eq!(back.len(), n);
            prop_assert!(back.iter().all(|b| **b == der));
            prop_assert!(blocks(&text, "X").unwrap().is_empty());
            prop_assert_eq!(back, blocks(&text.replace('\n', "\r\n"), "X Y").unwrap());
        }
    }

    #[test]
    fn a_block_takes_no_more_room_than_itself_however_long_the_text() {
        let text = format!("YWJj\nYWJj\n-----END C-----\n{}", *encode("C", &[7; 1000]));
        assert_eq!(room(&text.lines()), 8);
        assert_eq!(room(&"".lines()), 0);
    }

    #[test]
    fn a_broken_block_is_never_skipped() {
        let good = encode("C", b"abc");
        for bad in [
            "-----BEGIN C-----\nYWJj\n",
            "-----BEGIN C-----\nYW*j\n-----END C-----\n",
            "-----BEGIN C-----\nYWJj\n-----END D-----\n",
            "-----BEGIN C-----\n-----BEGIN C-----\nYWJj\n-----END C-----\n",
        ] {
            assert!(blocks(&format!("{}{bad}", *good), "C").is_none(), "{bad}");
        }
    }
}
