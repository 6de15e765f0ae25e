//! `landfast quarantine`, of a server that is in none.

use super::{run, under_dev};

#[test]
fn without_a_quarantine_show_says_so_and_end_is_refused_with_a_hint() {
    let parent = tempfile::tempdir().unwrap();
    let script = r#"
        "$LANDFAST" quarantine show
        "$LANDFAST" --output json quarantine show | grep '"quarantine": false'
        "$LANDFAST" quarantine end --reason looked 2>&1 && exit 9
        exit 0
    "#;
    let (code, out, err) = under_dev(parent.path(), &[], script);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("no quarantine\n"), "{out}");
    assert!(
        out.contains("error: the server refuses: there is no quarantine\nhint: the show or list command"),
        "{out}"
    );
    let (code, _, err) = run(&["quarantine", "end"]);
    assert!(code == 2 && err.contains("--reason"), "{err}");
}
