//! Syslog: RFC 5424 with the octet counting of RFC 5425. Invariant: a message is one record, whole, on one line.

use super::batch::{Batch, Message, Severity};

/// All messages of a batch, each behind its length.
pub(super) fn messages(batch: &Batch) -> Vec<u8> {
    // Not a disk: it does not block. Without one the header says so.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut out = Vec::new();
    for message in &batch.messages {
        let framed = format(message, &host, &batch.origin);
        out.extend_from_slice(framed.len().to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&framed);
    }
    out
}

fn format(message: &Message, host: &str, origin: &str) -> Vec<u8> {
    let severity = match message.severity {
        Severity::Error => 3,
        Severity::Warning => 4,
        Severity::Information => 6,
    };
    let time = message
        .time
        .as_deref()
        .filter(|time| is_timestamp(time))
        .unwrap_or("-");
    // The digits of the ledger's name: a host may have had several.
    let log = name(origin.rsplit('/').next().unwrap_or_default(), 128);
    let sequence = message.sequence.map_or_else(
        || "-".to_owned(),
        |sequence| format!("[meta sequenceId=\"{}\"]", sequence % LARGEST_SEQUENCE + 1),
    );
    let (host, kind) = (name(host, 255), name(&message.kind, 32));
    // What is not ASCII is announced (RFC 5424 §6.4).
    let mark = if message.line.is_ascii() { "" } else { "\u{feff}" };
    let priority = LOG_AUDIT * 8 + severity;
    let line = &message.line;
    format!("<{priority}>1 {time} {host} landfast-server {log} {kind} {sequence} {mark}{line}").into_bytes()
}

/// As RFC 5424 §6 has names: printable, no spaces, so long; `-` for none.
fn name(text: &str, longest: usize) -> String {
    let name: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(longest)
        .collect();
    match name.is_empty() {
        true => "-".to_owned(),
        false => name,
    }
}

fn is_timestamp(text: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_digit() || b"-:TZ.".contains(&byte);
    text.len() >= 20 && text.len() <= 32 && text.bytes().all(is_of_it)
}

/// The facility "log audit".
const LOG_AUDIT: u32 = 13;
/// RFC 5424 §7.3.1.
const LARGEST_SEQUENCE: u64 = 2_147_483_647;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str, kind: &str, time: Option<&str>) -> Message {
        Message {
            sequence: Some(41),
            kind: kind.to_owned(),
            time: time.map(str::to_owned),
            severity: Severity::Warning,
            line: line.to_owned(),
        }
    }

    #[test]
    fn a_record_is_one_message_with_its_time_kind_and_ledger() {
        let message = message("{\"a\":1}", "svid.denied", Some("2026-11-26T08:00:00Z"));
        let text =
            String::from_utf8(format(&message, "gate way\n", "plant.test/landfast/ledger/00ff")).unwrap();
        assert_eq!(
            text,
            "<108>1 2026-11-26T08:00:00Z gateway landfast-server 00ff svid.denied [meta sequenceId=\"42\"] {\"a\":1}"
        );
    }

    #[test]
    fn nothing_in_a_record_becomes_a_header() {
        let message = message("ä", "svid.denied x] <1>", Some("2026-11-26 <13>1 - forged"));
        let text = String::from_utf8(format(&message, "", "")).unwrap();
        assert_eq!(
            text,
            "<108>1 - - landfast-server - svid.deniedx]<1> [meta sequenceId=\"42\"] \u{feff}ä"
        );
    }
}
