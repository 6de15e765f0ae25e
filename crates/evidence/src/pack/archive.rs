//! The zip file. Invariant: it is written the same for the same files; read, it gives no more than its bounds and no file that is not expected.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::{
    CHECKPOINT, CONTINUES, KEY, MANIFEST, MOST_LEDGERS, PROOFS, README, RECORDS, REPORT_HTML, REPORT_JSON,
};
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
    is_plain(bytes, &mut archive).map_err(broken)?;
    let (mut files, mut room) = (BTreeMap::new(), most);
    let mut next = 0;
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
        // Nothing lies between the files either.
        if file.header_start() != next {
            let what = "there is something in front of it that belongs to no file";
            return Err(PackFinding::of_file(&name, what.to_owned()));
        }
        next = file.data_start().unwrap_or_default() + file.compressed_size();
        let mut content = Vec::new();
        // What the archive says of a size is not believed.
        let bound = most_of(&name).min(room);
        let read = (&mut file).take(bound + 1).read_to_end(&mut content);
        read.map_err(|error| PackFinding::of_file(&name, format!("it cannot be unpacked: {error}")))?;
        if content.len() as u64 > bound {
            let what = match bound == room {
                true => format!("with it the pack is more than {most} bytes when it is unpacked"),
                false => format!("it is more than {bound} bytes when it is unpacked"),
            };
            return Err(PackFinding::of_file(&name, what));
        }
        room -= content.len() as u64;
        files.insert(name, content);
    }
    if next != archive.central_directory_start() {
        return Err(broken(
            "there is something behind its last file that belongs to none".to_owned(),
        ));
    }
    Ok(files)
}

/// Every program that unpacks it has to see the same files: one of each name, each as the directory says, and nothing in front, between or behind.
fn is_plain(bytes: &[u8], archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<(), String> {
    if archive.has_duplicate_names() {
        return Err("a file is in it twice: which one is seen depends on who unpacks it".to_owned());
    }
    let consistent = archive.validate_header_consistency();
    consistent.map_err(|error| format!("its files are not those that its directory names: {error}"))?;
    // The record that ends a zip file, with no comment, is the last thing in it.
    let end = bytes.len().checked_sub(END_OF_ZIP).map(|at| &bytes[at..]);
    let is_end = end.is_some_and(|end| end.starts_with(b"PK\x05\x06") && end.ends_with(&[0, 0]));
    match archive.offset() == 0 && archive.comment().is_empty() && is_end {
        true => Ok(()),
        false => Err("there is something in front of it or behind it".to_owned()),
    }
}

/// Unpacked; what people wrote or nobody needs to be long is short.
fn most_of(name: &str) -> u64 {
    match name.rsplit('/').next().unwrap_or_default() {
        README | CHECKPOINT | KEY => 1 << 20,
        // A kept checkpoint a day, for twenty years.
        CONTINUES => 16 << 20,
        MANIFEST => 16 << 20,
        _ => 512 << 20,
    }
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
    is_number && [CHECKPOINT, KEY, RECORDS, PROOFS, CONTINUES].contains(&file)
}

pub(super) fn base64(hash: &[u8; 32]) -> String {
    STANDARD.encode(hash)
}

pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

const MOST_FILES: usize = 4 + 5 * MOST_LEDGERS;
/// The last record of a zip file.
const END_OF_ZIP: usize = 22;
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

    #[test]
    fn whoever_unpacks_it_sees_the_same_files() {
        let files = vec![
            (README.to_owned(), b"x".repeat(9)),
            (MANIFEST.to_owned(), b"one".to_vec()),
            (REPORT_JSON.to_owned(), b"two".to_vec()),
        ];
        let good = write(&files).unwrap();
        assert!(read(&good).is_ok(), "the control");
        let refused = |bytes: &[u8]| read(bytes).expect_err("it is refused").what;
        // Two of one name, in the directory and at the files, so that nothing else is wrong.
        let mut same = files.clone();
        same[2].0 = "manifest.jsoX".to_owned();
        let twice = replaced(&write(&same).unwrap(), b"manifest.jsoX", MANIFEST.as_bytes());
        assert!(refused(&twice).contains("twice"), "{}", refused(&twice));
        // What the directory calls it is not what stands at the file.
        let at = position(&good, MANIFEST.as_bytes());
        let mut other = good.clone();
        other[at] = b'M';
        assert!(refused(&other).contains("directory"), "{}", refused(&other));
        // A file that the directory does not name, in front; and bytes behind the end, with and without a comment.
        let hidden = [write(&files[..1]).unwrap(), good.clone()].concat();
        refused(&hidden);
        refused(&[b"prefix".to_vec(), good.clone()].concat());
        refused(&[good.clone(), b"behind".to_vec()].concat());
        let mut comment = good.clone();
        let end = comment.len() - 2;
        comment[end] = 6;
        comment.extend(b"behind");
        refused(&comment);
        // Between a file and the directory: the directory's place is moved along.
        let directory = position(&good, b"PK\x01\x02");
        let mut between = good.clone();
        between.splice(directory..directory, *b"between");
        let offset = between.len() - 6;
        let moved = u32::try_from(directory + 7).unwrap().to_le_bytes();
        between[offset..offset + 4].copy_from_slice(&moved);
        assert!(
            refused(&between).contains("behind its last file"),
            "{}",
            refused(&between)
        );
    }

    fn position(bytes: &[u8], wanted: &[u8]) -> usize {
        bytes
            .windows(wanted.len())
            .position(|part| part == wanted)
            .expect("it is there")
    }

    /// Every place, by as many bytes.
    fn replaced(bytes: &[u8], wanted: &[u8], by: &[u8]) -> Vec<u8> {
        assert_eq!(wanted.len(), by.len());
        let mut bytes = bytes.to_vec();
        let places = bytes.windows(wanted.len()).enumerate();
        let places: Vec<usize> = places
            .filter(|(_, part)| *part == wanted)
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at..at + by.len()].copy_from_slice(by);
        }
        bytes
    }
}
