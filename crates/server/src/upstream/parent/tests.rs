//! Which answers end a connection.

use super::*;

#[test]
fn a_refusal_leaves_the_connection_and_what_another_may_mend_does_not() {
    for code in [
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::AlreadyExists,
        Code::ResourceExhausted,
        Code::Internal,
    ] {
        assert!(!breaks(&Status::new(code, "no")), "{code:?}");
        let (method, message) = ("PublishJWTAuthority", String::new());
        let refused = ParentError::Refused {
            method,
            code,
            message,
        };
        assert!(refused.is_an_answer(), "{code:?}");
    }
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Unauthenticated,
        Code::PermissionDenied,
    ] {
        assert!(breaks(&Status::new(code, "no")), "{code:?}");
    }
    let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert!(breaks(&Status::from_error(Box::new(broken))));
    assert!(!ParentError::NoCertificate.is_an_answer());
}
