//! `landfast.selftest.v1.SelfTest`. Invariant: it records what an operator says was found, as the operator's; nothing is tried here.

use landfast_audit::{Category, Decision, Outcome, Record};
use landfast_proto::landfast::selftest::v1::{self as pb, self_test_server::SelfTest};
use tonic::{Request, Response, Status};

use super::Api;
use crate::authz::Caller;
use crate::ledger;

#[tonic::async_trait]
impl SelfTest for Api {
    async fn report(
        &self,
        request: Request<pb::ReportRequest>,
    ) -> Result<Response<pb::ReportResponse>, Status> {
        let by = Caller::of(&request)?.requester.clone();
        let tries = request.into_inner().tries;
        if tries.is_empty() || tries.len() > MOST_TRIES {
            return Err(Status::invalid_argument(format!("1 to {MOST_TRIES} tries")));
        }
        let count = |outcome| tries.iter().filter(|tried| tried.outcome() == outcome).count() as u64;
        let (through, untried) = (count(pb::Outcome::LetThrough), count(pb::Outcome::NotTried));
        let mut records = tries.iter().map(tried).collect::<Result<Vec<_>, _>>()?;
        let done = Record {
            result: match through + untried {
                0 => Outcome::Done,
                _ => Outcome::Failed,
            },
            ..Record::new(Category::System, "selftest.done", ledger::actor(&by))
        };
        let done = done
            .with("let_through", through)
            .with("not_tried", untried)
            .with("tries", tries.len() as u64);
        records.push(done);
        let now = self.clock.now();
        let of_the_operator = |record| Record {
            actor: ledger::actor(&by),
            ..ledger::at(now, record)
        };
        let records = records.into_iter().map(of_the_operator).collect();
        let recorded = self.ledger.append(records).await;
        recorded.map_err(|error| Status::unavailable(error.to_string()))?;
        if through > 0 {
            tracing::error!(through, %by, "a self-test was let through where it must be refused: landfast audit search --type selftest");
        }
        Ok(Response::new(pb::ReportResponse {}))
    }
}

fn tried(tried: &pb::Try) -> Result<Record, Status> {
    let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=40).contains(&tried.name.len()) && tried.name.bytes().all(is_of_it);
    let is_detail = tried.detail.len() <= MOST_DETAIL && !tried.detail.chars().any(char::is_control);
    let (decision, result) = match tried.outcome() {
        pb::Outcome::Refused => (Decision::Deny, Outcome::Done),
        pb::Outcome::LetThrough => (Decision::Allow, Outcome::Failed),
        pb::Outcome::NotTried => (Decision::None, Outcome::Failed),
        pb::Outcome::Unspecified => return Err(Status::invalid_argument("a try without an outcome")),
    };
    if !is_name || !is_detail {
        return Err(Status::invalid_argument(format!(
            "a try has a name of small letters, digits and dashes, and a detail of at most {MOST_DETAIL} bytes on one line"
        )));
    }
    let record = Record {
        decision,
        result,
        reason: Some(tried.detail.clone()).filter(|detail| !detail.is_empty()),
        ..ledger::changed("selftest.tried")
    };
    let record = Record {
        category: Category::System,
        ..record
    };
    Ok(record.with("name", tried.name.clone()))
}

const MOST_TRIES: usize = 32;
const MOST_DETAIL: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn a_try(name: &str, outcome: pb::Outcome, detail: &str) -> pb::Try {
        pb::Try {
            name: name.to_owned(),
            outcome: outcome.into(),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn what_is_recorded_has_a_name_an_outcome_and_one_line() {
        let refused = tried(&a_try("expired-svid", pb::Outcome::Refused, "alert: expired")).unwrap();
        assert_eq!(
            (refused.decision, refused.result),
            (Decision::Deny, Outcome::Done)
        );
        let through = tried(&a_try("expired-svid", pb::Outcome::LetThrough, "")).unwrap();
        assert_eq!(
            (through.decision, through.result),
            (Decision::Allow, Outcome::Failed)
        );
        for bad in [
            a_try("", pb::Outcome::Refused, ""),
            a_try("A b", pb::Outcome::Refused, ""),
            a_try("a", pb::Outcome::Unspecified, ""),
            a_try("a", pb::Outcome::Refused, "two\nlines"),
            a_try("a", pb::Outcome::Refused, &"x".repeat(201)),
        ] {
            assert!(tried(&bad).is_err(), "{bad:?}");
        }
    }
}
