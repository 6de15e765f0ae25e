//! Nothing that was said on the wire once comes to mean something else.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::lock;

const KEPT: &str = include_str!("../../../../proto/lock.txt");

fn now() -> FileDescriptorSet {
    FileDescriptorSet::decode(crate::DESCRIPTOR_SET).unwrap()
}

/// The definitions, after somebody has edited them.
fn edited(change: impl FnOnce(&mut prost_types::DescriptorProto)) -> BTreeSet<String> {
    let mut set = now();
    let mut files = set.file.iter_mut();
    let file = files.find(|file| file.package() == "landfast.info.v1").unwrap();
    let mut messages = file.message_type.iter_mut();
    change(messages.find(|message| message.name() == "Speaks").unwrap());
    lock::lines(&set)
}

#[test]
fn every_number_and_type_is_what_it_was() {
    let (kept, now) = (lock::read(KEPT), lock::lines(&now()));
    assert!(kept.len() > 200, "{}", kept.len());
    let broken = lock::broken(&kept, &now);
    assert!(
        broken.is_empty(),
        "others still say this; reserve number and name instead (docs/compatibility.md): {broken:#?}"
    );
    let new: Vec<_> = now.difference(&kept).collect();
    assert!(new.is_empty(), "run `make proto`: {new:#?}");
}

#[test]
fn a_number_a_type_or_a_name_that_changes_is_noticed_and_an_addition_is_welcome() {
    let kept = lock::read(KEPT);
    let broken =
        |now: &BTreeSet<String>| -> Vec<String> { lock::broken(&kept, now).into_iter().cloned().collect() };
    let line = "field landfast.info.v1.Speaks 2 built int64".to_owned();
    for now in [
        edited(|speaks| speaks.field[1].number = Some(7)),
        edited(|speaks| speaks.field[1].set_type(prost_types::field_descriptor_proto::Type::Sint64)),
        edited(|speaks| speaks.field[1].name = Some("made".to_owned())),
        edited(|speaks| speaks.field[1].set_label(prost_types::field_descriptor_proto::Label::Repeated)),
        edited(|speaks| drop(speaks.field.remove(1))),
        // The number alone could be said by another name, in JSON.
        edited(|speaks| {
            speaks.field.remove(1);
            speaks.reserved_range.push(range(2));
        }),
    ] {
        assert_eq!(broken(&now), [line.as_str()]);
    }
    let reserved = edited(|speaks| {
        speaks.field.remove(1);
        speaks.reserved_range.push(range(2));
        speaks.reserved_name.push("built".to_owned());
    });
    assert_eq!(broken(&reserved), <[String; 0]>::default());
    let added = edited(|speaks| {
        let mut field = speaks.field[1].clone();
        (field.number, field.name) = (Some(9), Some("colour".to_owned()));
        speaks.field.push(field);
    });
    assert_eq!(broken(&added), <[String; 0]>::default());
    assert!(lock::text(KEPT, &added).contains("Speaks 9 colour"));
    assert!(
        lock::text(KEPT, &reserved).contains(&line),
        "a line is never taken away"
    );
}

fn range(number: i32) -> prost_types::descriptor_proto::ReservedRange {
    prost_types::descriptor_proto::ReservedRange {
        start: Some(number),
        end: Some(number + 1),
    }
}
