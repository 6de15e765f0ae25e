//! Every number and type of our own definitions, one a line, as `proto/lock.txt` has them. Shared by the example `generate` and by the test that compares.
//!
//! Invariant: a line that was written once stays for as long as anybody may still say it; new ones are added.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// The lines of `set`, as far as it is ours.
pub(crate) fn lines(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| file.package().starts_with("landfast."))
    {
        let package = file.package();
        for message in &file.message_type {
            of_message(package, message, &mut lines);
        }
        for values in &file.enum_type {
            of_enum(package, values, &mut lines);
        }
        for service in &file.service {
            lines.extend(service.method.iter().map(|method| {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                format!(
                    "rpc /{package}.{}/{} {}{} -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                )
            }));
        }
    }
    lines
}

fn of_message(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(format!("message {name}"));
    lines.extend(message.field.iter().map(|field| {
        let many = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        let kind = field
            .r#type()
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase();
        let of = field.type_name();
        let space = if of.is_empty() { "" } else { " " };
        format!(
            "field {name} {} {} {many}{kind}{space}{of}",
            field.number(),
            field.name()
        )
    }));
    // Gone for good: neither number nor name comes back as something else.
    let ranges = message.reserved_range.iter();
    let numbers = ranges.flat_map(|range| range.start()..range.end().min(range.start().saturating_add(1000)));
    lines.extend(numbers.map(|number| format!("reserved {name} {number}")));
    lines.extend(
        message
            .reserved_name
            .iter()
            .map(|gone| format!("reserved {name} {gone}")),
    );
    for nested in &message.nested_type {
        of_message(&name, nested, lines);
    }
    for values in &message.enum_type {
        of_enum(&name, values, lines);
    }
}

fn of_enum(scope: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", values.name());
    lines.insert(format!("enum {name}"));
    let all = values.value.iter();
    lines.extend(all.map(|value| format!("value {name} {} {}", value.number(), value.name())));
}

/// Lines of `kept` that `now` neither has nor has reserved. Only fields can be given up.
pub(crate) fn broken<'a>(kept: &'a BTreeSet<String>, now: &BTreeSet<String>) -> Vec<&'a String> {
    let given_up = |line: &str| {
        let mut words = line.split(' ');
        if words.next() != Some("field") {
            return false;
        }
        let Some(message) = words.next() else { return false };
        words
            .take(2)
            .all(|what| now.contains(&format!("reserved {message} {what}")))
    };
    let gone = kept.iter().filter(|line| !now.contains(*line));
    gone.filter(|line| !given_up(line)).collect()
}

/// The file's text: what it had, and what is new.
pub(crate) fn text(kept: &str, now: &BTreeSet<String>) -> String {
    let mut all = read(kept);
    all.extend(now.iter().cloned());
    let lines: Vec<&str> = all.iter().map(String::as_str).collect();
    format!("{HEAD}\n{}\n", lines.join("\n"))
}

/// The lines of the file.
pub(crate) fn read(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

const HEAD: &str = "# Every number and type of proto/landfast, for good (docs/compatibility.md). `make proto` adds lines; it takes none away.";
