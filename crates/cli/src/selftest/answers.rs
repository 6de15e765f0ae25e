//! What an answer says. Invariant: refused is only what was refused for what is wrong about it; a server that is busy, broken or away has refused
//! nothing.

use tonic::{Code, Status};

use super::{Came, Tried};

/// For who somebody is, or what he may.
pub(super) const BY_RIGHT: &[Code] = &[Code::Unauthenticated, Code::PermissionDenied];

pub(super) fn is_by(codes: &[Code], status: &Status) -> bool {
    codes.contains(&status.code())
}

/// `refusals`: the answers that mean that it is not let through for what is wrong about it.
pub(super) fn judged(
    name: &'static str,
    what: &'static str,
    refusals: &[Code],
    outcome: Result<(), Status>,
) -> Tried {
    let came = match outcome {
        Ok(()) => Came::LetThrough("it was answered as if it might".to_owned()),
        Err(status) if is_by(refusals, &status) => Came::Refused(status.message().to_owned()),
        Err(status) => Came::NotTried(format!("no refusal: {}", said(&status))),
    };
    Tried { name, what, came }
}

fn said(status: &Status) -> String {
    match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_let_through_and_only_the_answer_to_what_is_wrong_is_a_refusal() {
        let came = |refusals, outcome| judged("x", "x", refusals, outcome).came;
        assert!(matches!(came(BY_RIGHT, Ok(())), Came::LetThrough(_)));
        let of = |code| Err(Status::new(code, ""));
        for code in (0..17).map(Code::from_i32).filter(|code| *code != Code::Ok) {
            let by_right = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
            let refused = |came| matches!(came, Came::Refused(_));
            assert_eq!(refused(came(BY_RIGHT, of(code))), by_right, "{code:?}");
            let spent = code == Code::InvalidArgument;
            let used = came(&[Code::InvalidArgument], of(code));
            assert_eq!(matches!(used, Came::NotTried(_)), !spent, "{code:?}");
        }
    }
}
