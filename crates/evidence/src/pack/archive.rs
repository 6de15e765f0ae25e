//! The zip file. Invariant: it is written the same for the same files; read, it gives no more than its bounds and no file that is not expected.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::{CHECKPOINT, KEY, MANIFEST, MOST_LEDGERS, PROOFS, README, RECORDS, REPORT_HTML, REPORT_JSON};
use super::{PackError, PackFinding};

pub(super) fn write(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, PackError> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    // No time of making: the same records make the same file.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    for (name, bytes) in files {
        writer.start_file(name.as_str(), options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The files by their names; findings instead when it is none of ours.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, PackFinding> {
    read_within(bytes, MOST_BYTES)
}

fn read_within(bytes: &[u8], most: u64) -> Result<BTreeMap<String, Vec<u8>>, PackFinding> {
    let broken = |what: String| PackFinding::of_file("(the zip file)", what);
    let mut archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(format!("it cannot be read: {error}")))?;
    if archive.len() > MOST_FILES {
        return Err(broken(format!(
            "it has {} files, and a pack has at most {MOST_FILES}",
            archive.len()
        )));
    }
    let (mut files, mut room) = (BTreeMap::new(), most);
    for index in 0..archive.len() {
        let mut file = archive
            .by_index(index)
            .map_err(|error| broken(format!("file {index} cannot be read: {error}")))?;
        let name = match file.name() {
            Ok(name) => name.into_owned(),
            Err(_) => return Err(broken(format!("file {index} has a name that is no text"))),
        };
        if !is_expected(&name) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(PackFinding::of_file(&name, "a file that no pack has".to_owned()));
        }
        let mut content = Vec::new();
        // What the archive says of a size is not believed.
        let read = (&mut file).take(room + 1).read_to_end(&mut content);
        read.map_err(|error| PackFinding::of_file(&name, format!("it cannot be unpacked: {error}")))?;
        let left = room.checked_sub(content.len() as u64);
        room = left.ok_or_else(|| {
            PackFinding::of_file(
                &name,
                format!("with it the pack is more than {most} bytes when it is unpacked"),
            )
        })?;
        if files.insert(name.clone(), content).is_some() {
            return Err(PackFinding::of_file(&name, "it is there twice".to_owned()));
        }
    }
    Ok(files)
}

fn is_expected(name: &str) -> bool {
    if [README, MANIFEST, REPORT_JSON, REPORT_HTML].contains(&name) {
        return true;
    }
    let Some((number, file)) = name.strip_prefix("ledger-").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let is_number = number
        .parse::<usize>()
        .is_ok_and(|n| (1..=MOST_LEDGERS).contains(&n) && n.to_string() == number);
    is_number && [CHECKPOINT, KEY, RECORDS, PROOFS].contains(&file)
}

pub(super) fn base64(hash: &[u8; 32]) -> String {
    STANDARD.encode(hash)
}

pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

const MOST_FILES: usize = 4 + 4 * MOST_LEDGERS;
/// A gigabyte: what a laptop has room for.
const MOST_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_pack_has_is_unpacked() {
        for name in [
            README,
            REPORT_HTML,
            "ledger-1/checkpoint",
            "ledger-64/proofs.jsonl",
        ] {
            assert!(is_expected(name), "{name}");
        }
        for name in [
            "../report.json",
            "ledger-0/checkpoint",
            "ledger-01/checkpoint",
            "ledger-65/checkpoint",
            "ledger-1/x",
            "/README.txt",
            "ledger-1/../manifest.json",
        ] {
            assert!(!is_expected(name), "{name}");
        }
    }

    #[test]
    fn the_same_files_make_the_same_archive_and_come_back() {
        let files = vec![
            (README.to_owned(), b"x".repeat(9)),
            (MANIFEST.to_owned(), b"y".to_vec()),
        ];
        let made = write(&files).unwrap();
        assert_eq!(made, write(&files).unwrap());
        assert_eq!(
            read(&made).unwrap().into_iter().rev().collect::<Vec<_>>(),
            [files[1].clone(), files[0].clone()]
        );
    }

    #[test]
    fn what_unpacks_to_more_than_there_is_room_for_is_left_packed() {
        // A thousand to one: each fits, and both together do not.
        let nothing = vec![0_u8; 600 << 10];
        let files = vec![
            (README.to_owned(), nothing.clone()),
            (MANIFEST.to_owned(), nothing),
        ];
        let bomb = write(&files).unwrap();
        assert!(bomb.len() < 4 << 10, "{}", bomb.len());
        assert!(read_within(&bomb, 1200 << 10).is_ok(), "the control");
        let refused = read_within(&bomb, 1 << 20).unwrap_err();
        assert!(refused.what.contains("more than"), "{refused:?}");
    }
}
