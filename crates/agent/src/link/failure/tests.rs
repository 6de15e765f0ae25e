//! What each refusal is taken for.

use super::*;

fn denied(reason: i32) -> LinkError {
    let details = denied_details(reason).into();
    LinkError::from_status(
        "m",
        &tonic::Status::with_details(tonic::Code::PermissionDenied, "no", details),
    )
}

#[test]
fn each_reason_of_a_denial_has_its_disposition() {
    let named: Vec<_> = (0..=6)
        .map(|reason| (denied(reason).denial(), denied(reason).disposition()))
        .collect();
    assert_eq!(named[0], (None, Disposition::Retain));
    assert_eq!(named[1], (Some(Denial::Expired), Disposition::Reattest));
    assert_eq!(named[2], (Some(Denial::NotAttested), Disposition::Reattest));
    assert_eq!(named[3], (Some(Denial::NotActive), Disposition::Reattest));
    assert_eq!(named[4], (Some(Denial::Banned), Disposition::Fatal));
    assert_eq!(named[5], (Some(Denial::MustReattest), Disposition::Reattest));
    assert_eq!(named[6], (None, Disposition::Retain));
}

#[test]
fn a_ban_counts_only_with_permission_denied() {
    let status = tonic::Status::with_details(tonic::Code::Unavailable, "", denied_details(4).into());
    assert_eq!(LinkError::from_status("m", &status).denial(), None);
    assert_eq!(
        LinkError::from_status("m", &status).disposition(),
        Disposition::Retry
    );
}

#[test]
fn a_busy_server_is_no_bad_server_and_only_sense_is_taken_from_it() {
    let refused = |code, text: &str| {
        let mut status = tonic::Status::new(code, "busy");
        status.metadata_mut().insert(PUSHBACK, text.parse().unwrap());
        LinkError::from_status("m", &status)
    };
    for code in [tonic::Code::Unavailable, tonic::Code::ResourceExhausted] {
        let busy = refused(code, "1500");
        assert_eq!(busy.pushback(), Some(Duration::from_millis(1500)));
        assert!(busy.server_answered() && !busy.another_server_may_help() && !busy.connection_broke());
        assert_eq!(refused(code, "99999999999").pushback(), Some(FARTHEST));
        // A6: "do not ask again" is a plain refusal to us, whom the back-off waits for.
        for nonsense in ["-1", "", "soon", "99999999999999999999"] {
            let plain = refused(code, nonsense);
            assert!(plain.pushback().is_none() && plain.another_server_may_help());
        }
    }
    assert_eq!(refused(tonic::Code::PermissionDenied, "1500").pushback(), None);
}

#[test]
fn whatever_ends_a_subscription_is_no_trouble_unless_it_is_about_the_node() {
    let refused = |code| LinkError::from_status("m", &tonic::Status::new(code, "no"));
    for code in [
        // The server's words for a slow agent.
        tonic::Code::Aborted,
        tonic::Code::Unavailable,
        tonic::Code::ResourceExhausted,
        tonic::Code::Internal,
    ] {
        assert!(refused(code).only_ends_a_subscription(), "{code:?}");
    }
    assert!(LinkError::Unsubscribed.only_ends_a_subscription());
    for about_the_node in [
        denied(2),
        denied(4),
        refused(tonic::Code::PermissionDenied),
        LinkError::Told(Denial::Banned),
        LinkError::Told(Denial::MustReattest),
    ] {
        assert!(!about_the_node.only_ends_a_subscription(), "{about_the_node}");
    }
}

#[test]
fn words_of_denial_without_the_detail_decide_nothing() {
    let status = tonic::Status::permission_denied("failed to attest: agent is banned");
    assert_eq!(
        LinkError::from_status("m", &status).disposition(),
        Disposition::Retain
    );
}

#[test]
fn a_hostile_message_reaches_the_log_as_one_short_line() {
    let status = tonic::Status::internal(format!("a\nb\u{1b}[2J{}", "x".repeat(5000)));
    let text = LinkError::from_status("m", &status).to_string();
    assert!(text.len() < 400 && !text.contains(['\n', '\u{1b}']), "{text}");
}
