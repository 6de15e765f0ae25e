//! What is taken over of the upstream authority's bundle, and when.

use std::time::Duration;

use landfast_identity::issue::{AuthorityParams, self_signed_authority};
use landfast_identity::{PrivateKey, PublicKey};

use super::*;
use crate::authority::Descent;
use crate::core::fixture::{START, td};

fn root() -> Certificate {
    let params = AuthorityParams {
        trust_domain: &td(),
        authority_id: "root",
        not_before: START,
        not_after: START.saturating_add(Duration::from_secs(1_000_000)),
    };
    self_signed_authority(&params, &PrivateKey::generate().unwrap()).unwrap()
}

fn key() -> PublicKey {
    PrivateKey::generate().unwrap().public_key()
}

fn below(root: &Certificate, slot: Slot) -> AuthorityRow {
    AuthorityRow {
        id: format!("{slot:?} of {}", root_id(root)),
        kind: Kind::X509,
        slot,
        key_name: String::new(),
        certificate: Some(root.clone()),
        descent: Some(Descent {
            chain: Vec::new(),
            root: root_id(root),
        }),
        public_key: key(),
        created_at: START,
        activated_at: None,
        not_before: START,
        not_after: START,
        last_svid_ends: None,
        tainted: false,
    }
}

fn journal(rows: Vec<AuthorityRow>, roots: &[(&Certificate, RootTrust)]) -> Journal {
    let roots = roots.iter().map(|(certificate, trust)| Root {
        certificate: (*certificate).clone(),
        trust: *trust,
    });
    Journal {
        rows,
        above: Above {
            roots: roots.collect(),
            jwt: Vec::new(),
        },
        ..Journal::default()
    }
}

fn seen(roots: &[(&Certificate, bool)]) -> Seen {
    let roots = roots.iter().map(|(certificate, tainted)| X509Authority {
        certificate: (*certificate).clone(),
        tainted: *tainted,
    });
    Seen {
        roots: roots.collect(),
        jwt: Vec::new(),
        fresh: false,
        sequence: None,
    }
}

fn trusts(above: &Above) -> Vec<RootTrust> {
    above.roots.iter().map(|root| root.trust).collect()
}

use RootTrust::{Revoked, Tainted, Trusted};

#[test]
fn a_taint_waits_until_the_active_authority_stands_elsewhere() {
    let (old, new) = (root(), root());
    let before = journal(vec![below(&old, Slot::Active)], &[(&old, Trusted)]);
    let (rows, above) = follow(&before, &seen(&[(&old, true), (&new, false)]), true, START);
    assert_eq!(
        trusts(&above),
        [Trusted, Trusted],
        "agents must not renew under it once more"
    );
    assert!(rows[0].tainted, "so the next one is due at once");

    let after = journal(
        vec![below(&old, Slot::Old), below(&new, Slot::Active)],
        &[(&old, Trusted), (&new, Trusted)],
    );
    let (rows, above) = follow(&after, &seen(&[(&old, true), (&new, false)]), true, START);
    assert_eq!(trusts(&above), [Tainted, Trusted]);
    assert!(rows[0].tainted && !rows[1].tainted);
}

#[test]
fn a_root_that_the_parent_no_longer_names_is_over_unless_it_is_the_last_we_stand_under() {
    let (old, new) = (root(), root());
    let before = journal(
        vec![below(&old, Slot::Old), below(&new, Slot::Active)],
        &[(&old, Tainted), (&new, Trusted)],
    );
    let (_, above) = follow(&before, &seen(&[(&new, false)]), true, START);
    assert_eq!(trusts(&above), [Trusted]);
    let (rows, above) = follow(&before, &seen(&[(&old, true)]), true, START);
    assert!(rows[1].tainted && above.roots.len() == 2, "kept, and doomed");
}

#[test]
fn what_a_server_beside_us_signs_under_stays_and_dooms_nothing_of_ours() {
    let (old, new) = (root(), root());
    let other = AuthorityRow {
        not_after: START.saturating_add(Duration::from_secs(60)),
        ..below(&old, Slot::Active)
    };
    let mut before = journal(
        vec![below(&old, Slot::Old), below(&new, Slot::Active)],
        &[(&old, Trusted), (&new, Trusted)],
    );
    before.others = vec![other];
    for above in [&seen(&[(&new, false)]), &seen(&[(&old, true), (&new, false)])] {
        let (rows, above) = follow(&before, above, true, START);
        assert_eq!(trusts(&above), [Trusted, Trusted]);
        assert!(rows.iter().all(|row| !row.tainted));
    }
    // One that has ended, or signs no more, is in nobody's way.
    let late = START.saturating_add(Duration::from_secs(60));
    let (_, above) = follow(&before, &seen(&[(&new, false)]), true, late);
    assert_eq!(trusts(&above), [Trusted]);
    before.others[0].slot = Slot::Old;
    let (rows, above) = follow(&before, &seen(&[(&old, true), (&new, false)]), true, START);
    assert_eq!(trusts(&above), [Tainted, Trusted]);
    assert!(rows[0].tainted && !rows[1].tainted);
}

#[test]
fn an_authority_under_a_root_that_another_has_stood_under_for_long_need_not_wait() {
    let (old, new) = (root(), root());
    let (then, now) = (START, START.saturating_add(Duration::from_secs(30)));
    let next = |root| AuthorityRow {
        created_at: now,
        ..below(root, Slot::Prepared)
    };
    let mut journal = journal(vec![next(&old)], &[(&old, Trusted), (&new, Trusted)]);
    journal.others = vec![AuthorityRow {
        activated_at: Some(then),
        ..below(&old, Slot::Active)
    }];
    let age = |row: &AuthorityRow| now.since(row.created_at);
    assert!(!journal.must_wait(Kind::X509, age));
    journal.rows = vec![next(&new)];
    assert!(
        journal.must_wait(Kind::X509, age),
        "nobody has stood under this one"
    );
    journal.rows = vec![next(&old)];
    // Others have clocks of their own: what counts is whether they have waited by them.
    journal.others.push(AuthorityRow {
        activated_at: Some(then),
        ..below(&new, Slot::Active)
    });
    journal.others[0].activated_at = None;
    assert!(journal.must_wait(Kind::X509, age), "it does not sign yet");
    journal.others[0].created_at = START.saturating_sub(Duration::from_secs(3600));
    assert!(journal.must_wait(Kind::X509, age), "by whichever clock");
    journal.rows.push(below(&old, Slot::Old));
    assert!(!journal.must_wait(Kind::X509, age), "one of ours has stood there");
    journal.rows[1].created_at = now;
    assert!(journal.must_wait(Kind::X509, age), "not for long enough");
    journal.rows.truncate(1);
    journal.others[0].activated_at = Some(now);
    assert!(!journal.must_wait(Kind::X509, age));
    journal.others[0].tainted = true;
    assert!(
        journal.must_wait(Kind::X509, age),
        "of a doomed one nobody can tell"
    );
    journal.others[0].tainted = false;
    journal.above.roots[0].trust = Tainted;
    assert!(journal.must_wait(Kind::X509, age));
}

#[test]
fn what_stands_under_a_root_that_a_server_beside_us_took_out_is_stranded() {
    let (old, new) = (root(), root());
    let mut journal = journal(
        vec![below(&old, Slot::Active), below(&new, Slot::Prepared)],
        &[(&old, Trusted), (&new, Trusted)],
    );
    let id = journal.rows[0].id.clone();
    assert!(journal.stranded().is_none() && journal.verifies(&id));
    journal.above.roots[0].trust = Tainted;
    assert!(journal.verifies(&id), "what is tainted verifies");
    journal.others = vec![below(&new, Slot::Active)];
    assert!(
        !journal.verifies(&id),
        "but beside others, who have waited, nothing is signed under it"
    );
    journal.others.clear();
    journal.above.roots.remove(0);
    assert!(!journal.verifies(&id));
    let tainted: Vec<_> = journal
        .stranded()
        .unwrap()
        .iter()
        .map(|row| row.tainted)
        .collect();
    assert_eq!(tainted, [true, false]);
}

#[test]
fn what_stands_under_a_root_that_left_without_a_taint_never_signs() {
    let (old, new) = (root(), root());
    let before = journal(
        vec![
            below(&old, Slot::Old),
            below(&new, Slot::Active),
            below(&old, Slot::Prepared),
        ],
        &[(&old, Trusted), (&new, Trusted)],
    );
    let (rows, above) = follow(&before, &seen(&[(&new, false)]), true, START);
    assert_eq!(trusts(&above), [Trusted]);
    let tainted: Vec<bool> = rows.iter().map(|row| row.tainted).collect();
    assert_eq!(tainted, [true, false, true]);
}

#[test]
fn files_drop_a_root_only_when_nothing_of_ours_stands_under_it() {
    let (old, new) = (root(), root());
    let rows = vec![below(&old, Slot::Old), below(&new, Slot::Active)];
    let (_, above) = follow(
        &journal(rows, &[(&old, Trusted)]),
        &seen(&[(&new, false)]),
        false,
        START,
    );
    assert_eq!(trusts(&above), [Trusted, Trusted]);
    let rows = vec![below(&new, Slot::Active)];
    let (_, above) = follow(
        &journal(rows, &[(&old, Trusted)]),
        &seen(&[(&new, false)]),
        false,
        START,
    );
    assert_eq!(above.roots[0].certificate, new);
    assert_eq!(above.roots.len(), 1);
}

#[test]
fn what_was_tainted_or_revoked_here_stays_so_while_it_is_named() {
    let (old, new) = (root(), root());
    for trust in [Tainted, Revoked] {
        for complete in [true, false] {
            let before = journal(vec![below(&new, Slot::Active)], &[(&old, trust), (&new, Trusted)]);
            let (_, above) = follow(&before, &seen(&[(&old, false), (&new, false)]), complete, START);
            assert_eq!(trusts(&above), [trust, Trusted]);
            assert!(above.shuns(&root_id(&old)) && !above.shuns(&root_id(&new)));
            assert_eq!(above.x509().count(), if trust == Revoked { 1 } else { 2 });
        }
    }
}

#[test]
fn a_jwt_key_that_was_revoked_here_does_not_come_back() {
    let neighbour = |key_id: &str| JwtAuthority {
        key_id: key_id.to_owned(),
        public_key: key(),
        expires_at: Some(START.saturating_add(Duration::from_secs(60))),
        tainted: false,
    };
    let old = root();
    let mut before = journal(vec![below(&old, Slot::Active)], &[(&old, Trusted)]);
    let mut now = seen(&[(&old, false)]);
    now.jwt = vec![neighbour("ours"), neighbour("theirs")];
    let mut ours = below(&old, Slot::Old);
    (ours.id, ours.not_after) = ("ours".to_owned(), START.saturating_add(Duration::from_secs(60)));
    before.above.revoke_jwt(&ours);
    let (_, above) = follow(&before, &now, true, START);
    before.above = above;
    let ids = |journal: &Journal| -> Vec<String> {
        let bundle = journal.bundle(&td()).unwrap();
        bundle
            .jwt_authorities()
            .iter()
            .map(|key| key.key_id.clone())
            .collect()
    };
    assert_eq!(ids(&before), ["theirs"]);
    // It may only be on its way there: remembered until it has expired.
    now.jwt.remove(0);
    let (_, above) = follow(&before, &now, true, START);
    assert_eq!(above.jwt.len(), 2);
    let (_, above) = follow(&before, &now, true, START.saturating_add(Duration::from_secs(61)));
    assert_eq!(above.jwt.len(), 1);
}
