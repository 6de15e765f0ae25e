//! Users and groups, as the kernel has them (T-39).

use std::process::Command;

use landfast_testkit::site::Plan;

use crate::{Ground, LONG, VICTIM, contains, public_rig, rig};

/// T-39: none, one, as many as a process usually may have, one more, and as many as the kernel allows.
#[test]
fn t39_any_number_of_supplementary_groups_is_read_from_the_process_itself() {
    let ground = Ground::new(&Plan::default());
    let uid = format!("unix:uid:{VICTIM}");
    ground.site.entry("/user", &[&uid]);
    ground
        .site
        .entry("/first", &[&uid, "unix:supplementary_gid:200000"]);
    ground
        .site
        .entry("/thousandth", &[&uid, "unix:supplementary_gid:201022"]);
    let fetch = public_rig(&ground, "fetch");
    for (count, first, thousandth) in [
        (0, false, false),
        (1, true, false),
        (1023, true, true),
        (1024, true, true),
        (65_536, true, true),
    ] {
        let out = Command::new(rig("groups"))
            .args([VICTIM.to_string(), count.to_string()])
            .arg(&fetch)
            .args([
                ground.socket(),
                ground.request(),
                LONG.to_owned(),
                "site.test/user".to_owned(),
            ])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let has = |path: &str| contains(&out.stdout, &format!("spiffe://site.test/{path}"));
        assert_eq!(
            (has("user"), has("first"), has("thousandth")),
            (true, first, thousandth),
            "{count} groups"
        );
    }
    // The effective group alone is no supplementary one.
    let answer = ground.heard_by(VICTIM, 200_000, &fetch, "site.test/user");
    assert!(contains(&answer, "site.test/user") && !contains(&answer, "site.test/first"));
}
