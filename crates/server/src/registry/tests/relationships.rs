//! When a published bundle takes the place of the stored one.

use std::time::Duration;

use landfast_identity::Bundle;

use crate::core::fixture::foreign;
use crate::registry::{RegistryError, check_newer};

#[tokio::test]
async fn a_sequence_never_goes_back_and_names_one_content() {
    let (one, other) = (foreign("site.example").await, foreign("site.example").await);
    let of = |bundle: &Bundle, sequence: u64| bundle.clone().with_sequence(sequence);
    let older = |outcome| matches!(outcome, Err(RegistryError::OlderBundle { .. }));
    for stored in [1, 5, u64::MAX] {
        assert!(older(check_newer(&of(&one, stored), &of(&one, stored - 1))));
        assert!(older(check_newer(&of(&one, stored), &of(&other, 0))));
        assert!(matches!(
            check_newer(&of(&one, stored), &of(&other, stored)),
            Err(RegistryError::OtherBundle { .. })
        ));
        assert!(matches!(
            check_newer(&of(&one, stored), &of(&one, stored)),
            Ok(false)
        ));
    }
    assert!(matches!(check_newer(&of(&one, 5), &of(&one, 6)), Ok(true)));
    assert!(matches!(check_newer(&of(&one, 5), &of(&other, 6)), Ok(true)));
    // Without numbers the last one counts.
    assert!(matches!(check_newer(&of(&one, 0), &of(&other, 0)), Ok(true)));
    assert!(matches!(check_newer(&of(&one, 0), &of(&one, 0)), Ok(false)));
}

#[tokio::test]
async fn what_a_document_cannot_say_makes_no_difference() {
    let (stored, second) = (
        foreign("site.example").await.with_sequence(5),
        foreign("site.example").await,
    );
    let mut both: Vec<_> = stored.x509_authorities().to_vec();
    both.extend_from_slice(second.x509_authorities());
    let stored = stored.with_x509_authorities(both.clone()).unwrap();
    both.reverse();
    both[0].tainted = true;
    let mut tokens = stored.jwt_authorities().to_vec();
    tokens[0].expires_at = None;
    let published = Bundle::new(stored.trust_domain().clone())
        .with_x509_authorities(both)
        .and_then(|bundle| bundle.with_jwt_authorities(tokens))
        .unwrap()
        .with_sequence(5)
        .with_refresh_hint(stored.refresh_hint());
    assert!(matches!(check_newer(&stored, &published), Ok(false)));
    let hinted = published.with_refresh_hint(Some(Duration::from_secs(77)));
    assert!(matches!(check_newer(&stored, &hinted), Ok(true)));
}
