//! A ban takes what there is, in the order in which it is worth the most to a thief.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;

use landfast_store::faulty::{Script, Verb};

use super::failing::open;
use super::*;

#[test]
fn a_banned_node_loses_its_seal_key_though_its_files_cannot_be_removed() {
    for verb in [Verb::Remove, Verb::List] {
        let (world, script) = (World::new(), Script::default());
        let (mut shelf, _) = open(&world, &script);
        for _ in 0..5 {
            shelf.write(&image(&holding(&world.ca, &["a"])), PLAIN).unwrap();
        }
        script.break_down(verb, ErrorKind::Other);
        shelf.destroy().unwrap_err();
        assert!(!world.files().is_empty());
        assert!(!world.place().key.exists(), "{verb:?}");
        shelf.destroy().unwrap_err();
        script.mend();
        // The ban is lifted before they could be: what is left counts for nothing, whatever its number.
        let after = holding(&world.ca, &["b"]);
        shelf.write(&image(&after), PLAIN).unwrap();
        drop(shelf);
        let found = world.open().1;
        assert_eq!(found.complaints, Vec::<String>::new());
        assert_eq!(keys(&found.image.unwrap().snapshot), keys(&after));
    }
}

#[test]
fn also_when_its_directory_cannot_be_opened() {
    let world = World::new();
    let (mut shelf, _) = world.open();
    shelf.write(&image(&holding(&world.ca, &["a"])), PLAIN).unwrap();
    drop(shelf);
    let mode = |mode| std::fs::set_permissions(world.place().dir, std::fs::Permissions::from_mode(mode));
    mode(0o777).unwrap();
    let (mut shelf, _) = world.open();
    shelf.destroy().unwrap_err();
    assert!(!world.place().key.exists());
    mode(0o700).unwrap();
    shelf.destroy().unwrap();
    assert_eq!(world.files(), []);
}
