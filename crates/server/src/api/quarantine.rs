//! `landfast.quarantine.v1.Quarantine`.

use landfast_daemon::error_chain;
use landfast_proto::landfast::entry::v1 as entry_pb;
use landfast_proto::landfast::quarantine::v1::{self as pb, quarantine_server::Quarantine};
use tonic::{Request, Response, Status};

use super::Api;
use super::status::internal;
use crate::authz::Caller;
use crate::ledger;
use crate::quarantine::state::{Cause, Ended, Finding};
use crate::quarantine::{End, EndError, Report};

#[tonic::async_trait]
impl Quarantine for Api {
    async fn get_quarantine(
        &self,
        _: Request<pb::GetQuarantineRequest>,
    ) -> Result<Response<pb::GetQuarantineResponse>, Status> {
        let report = self.quarantine.report(&self.registry, &self.authorities.bundle());
        let caution = self.caution(&report);
        Ok(Response::new(report_out(report, caution)))
    }

    async fn end_quarantine(
        &self,
        request: Request<pb::EndQuarantineRequest>,
    ) -> Result<Response<pb::EndQuarantineResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let by = who.to_string();
        let request = request.into_inner();
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(Status::invalid_argument(format!(
                "a reason is needed, of at most {MAX_REASON} bytes in one line"
            )));
        }
        let order = End {
            by: &by,
            reason,
            accept_rollback: request.accept_rollback,
        };
        let report = self.quarantine.report(&self.registry, &self.authorities.bundle());
        let caution = self.caution(&report);
        let ended = self
            .quarantine
            .end(&order, &self.registry, &self.authorities)
            .await;
        match ended {
            Ok(came_back) => {
                let ended = ledger::changed("quarantine.ended").because(order.reason);
                self.did(&who, ended.with("came_back", came_back as u64)).await;
                if !caution.is_empty() {
                    tracing::warn!(caution, "the quarantine has ended all the same");
                }
                Ok(Response::new(pb::EndQuarantineResponse {
                    came_back: came_back as u64,
                    caution: caution.to_owned(),
                }))
            }
            Err(error @ EndError::None) => Err(Status::failed_precondition(error.to_string())),
            Err(error @ (EndError::ComesBack { .. } | EndError::NotKnown)) => {
                let also = if caution.is_empty() { "" } else { "; and: " };
                Err(Status::failed_precondition(format!("{error}{also}{caution}")))
            }
            Err(error @ EndError::NoClock) => Err(Status::unavailable(error.to_string())),
            Err(EndError::Epoch(source)) => Err(super::status::registry(&source.into())),
            Err(EndError::Authorities(source)) => Err(super::status::authority(&source)),
            Err(error @ EndError::Store(_)) => Err(internal(&error_chain(&error))),
        }
    }
}

impl Api {
    /// Empty when there is nothing to look at.
    fn caution(&self, report: &Report) -> &'static str {
        let caution = report.caution().filter(|_| self.chain.signs());
        caution.unwrap_or_default()
    }
}

fn report_out(report: Report, caution: &str) -> pb::GetQuarantineResponse {
    let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
    pb::GetQuarantineResponse {
        complete: report.complete,
        nodes: count(report.nodes),
        nodes_heard: count(report.nodes_heard),
        nodes_shown: count(report.nodes_shown),
        caution: caution.to_owned(),
        newest: report.newest.map(|newest| entry_pb::Revision {
            epoch: newest.epoch,
            number: newest.number,
        }),
        causes: report.causes.into_iter().map(cause_out).collect(),
        findings: report.findings.into_iter().map(finding_out).collect(),
        ended: report.ended.into_iter().map(ended_out).collect(),
    }
}

fn cause_out(cause: Cause) -> pb::Cause {
    pb::Cause {
        kind: cause.kind.as_str().to_owned(),
        since: cause.since,
        detail: cause.detail,
        backup_made_at: cause.backup_made_at.unwrap_or(0),
    }
}

fn finding_out(finding: Finding) -> pb::Finding {
    pb::Finding {
        comes_back: finding.kind.comes_back(),
        kind: finding.kind.as_str().to_owned(),
        object: finding.object,
        detail: finding.detail,
    }
}

fn ended_out(ended: Ended) -> pb::Ended {
    pb::Ended {
        since: ended.since,
        ended: ended.ended,
        by: ended.by,
        reason: ended.reason,
        came_back: ended.came_back,
    }
}

const MAX_REASON: usize = 512;
