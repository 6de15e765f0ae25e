//! Orders that are refused, in the words of SPIRE.

use super::*;
use tonic::Code;

#[test]
fn orders_are_refused_in_the_words_of_spires_server() {
    let taint = Order::Taint(Kind::X509, "a".to_owned());
    let revoke = |kind| Order::Revoke(kind, "a".to_owned());
    let activate = Order::Activate(Kind::Jwt, "a".to_owned());
    for (order, error, about, code, text) in [
        (
            &taint,
            OrderError::Active,
            "",
            Code::InvalidArgument,
            "unable to taint current local authority",
        ),
        (
            &revoke(Kind::X509),
            OrderError::NotTainted,
            REVOKE_X509,
            Code::FailedPrecondition,
            "failed to revoke X.509 authority: it is not possible to revoke an untainted root CA",
        ),
        (
            &revoke(Kind::Jwt),
            OrderError::NotTainted,
            REVOKE_JWT,
            Code::FailedPrecondition,
            "failed to revoke JWT authority: it is not possible to revoke an untainted key",
        ),
        (
            &revoke(Kind::Jwt),
            OrderError::Active,
            REVOKE_JWT,
            Code::InvalidArgument,
            "invalid authority ID: unable to use current authority",
        ),
        (
            &taint,
            OrderError::Upstream { verb: "tainted" },
            "",
            Code::FailedPrecondition,
            "local authority can't be tainted if there is an upstream authority",
        ),
        (
            &revoke(Kind::X509),
            OrderError::Upstream { verb: "revoked" },
            REVOKE_X509,
            Code::FailedPrecondition,
            "local authority can't be revoked if there is an upstream authority",
        ),
        (
            &activate,
            OrderError::NotPrepared { slot: Slot::Active },
            "",
            Code::InvalidArgument,
            "unexpected authority ID",
        ),
        (
            &activate,
            OrderError::NotPrepared { slot: Slot::Old },
            "",
            Code::FailedPrecondition,
            "only Prepared authorities can be activated: unsupported local authority status: OLD",
        ),
    ] {
        let status = refused(order, error, about);
        assert_eq!((status.code(), status.message()), (code, text));
    }
}
