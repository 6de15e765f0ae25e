//! Databases as older versions have left them, one of each schema that ever was: `tests/compat` has their dumps.

use super::*;

/// The dumps of all releases, with the number of their schema.
fn dumps() -> Vec<(i64, std::path::PathBuf)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat");
    let releases = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    let files = releases.filter_map(|release| std::fs::read_dir(release.join("schemas")).ok());
    let files = files.flatten().map(|file| file.unwrap().path());
    let mut dumps: Vec<_> = files
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), path))
        .collect();
    dumps.sort();
    dumps
}

#[tokio::test]
async fn a_database_of_each_schema_is_migrated_and_holds_what_it_held() {
    let dumps = dumps();
    let plant = TrustDomain::parse("plant.test").unwrap();
    for number in 1..10 {
        assert!(dumps.iter().any(|(of, _)| *of == number), "schema {number} is missing");
    }
    for (number, dump) in dumps {
        let place = Place::new();
        place.sql(&std::fs::read_to_string(&dump).unwrap());
        assert_eq!(pending(&place.file, &plant).unwrap().schema, number, "{dump:?}");
        let db = SqliteDatastore::open(&place.file, &plant, true).unwrap_or_else(|why| panic!("{dump:?}: {why}"));
        let held = db.load(Some(START)).await.unwrap();
        assert_eq!((held.entries.len(), held.agents.len()), (4, 3), "{dump:?}");
        assert_eq!(held.bundles.len(), 1, "{dump:?}");
        assert_eq!(held.agents.iter().filter(|agent| agent.is_banned()).count(), 1);
        let policies = held.entries.iter().filter(|entry| entry.policy.is_some());
        assert_eq!(policies.count(), if number >= 7 { 4 } else { 0 }, "{dump:?}");
        assert_eq!(db.newest_step().await.unwrap().is_some(), number >= 10);
        assert!(!db.journal().await.unwrap().rows.is_empty(), "{dump:?}: the authorities");
        // It writes, and is opened again without anything to do.
        let draft = draft("/spire/agent/x", "/now");
        db.create_entry(draft, "now".into(), "me".into(), START).await.unwrap();
        drop(db);
        assert!(pending(&place.file, &plant).unwrap().numbers.is_empty());
    }
}

#[test]
fn a_migration_that_was_edited_does_not_open_them() {
    let (_, newest) = dumps().pop().unwrap();
    let place = Place::new();
    place.sql(&std::fs::read_to_string(newest).unwrap());
    let mut edited = super::super::migrate::MIGRATIONS.to_vec();
    let other = format!("{}-- another comment\n", edited[2]);
    edited[2] = &other;
    let plant = TrustDomain::parse("plant.test").unwrap();
    assert!(pending_of(&place.file, &plant, &edited).is_err());
}
