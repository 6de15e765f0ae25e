//! What `[datastore]` may say.

use crate::config::tests::load;

fn with(datastore: &str) -> Result<Option<String>, String> {
    let text = format!("trust_domain = \"plant.example\"\n[datastore]\n{datastore}\n");
    let config = load(&text)?;
    Ok(config.postgres.map(|postgres| format!("{postgres:?}")))
}

#[test]
fn a_database_is_named_or_the_one_in_the_data_directory_is_used() {
    assert_eq!(with("").unwrap(), None);
    let named = with("postgres = \"host=/run/postgresql user=landfast dbname=landfast\"").unwrap();
    assert_eq!(named.unwrap(), "PostgresConfig(landfast on /run/postgresql)");
    let several = with("postgres = \"postgres://me@127.0.0.1:1,[::1]:2/l\"\npassword_file = \"/x\"").unwrap();
    assert!(several.unwrap().contains("127.0.0.1,::1"));
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    for (text, said) in [
        ("password_file = \"/x\"", "datastore.postgres with it"),
        ("ca_file = \"/x\"", "datastore.postgres with it"),
        ("postgres = \"nonsense\"", "connection string"),
        ("postgres = \"postgres://me:secret@db.example/l\"", "in clear"),
        (
            "postgres = \"postgres://me:secret@localhost/l\"\npassword_file = \"/x\"",
            "leave one out",
        ),
        (
            "postgres = \"postgres://me@localhost/l\"\npassword_file = \"x\"",
            "absolute path",
        ),
        (
            "postgres = \"postgres://me@db.example/l\"\nca_file = \"/nowhere\"",
            "ca_file",
        ),
        ("sqlite = \"x\"", "sqlite"),
    ] {
        let error = with(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn servers_that_share_a_database_may_stand_below_a_parent_and_not_below_files_of_their_own() {
    let database = "postgres = \"host=/run/postgresql user=landfast dbname=landfast\"";
    let parent = "[upstream.spire]\nserver = \"parent:8081\"\nworkload_api = \"unix:///run/api.sock\"";
    assert!(with(&format!("{database}\n{parent}")).unwrap().is_some());
    let files = "[upstream.disk]\ncert_file = \"/c\"\nkey_file = \"/k\"";
    let error = with(&format!("{database}\n{files}")).unwrap_err();
    assert!(error.contains("[upstream.spire] or none"), "{error}");
    assert!(with(&format!("\n{files}")).is_ok(), "alone they do");
}
